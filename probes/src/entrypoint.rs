//! A user of a region: resolves the entrypoint, connects to what DNS gave, asks.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use scenarios::asks::{Expectation, Trust};
use scenarios::fleet::{Entrypoint, Fleet, HttpRequest};

use crate::clients::Population;
use crate::dns::Lookup;
use crate::http::{Connections, Question};
use crate::kinds::ProbeError;
use crate::outcome::Outcome;
use crate::request;
use crate::streams;
use crate::target::{Target, literal};
use crate::trust::secure;

/// What attribution needs to know of a cell.
pub struct Attributed {
    pub cell: String,
    /// Index of the stream `ENTRYPOINT@CELL`.
    pub stream: usize,
    pub connections: Connections,
}

pub struct EntrypointProbe {
    pub lookup: Lookup,
    name: String,
    http: HttpRequest,
    pub timeout: Duration,
    pub clients: Population,
    cells: Vec<Attributed>,
    by_address: HashMap<IpAddr, usize>,
}

/// Whom an answer pointed to.
pub enum Pointed<'a> {
    Cell(IpAddr, &'a Attributed),
    /// No address of a cell of this entrypoint.
    Foreign(IpAddr),
    Nowhere,
}

impl EntrypointProbe {
    /// `index_of` finds a stream by name.
    pub fn new(
        fleet: &Fleet,
        stream: &str,
        entrypoint: &Entrypoint,
        index_of: impl Fn(&str) -> Option<usize>,
    ) -> Result<Self, ProbeError> {
        let bad_url = |why| ProbeError::Url {
            stream: stream.to_owned(),
            url: entrypoint.http.url.clone(),
            why,
        };
        let label = stream.trim_end_matches("/dns");
        let mut probe = Self {
            lookup: lookup(fleet, entrypoint).map_err(bad_url)?,
            name: entrypoint.dns.name.clone(),
            http: entrypoint.http.clone(),
            timeout: entrypoint.timeout,
            clients: clients(fleet, entrypoint),
            cells: Vec::new(),
            by_address: HashMap::new(),
        };
        for (cell, _) in streams::shares(fleet, entrypoint) {
            let name = format!("{label}@{cell}");
            let stream = index_of(&name).ok_or(ProbeError::NoStream { name })?;
            let addresses = fleet.cells.get(cell).map(|cell| cell.addresses.as_slice());
            for &address in addresses.unwrap_or_default() {
                probe.ready(address, "check").map_err(bad_url)?;
                probe.by_address.insert(address, probe.cells.len());
            }
            let connections = probe.connections(addresses).map_err(bad_url)?;
            probe.cells.push(Attributed {
                cell: cell.clone(),
                stream,
                connections,
            });
        }
        Ok(probe)
    }

    /// Users take the first address.
    pub fn pointed(&self, answer: &[IpAddr]) -> Pointed<'_> {
        let Some(&address) = answer.first() else {
            return Pointed::Nowhere;
        };
        match self
            .by_address
            .get(&address)
            .and_then(|&index| self.cells.get(index))
        {
            Some(cell) => Pointed::Cell(address, cell),
            None => Pointed::Foreign(address),
        }
    }

    pub fn question(&self, address: IpAddr, id: &str) -> Result<(Question, Expectation), Outcome> {
        self.ready(address, id).map_err(Outcome::Error)
    }

    fn ready(&self, address: IpAddr, id: &str) -> Result<(Question, Expectation), String> {
        let values = vec![
            ("id".to_owned(), id.to_owned()),
            ("address".to_owned(), literal(address)),
        ];
        // The brackets of an address are no part of a value there.
        let http = HttpRequest {
            url: self.http.url.replace("{address}", &literal(address)),
            ..self.http.clone()
        };
        request::question(&http, &values, |url| {
            Target::of_entrypoint(url, &self.name, address)
        })
    }

    /// Users check the certificate for the name that they called.
    fn connections(&self, addresses: Option<&[IpAddr]>) -> Result<Connections, String> {
        let first = addresses.and_then(<[_]>::first);
        let Some(first) = first.filter(|_| self.http.url.starts_with("https://")) else {
            return Ok(Connections::default());
        };
        let trust = Trust {
            ca: self.http.trust.ca.clone(),
            name: Some(
                self.http
                    .trust
                    .name
                    .clone()
                    .unwrap_or_else(|| self.name.clone()),
            ),
        };
        Ok(Connections::new(Some(secure(&trust, *first, "http/1.1")?)))
    }
}

/// Those who are pinned are spread over the cells by share.
fn clients(fleet: &Fleet, entrypoint: &Entrypoint) -> Population {
    let cells = streams::shares(fleet, entrypoint);
    let first = |cell: &String| fleet.cells.get(cell)?.addresses.first().copied();
    let cells: Vec<_> = cells
        .filter_map(|(cell, share)| Some((first(cell)?, share)))
        .collect();
    Population::new(&entrypoint.clients, entrypoint.rate, &cells)
}

/// Asks for the family of the cells' first addresses; for IPv4 where they differ.
fn lookup(fleet: &Fleet, entrypoint: &Entrypoint) -> Result<Lookup, String> {
    let mut name = Name::from_ascii(&entrypoint.dns.name)
        .map_err(|error| format!("`{}` is no DNS name: {error}", entrypoint.dns.name))?;
    name.set_fqdn(true);
    let mut first = streams::shares(fleet, entrypoint)
        .filter_map(|(cell, _)| fleet.cells.get(cell)?.addresses.first())
        .peekable();
    let all_v6 = first.peek().is_some() && first.all(IpAddr::is_ipv6);
    let record_type = if all_v6 {
        RecordType::AAAA
    } else {
        RecordType::A
    };
    let server: SocketAddr = entrypoint.dns.resolver;
    Ok(Lookup {
        server,
        name,
        record_type,
    })
}
