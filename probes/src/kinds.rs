//! The kinds of stream, made from the fleet and checked before the first probe is sent.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use scenarios::fleet::{
    Ask, Cell, Fleet, HttpMethod, HttpRequest, KubernetesQuestion, Probe, Rewrites,
};
use scenarios::history::{Role, Stream};

use crate::control::Loopback;
use crate::entrypoint::EntrypointProbe;
use crate::http::{Connections, Question, Reply};
use crate::kubernetes::{ApiServer, KubeconfigError, is_list};
use crate::streams::{LOOPBACK, REFERENCE};
use crate::target::{Target, literal};

/// Why probing cannot begin; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("stream {stream}: cannot probe {url}: {why}; correct the fleet file")]
    Url {
        stream: String,
        url: String,
        why: String,
    },
    #[error("stream {name} is not of this fleet; make the streams from the same fleet")]
    UnknownStream { name: String },
    #[error("stream {name} is missing; make the streams from the same fleet")]
    NoStream { name: String },
    #[error("stream {name} has a rate of {rate}/s; it must be above 0")]
    Rate { name: String, rate: f64 },
    #[error("{0}")]
    Kubernetes(#[from] KubeconfigError),
    #[error(
        "stream {name} asks a Kubernetes API, and its cell has none; write kubernetes: {{ kubeconfig: FILE, context: NAME }} for it"
    )]
    NoKubernetes { name: String },
    #[error("cannot listen on 127.0.0.1 for the loopback control: {0}; nothing was probed")]
    Loopback(std::io::Error),
}

/// What an answer must be.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    Status(u16),
    /// Any answer below 500: a reference shows that the way to it works.
    Answer,
    /// 200 with a list of Kubernetes objects.
    List,
    /// This status; or 404, for what was lost is told when it is read back.
    Rewritten(u16),
}

impl Expect {
    pub fn holds(self, reply: &Reply) -> bool {
        match self {
            Self::Status(expected) => reply.status == expected,
            Self::Answer => reply.status < 500,
            Self::Rewritten(expected) => reply.status == expected || reply.status == 404,
            Self::List => reply.status == 200 && is_list(&reply.body),
        }
    }
}

/// Which probes of a stream go over a kept connection.
#[derive(Clone, Copy, Debug)]
pub enum Reuse {
    /// The other half sees whether new connections can be made.
    EveryOther,
    /// All that can: a TLS handshake costs the server more than the question.
    Always,
}

/// What a probe asks, each time anew or always the same.
enum Asked {
    Http(HttpRequest),
    Same(Box<Question>),
}

pub struct HttpProbe {
    pub cell: Option<String>,
    pub probe: String,
    asked: Asked,
    pub expect: Expect,
    pub reuse: Reuse,
    pub timeout: Duration,
    /// Where its acknowledged writes are read back, with `{id}`.
    pub read_back: Option<String>,
    /// What is done to them meanwhile.
    pub rewrites: Rewrites,
    pub connections: Connections,
}

pub enum Kind {
    Http(Box<HttpProbe>),
    Entrypoint(Box<EntrypointProbe>),
    Loopback(Loopback, Duration),
    /// Fed by its entrypoint.
    Attributed,
}

impl HttpProbe {
    pub fn question(&self, id: &str) -> Result<Question, String> {
        match &self.asked {
            Asked::Http(http) => question_of(http, id, Target::parse),
            Asked::Same(question) => Ok(question.as_ref().clone()),
        }
    }
}

/// Fills `{id}` in and takes the URL apart.
pub fn question_of(
    http: &HttpRequest,
    id: &str,
    target: impl Fn(&str) -> Result<Target, String>,
) -> Result<Question, String> {
    let method = match http.method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Delete => Method::DELETE,
    };
    let body = http.body.as_deref().unwrap_or_default().replace("{id}", id);
    Ok(Question {
        target: target(&http.url.replace("{id}", id))?,
        method,
        body: Bytes::from(body),
        authorization: None,
        load: None,
        until: None,
    })
}

/// Finds what each stream asks.
pub fn kinds(fleet: &Fleet, streams: &[Stream]) -> Result<Vec<Kind>, ProbeError> {
    streams
        .iter()
        .map(|stream| kind(fleet, streams, stream))
        .collect()
}

fn kind(fleet: &Fleet, streams: &[Stream], stream: &Stream) -> Result<Kind, ProbeError> {
    let name = stream.name.as_str();
    let positive = stream.rate.is_finite() && stream.rate > 0.0;
    if !positive {
        return Err(ProbeError::Rate {
            name: name.to_owned(),
            rate: stream.rate,
        });
    }
    if stream.role == Role::Control {
        return control(fleet, stream);
    }
    let index_of = |name: &str| streams.iter().position(|stream| stream.name == name);
    if let Some(entrypoint) = fleet.entrypoints.get(&stream.probe) {
        if name == format!("{}/dns", stream.probe) {
            let probe = EntrypointProbe::new(fleet, name, entrypoint, index_of)?;
            return Ok(Kind::Entrypoint(Box::new(probe)));
        }
        if stream
            .cell
            .as_ref()
            .is_some_and(|cell| name == format!("{}@{cell}", stream.probe))
        {
            let dns = format!("{}/dns", stream.probe);
            return match index_of(&dns) {
                Some(_) => Ok(Kind::Attributed),
                None => Err(ProbeError::NoStream { name: dns }),
            };
        }
    }
    let unknown = || ProbeError::UnknownStream {
        name: name.to_owned(),
    };
    let cell_name = stream.cell.as_ref().ok_or_else(unknown)?;
    let cell = fleet.cells.get(cell_name).ok_or_else(unknown)?;
    let probe = fleet.probes.get(&stream.probe).ok_or_else(unknown)?;
    match &probe.ask {
        Ask::Http(http) => of_http(stream, cell_name, cell, probe, http),
        Ask::Kubernetes(question) => of_kubernetes(stream, cell_name, cell, probe, *question),
    }
}

fn of_kubernetes(
    stream: &Stream,
    cell_name: &str,
    cell: &Cell,
    probe: &Probe,
    question: KubernetesQuestion,
) -> Result<Kind, ProbeError> {
    let Some(access) = &cell.kubernetes else {
        let name = stream.name.clone();
        return Err(ProbeError::NoKubernetes { name });
    };
    let api = ApiServer::of(cell_name, access)?;
    Ok(Kind::Http(Box::new(HttpProbe {
        cell: Some(cell_name.to_owned()),
        probe: stream.probe.clone(),
        asked: Asked::Same(Box::new(api.question(question))),
        expect: match question {
            KubernetesQuestion::List => Expect::List,
            KubernetesQuestion::Ready | KubernetesQuestion::Watch => Expect::Status(200),
        },
        reuse: Reuse::Always,
        timeout: probe.timeout,
        read_back: None,
        rewrites: Rewrites::default(),
        connections: Connections::over_tls(api.secure),
    })))
}

fn of_http(
    stream: &Stream,
    cell_name: &str,
    cell: &Cell,
    probe: &Probe,
    http: &HttpRequest,
) -> Result<Kind, ProbeError> {
    let address = cell.addresses.first().map(|address| literal(*address));
    let fill = |text: &str| text.replace("{cell}", address.as_deref().unwrap_or("{cell}"));
    let filled = |http: &HttpRequest| HttpRequest {
        url: fill(&http.url),
        body: http.body.as_deref().map(fill),
        ..http.clone()
    };
    let http = filled(http);
    let url = http.url.clone();
    let kind = HttpProbe {
        cell: Some(cell_name.to_owned()),
        probe: stream.probe.clone(),
        expect: Expect::Status(http.expect_status),
        reuse: Reuse::EveryOther,
        asked: Asked::Http(http),
        timeout: probe.timeout,
        read_back: probe.read_back.as_deref().map(fill),
        rewrites: Rewrites {
            update: probe.rewrites.update.as_ref().map(filled),
            delete: probe.rewrites.delete.as_ref().map(filled),
        },
        connections: Connections::default(),
    };
    checked(&stream.name, url, kind)
}

fn control(fleet: &Fleet, stream: &Stream) -> Result<Kind, ProbeError> {
    let timeout = Duration::from_millis(stream.timeout_ms);
    if stream.probe == LOOPBACK {
        return Ok(Kind::Loopback(
            Loopback::start().map_err(ProbeError::Loopback)?,
            timeout,
        ));
    }
    let number: Option<usize> = stream
        .probe
        .strip_prefix(REFERENCE)
        .and_then(|number| number.parse().ok());
    let address = number.and_then(|number| fleet.references.get(number.checked_sub(1)?));
    let Some(address) = address else {
        return Err(ProbeError::UnknownStream {
            name: stream.name.clone(),
        });
    };
    let url = format!("http://{address}/");
    let kind = HttpProbe {
        cell: None,
        probe: stream.probe.clone(),
        asked: Asked::Http(HttpRequest {
            method: HttpMethod::Get,
            url: url.clone(),
            body: None,
            expect_status: 200,
        }),
        expect: Expect::Answer,
        reuse: Reuse::EveryOther,
        timeout,
        read_back: None,
        rewrites: Rewrites::default(),
        connections: Connections::default(),
    };
    checked(&stream.name, url, kind)
}

fn checked(stream: &str, url: String, probe: HttpProbe) -> Result<Kind, ProbeError> {
    match probe.question("check") {
        Ok(_) => Ok(Kind::Http(Box::new(probe))),
        Err(why) => Err(ProbeError::Url {
            stream: stream.to_owned(),
            url,
            why,
        }),
    }
}
