//! A journey: the requests of one user in their order, each with what the answers before it held.
//! The first step that fails names itself. Every other journey is a newcomer's, over new connections;
//! the others are of users who kept theirs.

use hyper::header::SET_COOKIE;
use scenarios::asks::{Capture, Expectation, Journey, JourneyStep, Trust};
use scenarios::fleet::HttpRequest;
use serde_json::Value;

use crate::askers::{Asks, Call, Here};
use crate::expect::{self, Values};
use crate::http::{Connections, Question, Reply};
use crate::kinds::ProbeError;
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::request;
use crate::target::Target;

pub(crate) struct JourneyAsker {
    steps: Vec<Step>,
    /// One for each way of speaking to a server; steps that speak alike share their connections.
    connections: Vec<Connections>,
}

struct Step {
    name: String,
    http: HttpRequest,
    captures: Vec<(String, Capture)>,
    /// Index into `connections`.
    way: usize,
    whom: String,
}

impl Asks for JourneyAsker {
    type Question = Journey;

    fn new(journey: &Journey, here: &Here<'_>) -> Result<Self, ProbeError> {
        let mut ways: Vec<(Option<Trust>, String)> = Vec::new();
        let mut asker = Self {
            steps: Vec::new(),
            connections: Vec::new(),
        };
        let mut values = given("check");
        for step in &journey.steps {
            let http = request::filled(&step.http, &here.values());
            let wrong = |why: String| {
                here.wrong(format!(
                    "step {}: cannot probe {}: {why}",
                    step.name, http.url
                ))
            };
            let (question, _) = question(&http, &values).map_err(wrong)?;
            let address = question.target.address;
            let trust = question.target.secret.then(|| http.trust.clone());
            // A certificate without a declared name is checked for the address.
            let alike = (trust.clone(), address.to_string());
            let way = match ways.iter().position(|way| *way == alike) {
                Some(way) => way,
                None => {
                    let secure = trust.map(|trust| here.secure(&trust, address, "http/1.1"));
                    asker
                        .connections
                        .push(Connections::new(secure.transpose()?));
                    ways.push(alike);
                    ways.len() - 1
                }
            };
            // What it will be is not known yet; that it may stand there is what is tried.
            values.extend(
                step.captures
                    .keys()
                    .map(|name| (name.clone(), "x".to_owned())),
            );
            asker
                .steps
                .push(Step::new(step, http, way, address.to_string()));
        }
        Ok(asker)
    }

    async fn ask(&self, call: &Call<'_>) -> Result<(), Outcome> {
        let newcomer: Vec<Connections> = match call.fresh {
            true => self
                .connections
                .iter()
                .map(Connections::of_a_newcomer)
                .collect(),
            false => Vec::new(),
        };
        let connections = if call.fresh {
            &newcomer
        } else {
            &self.connections
        };
        let mut values = given(call.id);
        for (part, step) in self.steps.iter().enumerate() {
            call.progress.begin(part);
            let taken = step.take(&values, &connections[step.way], call).await;
            values.extend(taken.map_err(|outcome| outcome.in_step(&step.name))?);
        }
        Ok(())
    }

    fn stage(&self, progress: &Progress) -> String {
        let (name, whom) = match self.steps.get(progress.part()) {
            Some(step) => (step.name.as_str(), step.whom.as_str()),
            None => ("?", "?"),
        };
        format!("step {name}: {whom}: {}", progress.text())
    }
}

impl Step {
    fn new(step: &JourneyStep, http: HttpRequest, way: usize, whom: String) -> Self {
        let captures = step.captures.clone().into_iter().collect();
        let name = step.name.clone();
        Self {
            name,
            http,
            captures,
            way,
            whom,
        }
    }

    /// Asks, judges, and takes what the steps behind it need.
    async fn take(
        &self,
        values: &Values,
        connections: &Connections,
        call: &Call<'_>,
    ) -> Result<Values, Outcome> {
        let (question, expect) = question(&self.http, values).map_err(Outcome::Error)?;
        let reply = connections.ask(&question, false, call.progress).await?;
        expect::judge(&expect, &reply)?;
        let taken = self.captures.iter().map(|(name, capture)| {
            let value = captured(capture, &reply).map_err(|why| {
                let body = expect::quoted(&reply.body);
                Outcome::Error(format!(
                    "status {}, no {{{name}}}: {why}: {body}",
                    reply.status
                ))
            })?;
            Ok((name.clone(), value))
        });
        taken.collect()
    }
}

fn given(id: &str) -> Values {
    vec![("id".to_owned(), id.to_owned())]
}

fn question(http: &HttpRequest, values: &Values) -> Result<(Question, Expectation), String> {
    let name = http.trust.name.as_deref();
    request::question(http, values, |url| Target::parse_named(url, name))
}

fn captured(capture: &Capture, reply: &Reply) -> Result<String, String> {
    match capture {
        Capture::Json(path) => {
            let json = expect::json(reply).ok_or("the body is no JSON")?;
            match path.find(&json)?.first() {
                Some(Value::String(text)) => Ok(text.clone()),
                Some(Value::Number(number)) => Ok(number.to_string()),
                Some(Value::Bool(bool)) => Ok(bool.to_string()),
                Some(_) => Err(format!("{} is neither a text nor a number", path.text())),
                None => Err(format!("there is no {}", path.text())),
            }
        }
        Capture::Header(name) => {
            let value = reply
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok());
            value
                .map(str::to_owned)
                .ok_or_else(|| format!("there is no header {name}"))
        }
        Capture::Cookie(name) => {
            let set = reply.headers.get_all(SET_COOKIE).iter();
            let mut pairs = set.filter_map(|value| value.to_str().ok()?.split(';').next());
            let found = pairs.find_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                (key.trim() == name).then(|| value.trim().to_owned())
            });
            found.ok_or_else(|| format!("no cookie {name} is set"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::HeaderMap;
    use scenarios::asks::JsonPath;

    #[test]
    fn captures_take_what_is_there_and_say_what_is_not() {
        let mut headers = HeaderMap::new();
        headers.insert("location", "/orders/7".parse().unwrap());
        headers.append(SET_COOKIE, "a=1; Path=/".parse().unwrap());
        headers.append(SET_COOKIE, "sid=x=y; HttpOnly".parse().unwrap());
        let body = r#"{"n":7,"t":"x","l":[]}"#.into();
        let reply = Reply {
            status: 200,
            headers,
            body,
        };
        let take = |capture| captured(&capture, &reply);
        let json = |path| take(Capture::Json(JsonPath::new(path).unwrap()));
        assert_eq!(json("$.n"), Ok("7".to_owned()));
        assert_eq!(json("$.t"), Ok("x".to_owned()));
        assert!(json("$.l").unwrap_err().contains("neither"));
        assert!(json("$.gone").unwrap_err().contains("there is no $.gone"));
        assert_eq!(
            take(Capture::Header("location".to_owned())),
            Ok("/orders/7".to_owned())
        );
        assert!(take(Capture::Header("etag".to_owned())).is_err());
        assert_eq!(
            take(Capture::Cookie("sid".to_owned())),
            Ok("x=y".to_owned())
        );
        assert!(take(Capture::Cookie("si".to_owned())).is_err());
    }
}
