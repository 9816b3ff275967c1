//! A journey: several HTTP requests of one user, each with what the ones before it were told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::asks::http::UrlHost;
use crate::asks::{At, COSTLY_RATE, HttpRequest, HttpSpec, JsonPath, Question};
use crate::input::InputError;
use crate::values::{Name, Text};

/// More steps than any user takes at once.
const MOST_STEPS: usize = 20;
/// What variables may not be called.
const TAKEN: [&str; 3] = ["id", "cell", "address"];

/// Good if every step is, in this order; one probe, with one timeout for the whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Journey {
    pub steps: Vec<JourneyStep>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct JourneyStep {
    pub name: String,
    /// May hold the variables of the steps before it. `{id}` is the same in all steps.
    pub http: HttpRequest,
    /// By the name of the variable.
    pub captures: BTreeMap<String, Capture>,
}

/// Where in an answer a variable is taken from.
#[derive(Clone, Debug, PartialEq)]
pub enum Capture {
    /// The first text, number, true or false that the path leads to.
    Json(JsonPath),
    /// The value of a header; its name in lower case.
    Header(String),
    /// The value of a cookie that is set.
    Cookie(String),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JourneySpec {
    /// In this order; the first that fails names itself.
    steps: Vec<StepSpec>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StepSpec {
    name: Text<Name>,
    http: HttpSpec,
    /// Variables for the steps behind this one, which write `{NAME}`.
    #[serde(default)]
    capture: BTreeMap<Text<Name>, CaptureSpec>,
}

/// Where in the answer the variable is taken from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum CaptureSpec {
    /// The first text, number, true or false that this path leads to.
    Json(Text<JsonPath>),
    /// The value of this header.
    Header(String),
    /// The value of this cookie, as the answer sets it.
    Cookie(String),
}

impl Question for Journey {
    type Spec = JourneySpec;
    const RATE: f64 = COSTLY_RATE;

    fn read(spec: JourneySpec, at: &At<'_>) -> Result<Self, InputError> {
        let at = at.below("steps");
        if !(1..=MOST_STEPS).contains(&spec.steps.len()) {
            let message = format!(
                "a journey has 1 to {MOST_STEPS} steps, not {}",
                spec.steps.len()
            );
            return Err(at.wrong_key(message));
        }
        let mut steps: Vec<JourneyStep> = Vec::new();
        for (index, step) in spec.steps.into_iter().enumerate() {
            let at = at.item(index);
            let name = step.name.0.0;
            if steps.iter().any(|other| other.name == name) {
                let message = format!("two steps are called `{name}`");
                return Err(at.below("name").wrong(message));
            }
            let before = steps.iter().flat_map(|step| step.captures.keys());
            let known: Vec<&str> = before.map(String::as_str).chain(["id"]).collect();
            let http = HttpRequest::checked(step.http, UrlHost::Cell, &known, &at.below("http"))?;
            let captures = captures(step.capture, &at.below("capture"))?;
            steps.push(JourneyStep {
                name,
                http,
                captures,
            });
        }
        Ok(Self { steps })
    }

    fn requests(&self) -> usize {
        self.steps.len()
    }

    fn files(&mut self) -> Vec<&mut PathBuf> {
        let trusts = self.steps.iter_mut().map(|step| &mut step.http.trust);
        trusts.filter_map(|trust| trust.file()).collect()
    }
}

fn captures(
    spec: BTreeMap<Text<Name>, CaptureSpec>,
    at: &At<'_>,
) -> Result<BTreeMap<String, Capture>, InputError> {
    let mut captures = BTreeMap::new();
    for (Text(Name(name)), spec) in spec {
        let at = at.below(&name);
        if TAKEN.contains(&name.as_str()) {
            let message = format!("{{{name}}} already stands for something else");
            return Err(at.wrong_key(message));
        }
        let named = |name: String| match name.is_empty() {
            true => Err(at.wrong("it is empty")),
            false => Ok(name),
        };
        let capture = match spec {
            CaptureSpec::Json(path) => Capture::Json(path.0),
            CaptureSpec::Header(name) => Capture::Header(named(name)?.to_ascii_lowercase()),
            CaptureSpec::Cookie(name) => Capture::Cookie(named(name)?),
        };
        captures.insert(name, capture);
    }
    Ok(captures)
}
