//! Whether an HTTP answer is what was wanted, and if not, what was seen instead.

use std::collections::BTreeMap;

use scenarios::asks::{Expectation, JsonCheck, JsonWanted, fill};
use serde_json::Value;

use crate::http::{QUOTED, Reply};
use crate::outcome::Outcome;

/// What placeholders stand for.
pub type Values = Vec<(String, String)>;

/// The expectation with what its placeholders stand for so far.
pub fn filled(expect: &Expectation, values: &Values) -> Expectation {
    let check = |check: &JsonCheck| JsonCheck {
        path: check.path.clone(),
        wanted: match &check.wanted {
            JsonWanted::Equals(Value::String(text)) => {
                JsonWanted::Equals(Value::String(fill(text, values)))
            }
            wanted => wanted.clone(),
        },
    };
    Expectation {
        statuses: expect.statuses.clone(),
        body: expect.body.as_ref().map(|text| fill(text, values)),
        headers: filled_headers(&expect.headers, values),
        json: expect.json.iter().map(check).collect(),
    }
}

pub fn filled_headers(
    headers: &BTreeMap<String, String>,
    values: &Values,
) -> BTreeMap<String, String> {
    let filled = headers
        .iter()
        .map(|(name, text)| (name.clone(), fill(text, values)));
    filled.collect()
}

/// Bad at the first thing that is not as wanted.
pub fn judge(expect: &Expectation, reply: &Reply) -> Result<(), Outcome> {
    let wrong = |what: String| {
        let body = quoted(&reply.body);
        let told = format!("status {}{what}: {body}", reply.status);
        let told = told.trim_end_matches([':', ' ']).to_owned();
        Err(Outcome::of_status(reply.status, told))
    };
    if !expect.statuses.hold(reply.status) {
        return wrong(String::new());
    }
    for (name, wanted) in &expect.headers {
        let found: Vec<String> = reply
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        if found.is_empty() {
            return wrong(format!(", no header {name} (wanted: {wanted})"));
        }
        if !found.iter().any(|value| value.contains(wanted)) {
            return wrong(format!(
                ", header {name} is {}, not {wanted}",
                found.join(" and ")
            ));
        }
    }
    if let Some(wanted) = &expect.body
        && !String::from_utf8_lossy(&reply.body).contains(wanted)
    {
        return wrong(format!(", the body does not contain {wanted:?}"));
    }
    if expect.json.is_empty() {
        return Ok(());
    }
    let Some(json) = json(reply) else {
        return wrong(", the body is no JSON".to_owned());
    };
    match expect
        .json
        .iter()
        .find_map(|check| json_fault(check, &json))
    {
        Some(fault) => wrong(format!(", {fault}")),
        None => Ok(()),
    }
}

pub fn json(reply: &Reply) -> Option<Value> {
    serde_json::from_slice(&reply.body).ok()
}

/// What is wrong with a JSON answer, if anything is.
fn json_fault(check: &JsonCheck, json: &Value) -> Option<String> {
    let path = check.path.text();
    let found = match check.path.find(json) {
        Ok(found) => found,
        Err(why) => return Some(format!("{path} cannot be followed: {why}")),
    };
    match &check.wanted {
        JsonWanted::Exists(true) if found.is_empty() => Some(format!("there is no {path}")),
        JsonWanted::Exists(false) if !found.is_empty() => {
            Some(format!("{path} is there, and should not be"))
        }
        JsonWanted::Exists(_) => None,
        JsonWanted::Equals(wanted) if found.is_empty() => {
            Some(format!("there is no {path} (wanted: {wanted})"))
        }
        JsonWanted::Equals(wanted) => {
            let other = found.into_iter().find(|value| !equal(value, wanted))?;
            let other = quoted(other.to_string().as_bytes());
            Some(format!("{path} is {other}, not {wanted}"))
        }
    }
}

/// `1` and `1.0` are the same number.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

/// The beginning of a text from outside.
pub fn quoted(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(QUOTED)]);
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::HeaderMap;
    use scenarios::asks::{JsonPath, Statuses};

    fn reply(status: u16, content_type: &'static str, body: &str) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", content_type.parse().unwrap());
        let body = body.to_owned().into();
        Reply {
            status,
            headers,
            body,
        }
    }

    fn told(expect: &Expectation, reply: &Reply) -> String {
        match judge(expect, reply) {
            Ok(()) => "good".to_owned(),
            Err(Outcome::Error(what) | Outcome::ServerError(what)) => what,
            Err(other) => panic!("{other:?}"),
        }
    }

    fn json(path: &str, wanted: JsonWanted) -> Expectation {
        let path = JsonPath::new(path).unwrap();
        Expectation {
            json: vec![JsonCheck { path, wanted }],
            ..Expectation::default()
        }
    }

    #[test]
    fn each_expectation_is_met_or_told_in_words() {
        let answer = reply(
            200,
            "application/json; charset=utf-8",
            r#"{"state":"open","n":1.0,"l":[1,2]}"#,
        );
        let equals = |path, value: Value| told(&json(path, JsonWanted::Equals(value)), &answer);
        assert_eq!(equals("$.state", "open".into()), "good");
        assert_eq!(equals("$.n", 1.into()), "good");
        assert!(
            equals("$.state", "shut".into())
                .starts_with(r#"status 200, $.state is "open", not "shut""#)
        );
        assert!(equals("$.gone", 1.into()).contains("there is no $.gone (wanted: 1)"));
        assert!(equals("$.l[*]", 1.into()).contains("$.l[*] is 2, not 1"));
        assert_eq!(
            told(&json("$.n", JsonWanted::Exists(true)), &answer),
            "good"
        );
        assert!(told(&json("$.n", JsonWanted::Exists(false)), &answer).contains("should not be"));
        assert!(told(&json("$.m", JsonWanted::Exists(true)), &answer).contains("there is no $.m"));
        let text = reply(200, "text/html", "<html>");
        assert!(
            told(&json("$.m", JsonWanted::Exists(false)), &text).contains("the body is no JSON")
        );

        let body = Expectation {
            body: Some("open".to_owned()),
            ..Expectation::default()
        };
        assert_eq!(told(&body, &answer), "good");
        assert_eq!(
            told(&body, &text),
            "status 200, the body does not contain \"open\": <html>"
        );
        let headers = [("content-type".to_owned(), "application/json".to_owned())];
        let mut typed = Expectation {
            headers: headers.into(),
            ..Expectation::default()
        };
        assert_eq!(told(&typed, &answer), "good");
        assert!(
            told(&typed, &text).contains("header content-type is text/html, not application/json")
        );
        typed.headers = [("etag".to_owned(), "x".to_owned())].into();
        assert!(told(&typed, &text).contains("no header etag"));
        let mut statuses = Expectation {
            statuses: Statuses(vec![(200, 299), (404, 404)]),
            ..Expectation::default()
        };
        assert_eq!(told(&statuses, &reply(404, "a", "")), "good");
        assert_eq!(told(&statuses, &reply(204, "a", "")), "good");
        statuses.statuses = Statuses(vec![(200, 200)]);
        assert_eq!(
            told(&statuses, &reply(503, "a", "busy\n")),
            "status 503: busy"
        );
        assert_eq!(told(&statuses, &reply(503, "a", "")), "status 503");
        for (status, serves) in [(404, true), (499, true), (500, false), (599, false)] {
            let judged = judge(&statuses, &reply(status, "a", "")).unwrap_err();
            assert_eq!(matches!(judged, Outcome::Error(_)), serves, "{judged:?}");
        }
    }
}
