//! Prometheus: an instant query; every value of the answer must compare as wanted.
//!
//! No data is bad, not invalid: invalid is what the prober itself spoilt, and here a server that was
//! asked for a number of the cell had none. Never is it good. NaN compares with nothing, so it is bad.

use hyper::Method;
use hyper::body::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use scenarios::asks::{Comparison, PrometheusQuery, fill};
use serde_json::Value;

use crate::askers::{Asks, Call, Here};
use crate::expect::{self, quoted};
use crate::http::{Connections, Question};
use crate::kinds::ProbeError;
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::request;
use crate::target::Target;

pub(crate) struct PrometheusAsker {
    question: Question,
    expect: Comparison,
    connections: Connections,
}

impl Asks for PrometheusAsker {
    type Question = PrometheusQuery;

    fn new(query: &PrometheusQuery, here: &Here<'_>) -> Result<Self, ProbeError> {
        let values = here.values();
        let server = fill(&query.url, &values);
        let promql = fill(&query.query, &values);
        let encoded = utf8_percent_encode(&promql, NON_ALPHANUMERIC);
        let url = format!(
            "{}/api/v1/query?query={encoded}",
            server.trim_end_matches('/')
        );
        let wrong = |why: String| here.wrong(format!("cannot ask {server}: {why}"));
        let target = Target::parse_named(&url, query.trust.name.as_deref()).map_err(wrong)?;
        let secure = target
            .secret
            .then(|| here.secure(&query.trust, target.address, "http/1.1"));
        let connections = Connections::new(secure.transpose()?);
        let headers = expect::filled_headers(&query.headers, &values);
        let question = Question {
            target,
            method: Method::GET,
            body: Bytes::new(),
            headers: request::headers(&headers).map_err(wrong)?,
            until: None,
        };
        let expect = query.expect;
        Ok(Self {
            question,
            expect,
            connections,
        })
    }

    async fn ask(&self, call: &Call<'_>) -> Result<(), Outcome> {
        let asked = self
            .connections
            .ask(&self.question, call.fresh, call.progress);
        let reply = asked.await?;
        let told = |why: String| {
            let what = format!("status {}, {why}: {}", reply.status, quoted(&reply.body));
            Outcome::of_status(reply.status, what)
        };
        let json =
            expect::json(&reply).ok_or_else(|| told("no answer of Prometheus".to_owned()))?;
        if json.get("status").and_then(Value::as_str) != Some("success") {
            let error = json.get("error").and_then(Value::as_str);
            return Err(told(error.unwrap_or("no answer of Prometheus").to_owned()));
        }
        judge(&self.expect, &json).map_err(told)
    }

    fn stage(&self, progress: &Progress) -> String {
        format!("{}: {}", self.question.target.address, progress.text())
    }
}

fn judge(expect: &Comparison, json: &Value) -> Result<(), String> {
    let kind = json.pointer("/data/resultType").and_then(Value::as_str);
    let result = json.pointer("/data/result");
    let values: Vec<&Value> = match (kind, result) {
        (Some("scalar"), Some(result)) => vec![result],
        (Some("vector"), Some(Value::Array(series))) => series
            .iter()
            .map(|series| series.get("value").unwrap_or(&Value::Null))
            .collect(),
        (kind, _) => {
            let kind = kind.unwrap_or("nothing");
            return Err(format!(
                "the query gives {kind}, and no number is in it to compare"
            ));
        }
    };
    if values.is_empty() {
        return Err(format!("no data (wanted: {expect})"));
    }
    for value in values {
        let text = value.get(1).and_then(Value::as_str).unwrap_or("no number");
        // Prometheus writes +Inf, -Inf and NaN, which f64 reads as well.
        match text.parse::<f64>() {
            Ok(number) if expect.holds(number) => {}
            _ => return Err(format!("{text} is not {expect}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use scenarios::asks::Operator;
    use serde_json::json;

    #[test]
    fn all_values_must_hold_and_there_must_be_one() {
        let expect = Comparison {
            operator: Operator::Above,
            number: 0.5,
        };
        let vector = |values: &[&str]| {
            let series: Vec<Value> = values
                .iter()
                .map(|v| json!({ "metric": {}, "value": [1.5, v] }))
                .collect();
            json!({ "data": { "resultType": "vector", "result": series } })
        };
        assert_eq!(judge(&expect, &vector(&["1", "+Inf"])), Ok(()));
        let scalar = json!({ "data": { "resultType": "scalar", "result": [1, "0.6"] } });
        assert_eq!(judge(&expect, &scalar), Ok(()));
        for (answer, words) in [
            (vector(&[]), "no data"),
            (vector(&["1", "0.5"]), "0.5 is not > 0.5"),
            (vector(&["NaN"]), "NaN is not > 0.5"),
            (
                json!({ "data": { "resultType": "matrix", "result": [] } }),
                "gives matrix",
            ),
            (
                json!({ "data": { "resultType": "string", "result": [1, "7"] } }),
                "gives string",
            ),
            (
                json!({ "data": { "resultType": "vector", "result": [{}] } }),
                "no number is not",
            ),
            (json!({}), "gives nothing"),
        ] {
            let why = judge(&expect, &answer).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }
}
