//! Prometheus: an instant query, and what its value must be.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::asks::http::{self, UrlHost};
use crate::asks::trust::TrustSpec;
use crate::asks::{At, COSTLY_RATE, Question, Trust};
use crate::input::InputError;
use crate::values::{Scalar, Text};

/// Every value of the answer must compare as wanted, and there must be one.
#[derive(Clone, Debug, PartialEq)]
pub struct PrometheusQuery {
    /// Of the server, without `/api/v1`; may hold the cell's placeholders.
    pub url: String,
    /// PromQL; may hold the cell's placeholders.
    pub query: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub trust: Trust,
    pub expect: Comparison,
}

/// What a value must be compared with a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    pub operator: Operator,
    pub number: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equal,
}

const OPERATORS: [(&str, Operator); 5] = [
    // Longer ones first: `>` also begins `>=`.
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("==", Operator::Equal),
    (">", Operator::Above),
    ("<", Operator::Below),
];

impl Comparison {
    /// Never for NaN.
    pub fn holds(&self, value: f64) -> bool {
        match self.operator {
            Operator::Above => value > self.number,
            Operator::AtLeast => value >= self.number,
            Operator::Below => value < self.number,
            Operator::AtMost => value <= self.number,
            #[allow(clippy::float_cmp)] // as PromQL compares
            Operator::Equal => value == self.number,
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = OPERATORS
            .iter()
            .find(|(_, operator)| *operator == self.operator);
        write!(f, "{} {}", word.map_or("", |(word, _)| word), self.number)
    }
}

impl Scalar for Comparison {
    const NAME: &'static str = "Comparison";
    const PATTERN: &'static str = "^(>|>=|<|<=|==) *-?[0-9.eE+-]+$";
    const HOW: &'static str = "a comparison such as \"> 0.5\"";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a comparison; write for instance \"> 0.5\" (>, >=, <, <= or ==)"
            )
        };
        let found = OPERATORS
            .iter()
            .find_map(|(word, operator)| Some((text.strip_prefix(word)?, *operator)));
        let (number, operator) = found.ok_or_else(wrong)?;
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        match number.is_finite() {
            true => Ok(Self { operator, number }),
            false => Err(wrong()),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrometheusSpec {
    /// The server: `http://{cell}:9090`, `http://{uses.NAME}`, or an address that all cells share.
    url: String,
    /// PromQL, with `{cell.name}` or `{cell}` for the cell; other braces are PromQL's own.
    query: String,
    /// Headers of the request.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// How the certificate of an https URL is checked.
    tls: Option<TrustSpec>,
    /// Every value of the answer: `> 0.5`, `< 3`, `== 1`. An answer without a value is bad.
    expect: Text<Comparison>,
}

impl Question for PrometheusQuery {
    type Spec = PrometheusSpec;
    const RATE: f64 = COSTLY_RATE;

    fn read(spec: PrometheusSpec, at: &At<'_>) -> Result<Self, InputError> {
        let own = spec.query.contains("{cell.name}") || spec.query.contains("{cell}");
        if spec.query.contains("{cell}") {
            at.below("query").has_addresses()?;
        }
        server(&spec.url, own, &at.below("url"))?;
        if spec.query.trim().is_empty() {
            return Err(at.below("query").wrong("the query is empty"));
        }
        if spec.tls.is_some() && !spec.url.starts_with("https://") {
            let message = "tls says how a certificate is checked, and an http:// URL has none";
            return Err(at.below("tls").wrong_key(message));
        }
        let trust = spec.tls.map(|spec| Trust::read(spec, &at.below("tls")));
        Ok(Self {
            url: spec.url,
            query: spec.query,
            headers: http::headers(spec.headers, &[], &at.below("headers"))?,
            trust: trust.transpose()?.unwrap_or_default(),
            expect: spec.expect.0,
        })
    }

    fn files(&mut self) -> Vec<&mut PathBuf> {
        self.trust.file().into_iter().collect()
    }
}

/// A server of each cell, or one for all if the query is about the cell.
fn server(url: &str, about_the_cell: bool, at: &At<'_>) -> Result<(), InputError> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let authority = rest.map(|rest| rest.split('/').next().unwrap_or_default());
    let fixed = authority.is_some_and(|authority| !authority.contains('{'));
    if !fixed {
        return http::url(url, UrlHost::Cell, &[], at);
    }
    let authority = authority.unwrap_or_default();
    let literal = authority.parse::<std::net::SocketAddr>().is_ok()
        || authority
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok();
    if !literal || url.chars().any(|c| !c.is_ascii_graphic()) || url.contains(['{', '}', '?', '#'])
    {
        let message =
            "the server's URL is http[s]://ADDRESS[:PORT][/PATH], and probes resolve no names";
        return Err(at
            .wrong(message)
            .with_hint("write for instance http://{cell}:9090"));
    }
    if !about_the_cell {
        let message = "one server for all cells, and a query that is the same for each of them";
        let hint = "write {cell.name} in the query, as in up{cell=\"{cell.name}\"}";
        return Err(at.wrong(message).with_hint(hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_read_whole_and_nan_is_never_good() {
        for (text, good, bad) in [
            ("> 0.5", 0.6, 0.5),
            (">=1", 1.0, 0.9),
            ("< -3", -4.0, -3.0),
            ("<= 1e3", 1000.0, 1000.1),
            ("== 1", 1.0, 1.1),
        ] {
            let comparison = Comparison::parse(text).unwrap();
            assert!(comparison.holds(good), "{text} {good}");
            assert!(!comparison.holds(bad), "{text} {bad}");
            assert!(!comparison.holds(f64::NAN), "{text} NaN");
            assert_eq!(Comparison::parse(&comparison.to_string()), Ok(comparison));
        }
        for wrong in [
            "", "1", "=1", "!= 1", "> ", "> NaN", "< inf", "> 1 2", "=> 1",
        ] {
            assert!(Comparison::parse(wrong).is_err(), "{wrong}");
        }
    }
}
