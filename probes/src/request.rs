//! An HTTP request of a fleet file, made ready for one cell or address, and filled for each probe.

use std::collections::BTreeMap;

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use scenarios::asks::{Expectation, fill};
use scenarios::fleet::{HttpMethod, HttpRequest};

use crate::expect::{self, Values};
use crate::http::Question;
use crate::target::Target;

/// All but what RFC 3986 calls unreserved: what was captured stays one part of a URL.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The request with what `values` stand for in it; other placeholders stay.
pub fn filled(http: &HttpRequest, values: &Values) -> HttpRequest {
    HttpRequest {
        method: http.method,
        url: fill(&http.url, values),
        headers: expect::filled_headers(&http.headers, values),
        body: http.body.as_ref().map(|body| fill(body, values)),
        trust: http.trust.clone(),
        expect: expect::filled(&http.expect, values),
    }
}

/// What is asked, and what must come back, once `values` stand for all that is left open.
pub fn question(
    http: &HttpRequest,
    values: &Values,
    target: impl Fn(&str) -> Result<Target, String>,
) -> Result<(Question, Expectation), String> {
    let encoded = values.iter().map(|(name, value)| {
        let value = utf8_percent_encode(value, RESERVED).to_string();
        (name.clone(), value)
    });
    let encoded: Values = encoded.collect();
    let body = http.body.as_deref().unwrap_or_default();
    let question = Question {
        target: target(&fill(&http.url, &encoded))?,
        method: method(http.method),
        body: Bytes::from(fill(body, values)),
        headers: headers(&expect::filled_headers(&http.headers, values))?,
        until: None,
    };
    Ok((question, expect::filled(&http.expect, values)))
}

pub fn headers(texts: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, text) in texts {
        let wrong = || format!("header {name} cannot hold what it would have to");
        let name = HeaderName::try_from(name).map_err(|_| wrong())?;
        let value = HeaderValue::try_from(text).map_err(|_| wrong())?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn method(method: HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Delete => Method::DELETE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_a_url_stays_one_part_of_it() {
        let mut http = HttpRequest::get("http://10.0.0.1/o/{id}?t={token}");
        http.body = Some("{\"t\":\"{token}\"}".to_owned());
        http.headers
            .insert("authorization".to_owned(), "Bearer {token}".to_owned());
        let value = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let values = vec![value("id", "run-1_2.3"), value("token", "a/b?c=d&e #%")];
        let (question, _) = question(&http, &values, Target::parse).unwrap();
        assert_eq!(
            question.target.path,
            "/o/run-1_2.3?t=a%2Fb%3Fc%3Dd%26e%20%23%25"
        );
        assert_eq!(question.headers["authorization"], "Bearer a/b?c=d&e #%");
        assert_eq!(question.body, "{\"t\":\"a/b?c=d&e #%\"}");
        let broken = vec![value("token", "a\r\nx: y")];
        assert!(
            super::question(&http, &broken, Target::parse)
                .unwrap_err()
                .contains("authorization")
        );
    }
}
