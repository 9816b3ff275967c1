//! HTTP and HTTPS: one request, and what its answer must be.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::asks::expect::ExpectSpec;
use crate::asks::place::port_of;
use crate::asks::trust::TrustSpec;
use crate::asks::{At, Expectation, Question, Trust, fill};
use crate::input::InputError;

/// `url`, `headers` and `body` may hold `{cell}` (the cell's first address, in brackets if IPv6),
/// `{cell.name}`, `{uses.NAME}` (address and port of what the cell declares), `{address}`
/// (entrypoints: the address that DNS gave) and `{id}` (a fresh id for each request).
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRequest {
    pub method: HttpMethod,
    pub url: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Option<String>,
    /// Of an `https` URL.
    pub trust: Trust,
    pub expect: Expectation,
}

impl HttpRequest {
    /// `GET` of a URL, to be answered 200.
    pub fn get(url: impl Into<String>) -> Self {
        Self {
            method: HttpMethod::Get,
            url: url.into(),
            headers: BTreeMap::new(),
            body: None,
            trust: Trust::default(),
            expect: Expectation::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl HttpMethod {
    /// The word of the fleet file, and of HTTP.
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpSpec {
    /// http:// or https://, with `{cell}` or `{uses.NAME}` (probes) or `{address}` (entrypoints) for
    /// the host, `{id}` for a fresh id.
    url: String,
    /// Default GET.
    method: Option<HttpMethod>,
    /// Headers of the request; `host` may stand here too.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    /// How the certificate of an https URL is checked.
    tls: Option<TrustSpec>,
    expect: Option<ExpectSpec>,
}

impl Question for HttpRequest {
    type Spec = HttpSpec;

    fn read(spec: HttpSpec, at: &At<'_>) -> Result<Self, InputError> {
        HttpRequest::checked(spec, UrlHost::Cell, &["id"], at)
    }

    fn files(&mut self) -> Vec<&mut PathBuf> {
        self.trust.file().into_iter().collect()
    }
}

impl HttpSpec {
    /// The same; without a word about its method it has this one.
    pub(super) fn or_method(self, method: HttpMethod) -> Self {
        Self {
            method: self.method.or(Some(method)),
            ..self
        }
    }
}

/// What may stand for the host of a URL: a probe of a fixed host would say nothing about a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UrlHost {
    /// `{cell}` or `{uses.NAME}`.
    Cell,
    /// `{address}`.
    Entrypoint,
}

impl HttpRequest {
    /// `known`: placeholders beside those of the cell.
    pub(crate) fn checked(
        spec: HttpSpec,
        host: UrlHost,
        known: &[&str],
        at: &At<'_>,
    ) -> Result<Self, InputError> {
        url(&spec.url, host, known, &at.below("url"))?;
        let method = spec.method.unwrap_or(HttpMethod::Get);
        if spec.body.is_some() && method == HttpMethod::Get {
            let message = "a GET has no body";
            return Err(at
                .below("body")
                .wrong_key(message)
                .with_hint("write method: POST beside it"));
        }
        if spec.tls.is_some() && !spec.url.starts_with("https://") {
            let message = "tls says how a certificate is checked, and an http:// URL has none";
            return Err(at
                .below("tls")
                .wrong_key(message)
                .with_hint("write https:// in the URL"));
        }
        let trust = spec.tls.map(|spec| Trust::read(spec, &at.below("tls")));
        let headers = headers(spec.headers, known, &at.below("headers"))?;
        let expect = match spec.expect {
            Some(spec) => Expectation::read(spec, known, &at.below("expect"))?,
            None => Expectation::default(),
        };
        Ok(Self {
            method,
            url: spec.url,
            headers,
            body: spec.body,
            trust: trust.transpose()?.unwrap_or_default(),
            expect,
        })
    }
}

/// Headers with names in lower case, each once.
pub(super) fn headers(
    headers: BTreeMap<String, String>,
    known: &[&str],
    at: &At<'_>,
) -> Result<BTreeMap<String, String>, InputError> {
    let mut checked = BTreeMap::new();
    for (name, value) in headers {
        let at = at.below(&name);
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            return Err(at.wrong_key(format!("`{name}` is not the name of a header")));
        }
        if value.is_empty() || !value.chars().all(|c| (' '..='~').contains(&c)) {
            let message = "the value of a header is one line of visible ASCII characters";
            return Err(at.wrong(message));
        }
        at.placeholders(&value, known)?;
        if checked.insert(name.to_ascii_lowercase(), value).is_some() {
            return Err(at.wrong_key("this header is written twice"));
        }
    }
    Ok(checked)
}

/// `http[s]://HOST[:PORT]/...`, where HOST is a placeholder of what is probed.
pub(crate) fn url(url: &str, host: UrlHost, known: &[&str], at: &At<'_>) -> Result<(), InputError> {
    let placeholder = match host {
        UrlHost::Cell => "{cell}",
        UrlHost::Entrypoint => "{address}",
    };
    let hint = format!("write for instance http://{placeholder}/");
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let Some(rest) = rest else {
        let message = "the URL begins neither with http:// nor with https://";
        return Err(at.wrong(message).with_hint(hint));
    };
    if url.chars().any(|c| !c.is_ascii_graphic()) {
        let message = "a URL holds only visible ASCII characters; encode others as %XX";
        return Err(at.wrong(message));
    }
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let used = authority
        .strip_prefix("{uses.")
        .and_then(|rest| rest.strip_suffix('}'));
    match (used, authority.strip_prefix(placeholder)) {
        (Some(name), _) if host == UrlHost::Cell => at.declares(name)?,
        (_, Some("")) => {}
        (_, Some(port)) if port.strip_prefix(':').and_then(port_of).is_some() => {}
        (_, Some(port)) => {
            let message = format!("`{port}` behind {placeholder} is not a port");
            return Err(at.wrong(message));
        }
        (_, None) => {
            let message = format!("the host of the URL is not {placeholder}");
            return Err(at.wrong(message).with_hint(hint));
        }
    }
    if host == UrlHost::Cell && used.is_none() {
        at.has_addresses()?;
    }
    let address = ["address"];
    let mut known = known.to_vec();
    if host == UrlHost::Entrypoint {
        known.extend(address);
    }
    url_placeholders(tail, &known, host, at)
}

/// The same error for all that is unknown in a URL, with all that would be known.
fn url_placeholders(
    tail: &str,
    known: &[&str],
    host: UrlHost,
    at: &At<'_>,
) -> Result<(), InputError> {
    if host == UrlHost::Cell {
        return at.placeholders(tail, known);
    }
    match fill::names(tail).iter().all(|name| known.contains(name)) {
        true => Ok(()),
        false => Err(at
            .wrong("unknown placeholder in the URL")
            .with_valid(known.iter().map(|name| format!("{{{name}}}")))),
    }
}
