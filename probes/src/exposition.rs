//! The text that metrics endpoints answer with, and what Prometheus answers to a query: to series.
//!
//! Read is what Prometheus' text format 0.0.4 and OpenMetrics 1.0 have in common; exemplars and time
//! stamps behind a value are left out, and so are lines that are none.

use std::collections::BTreeMap;

use scenarios::selector::{Selector, quoted};
use serde_json::Value;

/// The newest value of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
    /// When Prometheus scraped it, in its own seconds; an endpoint answers with the present.
    pub scraped: Option<f64>,
}

/// The series of an exposition that a selector means.
pub fn of_text(text: &str, selector: &Selector) -> Vec<Series> {
    text.lines()
        .filter_map(|line| sample(line, &selector.metric))
        .filter(|series| selector.matches(&series.labels))
        .collect()
}

/// `name{label="value",...} value [timestamp]`, of the wanted name.
fn sample(line: &str, metric: &str) -> Option<Series> {
    let rest = line.trim_start().strip_prefix(metric)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None if rest.starts_with([' ', '\t']) => (BTreeMap::new(), rest),
        None => return None,
    };
    let value = rest.split_whitespace().next()?;
    Some(Series {
        labels,
        value: number(value)?,
        scraped: None,
    })
}

fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut found = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((found, behind));
        }
        let (label, behind) = rest.split_once('=')?;
        let (value, behind) = quoted(behind.trim_start().strip_prefix('"')?)?;
        found.insert(label.trim().to_owned(), value);
        rest = behind;
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        text => text.parse().ok(),
    }
}

/// The newest sample of each series of `{"data":{"resultType":"matrix",...}}`, or what was wrong.
pub fn of_prometheus(body: &[u8]) -> Result<Vec<Series>, String> {
    let answer: Value =
        serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
    if answer["status"] != "success" {
        let why = answer["error"].as_str().unwrap_or("no status");
        return Err(format!("Prometheus: {why}"));
    }
    let result = answer.pointer("/data/result").and_then(Value::as_array);
    let result = result.ok_or("Prometheus: an answer without a result")?;
    let series = result.iter().map(|series| {
        let labels = series["metric"].as_object()?.iter();
        let labels = labels
            .filter(|(label, _)| *label != "__name__")
            .filter_map(|(label, value)| Some((label.clone(), value.as_str()?.to_owned())));
        let newest = series["values"].as_array()?.last()?;
        Some(Series {
            labels: labels.collect(),
            value: number(newest[1].as_str()?)?,
            scraped: Some(newest[0].as_f64()?),
        })
    });
    let series: Option<Vec<Series>> = series.collect();
    series.ok_or_else(|| "Prometheus: not the result of a range selector".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str, selector: &str) -> Vec<f64> {
        let series = of_text(text, &Selector::parse(selector).unwrap());
        series.into_iter().map(|series| series.value).collect()
    }

    #[test]
    fn an_exposition_is_read_as_it_is_written_everywhere() {
        let text = "# HELP requests All of them, {even=\"these\"} 1\n\
            # TYPE requests counter\n\
            requests{route=\"/a\",code=\"200\"} 12 1700000000000\n\
            requests { route = \"/a\" } 1\n\
            requests{route=\"say \\\"hi\\\" \\\\ {b}\",code=\"500\",} 3.0 # {trace=\"x\"} 1\n\
            requests_total 99\n\
            requests 1e3\n\
            depth{} +Inf\n\
            depth{pool=\"x\"} NaN\n\
            requests{broken 4\n\
            requests{a=\"b\"}\n";
        assert_eq!(values(text, "requests"), [12.0, 3.0, 1000.0]);
        assert_eq!(values(text, "requests{code=~\"5..\"}"), [3.0]);
        assert_eq!(
            values(text, "requests{route=\"say \\\"hi\\\" \\\\ {b}\"}"),
            [3.0]
        );
        assert_eq!(values(text, "requests{code=\"\"}"), [1000.0]);
        assert_eq!(values(text, "requests_total"), [99.0]);
        assert_eq!(values(text, "depth{pool=\"\"}"), [f64::INFINITY]);
        assert!(values(text, "depth{pool=\"x\"}")[0].is_nan());
        assert!(values(text, "request").is_empty());
    }

    #[test]
    fn prometheus_tells_the_newest_sample_and_when_it_was_taken() {
        let body = br#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"__name__":"r","cell":"a"},"values":[[1.5,"7"],[2.5,"9"]]}]}}"#;
        let series = of_prometheus(body).unwrap();
        assert_eq!((series[0].value, series[0].scraped), (9.0, Some(2.5)));
        assert_eq!(series[0].labels.len(), 1);
        let vector = br#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{},"value":[1.5,"7"]}]}}"#;
        assert!(
            of_prometheus(vector)
                .unwrap_err()
                .contains("range selector")
        );
        let error = br#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
        assert!(of_prometheus(error).unwrap_err().contains("parse error"));
        assert!(of_prometheus(b"<html>").unwrap_err().contains("no JSON"));
    }
}
