//! The kinds of stream, made from the fleet and checked before the first probe is sent.

use std::time::Duration;

use scenarios::asks::Statuses;
use scenarios::fleet::{Fleet, HttpRequest};
use scenarios::history::{Role, Stream};

use crate::askers::http::HttpAsker;
use crate::askers::{Asker, Here};
use crate::control::Loopback;
use crate::entrypoint::EntrypointProbe;
use crate::kubernetes::KubeconfigError;
use crate::rewriter::Rewriter;
use crate::streams::{LOOPBACK, REFERENCE};

/// Why probing cannot begin; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("stream {stream}: cannot probe {url}: {why}; correct the fleet file")]
    Url {
        stream: String,
        url: String,
        why: String,
    },
    #[error("stream {stream}: {why}; correct the fleet file")]
    Question { stream: String, why: String },
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

/// What asks for one stream of a cell, or of a reference.
pub struct CellProbe {
    pub cell: Option<String>,
    pub probe: String,
    pub asker: Asker,
    pub timeout: Duration,
    /// Its acknowledged writes are read back, and this is done to them meanwhile.
    pub rewriter: Option<Rewriter>,
}

pub enum Kind {
    Cell(Box<CellProbe>),
    Entrypoint(Box<EntrypointProbe>),
    Loopback(Loopback, Duration),
    /// Fed by its entrypoint.
    Attributed,
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
    let here = Here {
        stream: name,
        cell_name,
        cell,
    };
    let rewriter = match probe.read_back {
        Some(_) => Some(Rewriter::new(probe, &here)?),
        None => None,
    };
    Ok(Kind::Cell(Box::new(CellProbe {
        cell: Some(cell_name.clone()),
        probe: stream.probe.clone(),
        asker: Asker::new(&probe.ask, &here)?,
        timeout: probe.timeout,
        rewriter,
    })))
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
    let wrong = |why| ProbeError::Question {
        stream: stream.name.clone(),
        why,
    };
    let mut http = HttpRequest::get(format!("http://{address}/"));
    // Any answer below 500 shows that the way to a reference works.
    http.expect.statuses = Statuses(vec![(100, 499)]);
    Ok(Kind::Cell(Box::new(CellProbe {
        cell: None,
        probe: stream.probe.clone(),
        asker: Asker::Http(HttpAsker::of(http).map_err(wrong)?),
        timeout,
        rewriter: None,
    })))
}
