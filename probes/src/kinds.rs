//! The kinds of stream, made from the fleet and checked before the first probe is sent.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use scenarios::fleet::{Fleet, HttpMethod, HttpRequest};
use scenarios::history::{Role, Stream};

use crate::control::Loopback;
use crate::entrypoint::EntrypointProbe;
use crate::http::{Connections, Question};
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
    #[error("cannot listen on 127.0.0.1 for the loopback control: {0}; nothing was probed")]
    Loopback(std::io::Error),
}

/// What a status must be.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    Status(u16),
    /// Any answer below 500: a reference shows that the way to it works.
    Answer,
}

impl Expect {
    pub fn holds(self, status: u16) -> bool {
        match self {
            Self::Status(expected) => status == expected,
            Self::Answer => status < 500,
        }
    }
}

pub struct HttpProbe {
    pub cell: Option<String>,
    pub probe: String,
    http: HttpRequest,
    pub expect: Expect,
    pub timeout: Duration,
    /// Its acknowledged ids are read back.
    pub keeps_writes: bool,
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
        question_of(&self.http, id, Target::parse)
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
    };
    let body = http.body.as_deref().unwrap_or_default().replace("{id}", id);
    Ok(Question {
        target: target(&http.url.replace("{id}", id))?,
        method,
        body: Bytes::from(body),
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
    let address = cell.addresses.first().map(|address| literal(*address));
    let fill = |text: &str| text.replace("{cell}", address.as_deref().unwrap_or("{cell}"));
    let http = HttpRequest {
        url: fill(&probe.http.url),
        body: probe.http.body.as_deref().map(fill),
        ..probe.http.clone()
    };
    let kind = HttpProbe {
        cell: Some(cell_name.clone()),
        probe: stream.probe.clone(),
        expect: Expect::Status(http.expect_status),
        http,
        timeout: probe.timeout,
        keeps_writes: probe.read_back.is_some(),
        connections: Connections::default(),
    };
    checked(name, kind)
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
    let kind = HttpProbe {
        cell: None,
        probe: stream.probe.clone(),
        http: HttpRequest {
            method: HttpMethod::Get,
            url: format!("http://{address}/"),
            body: None,
            expect_status: 200,
        },
        expect: Expect::Answer,
        timeout,
        keeps_writes: false,
        connections: Connections::default(),
    };
    checked(&stream.name, kind)
}

fn checked(stream: &str, probe: HttpProbe) -> Result<Kind, ProbeError> {
    match probe.question("check") {
        Ok(_) => Ok(Kind::Http(Box::new(probe))),
        Err(why) => {
            let url = probe.http.url.clone();
            Err(ProbeError::Url {
                stream: stream.to_owned(),
                url,
                why,
            })
        }
    }
}
