//! What the answer to an HTTP request must be.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use crate::asks::json::{JsonCheck, JsonSpec, JsonWanted};
use crate::asks::{At, http};
use crate::input::InputError;

/// All of it must hold. Texts may hold placeholders.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    pub statuses: Statuses,
    /// The body contains this text.
    pub body: Option<String>,
    /// For each name there is such a header that contains the text; names in lower case.
    pub headers: BTreeMap<String, String>,
    pub json: Vec<JsonCheck>,
}

impl Default for Expectation {
    fn default() -> Self {
        Self::status(200)
    }
}

impl Expectation {
    /// Nothing but a status.
    pub fn status(status: u16) -> Self {
        Self {
            statuses: Statuses(vec![(status, status)]),
            body: None,
            headers: BTreeMap::new(),
            json: Vec::new(),
        }
    }
}

/// HTTP statuses, as inclusive ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(pub Vec<(u16, u16)>);

impl Statuses {
    pub fn hold(&self, status: u16) -> bool {
        self.0
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |(first, last): &(u16, u16)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        f.write_str(&self.0.iter().map(range).collect::<Vec<_>>().join(", "))
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectSpec {
    /// One, a range such as "200-299", or a list of these; default 200.
    status: Option<Statuses>,
    /// The body contains this text.
    body: Option<String>,
    /// Headers of the answer: such a header is there and contains the text.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// What must be so in a JSON answer.
    #[serde(default)]
    json: Vec<JsonSpec>,
}

impl Expectation {
    pub(super) fn read(spec: ExpectSpec, known: &[&str], at: &At<'_>) -> Result<Self, InputError> {
        let statuses = spec.status.unwrap_or(Statuses(vec![(200, 200)]));
        check_statuses(&statuses, &at.below("status"))?;
        if spec.body.as_deref() == Some("") {
            let message = "every body contains the empty text";
            return Err(at.below("body").wrong(message));
        }
        let headers = http::headers(spec.headers, known, &at.below("headers"))?;
        let mut json = Vec::new();
        for (index, check) in spec.json.into_iter().enumerate() {
            let at = at.below("json").item(index);
            let check = JsonCheck::read(check, &at)?;
            if let JsonWanted::Equals(serde_json::Value::String(text)) = &check.wanted {
                at.below("equals").placeholders(text, known)?;
            }
            json.push(check);
        }
        Ok(Self {
            statuses,
            body: spec.body,
            headers,
            json,
        })
    }
}

fn check_statuses(statuses: &Statuses, at: &At<'_>) -> Result<(), InputError> {
    if statuses.0.is_empty() {
        return Err(at.wrong("no status would ever be right"));
    }
    for (first, last) in &statuses.0 {
        for status in [first, last] {
            if !(100..=599).contains(status) {
                return Err(at.wrong(format!("{status} is not an HTTP status (100 to 599)")));
            }
        }
        if first > last {
            return Err(at.wrong(format!("the range {first}-{last} is empty")));
        }
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Statuses;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a status such as 200, a range such as 200-299, or a list of these")
            }
            fn visit_u64<E: de::Error>(self, status: u64) -> Result<Statuses, E> {
                // What fits no u16 is no status; the check tells it with its place.
                let status = u16::try_from(status).unwrap_or(u16::MAX);
                Ok(Statuses(vec![(status, status)]))
            }
            fn visit_i64<E: de::Error>(self, status: i64) -> Result<Statuses, E> {
                self.visit_u64(u64::try_from(status).unwrap_or(0))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Statuses, E> {
                let wrong = || {
                    E::custom(format!(
                        "`{text}` is not a status; write for instance 200 or 200-299"
                    ))
                };
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                let number = |text: &str| match text.len() {
                    3 => text.parse::<u16>().map_err(|_| wrong()),
                    _ => Err(wrong()),
                };
                Ok(Statuses(vec![(number(first)?, number(last)?)]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Statuses, A::Error> {
                let mut all = Vec::new();
                while let Some(Statuses(more)) = list.next_element()? {
                    all.extend(more);
                }
                Ok(Statuses(all))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl JsonSchema for Statuses {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let number = serde_json::json!({ "type": "integer", "minimum": 100, "maximum": 599 });
        let range =
            serde_json::json!({ "type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$" });
        let items = serde_json::json!({ "anyOf": [number, range] });
        json_schema!({
            "anyOf": [number, range, { "type": "array", "minItems": 1, "items": items }],
        })
    }
}
