//! Where a question goes: an address and port of every cell, or one for all.

use std::net::{IpAddr, SocketAddr};

use crate::asks::literal;
use crate::fleet::Cell;
use crate::values::{Name, Scalar};

/// An address and port, found for each cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This port of the cell's first address.
    Cell(u16),
    /// What the cell declares under this name.
    Uses(String),
    /// The same for every cell.
    Fixed(SocketAddr),
}

impl Place {
    /// `None` if the cell has no such thing; a fleet that was read has it.
    pub fn of(&self, cell: &Cell) -> Option<SocketAddr> {
        match self {
            Self::Cell(port) => Some(SocketAddr::new(*cell.addresses.first()?, *port)),
            Self::Uses(name) => {
                let endpoint = cell.uses.get(name)?;
                Some(SocketAddr::new(endpoint.address, endpoint.port))
            }
            Self::Fixed(address) => Some(*address),
        }
    }
}

/// A place as it is written, maybe without its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub host: Host,
    pub port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Cell,
    Uses(String),
    Fixed(IpAddr),
}

impl Scalar for Written {
    const NAME: &'static str = "Place";
    const PATTERN: &'static str =
        "^([{]cell[}](:[0-9]{1,5})?|[{]uses[.][a-z0-9-]+[}]|[0-9a-fA-F.:\\[\\]]+)$";
    const HOW: &'static str = "a place such as \"{cell}:5432\" or \"{uses.db}\"";

    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a place; write for instance \"{{cell}}:5432\" or \"{{uses.db}}\""
            )
        };
        if let Some(name) = text
            .strip_prefix("{uses.")
            .and_then(|rest| rest.strip_suffix('}'))
        {
            let host = Host::Uses(Name::parse(name)?.0);
            return Ok(Written { host, port: None });
        }
        if let Some(behind) = text.strip_prefix("{cell}") {
            let port = match behind.strip_prefix(':') {
                Some(port) => Some(port_of(port).ok_or_else(wrong)?),
                None if behind.is_empty() => None,
                None => return Err(wrong()),
            };
            return Ok(Written {
                host: Host::Cell,
                port,
            });
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Written {
                host: Host::Fixed(address),
                port: None,
            });
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() > 0 => Ok(Written {
                host: Host::Fixed(address.ip()),
                port: Some(address.port()),
            }),
            _ => Err(wrong()),
        }
    }
}

/// A port in digits and nothing else.
pub(super) fn port_of(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .filter(|port| *port > 0)
}

/// An address with its port, as URLs hold it.
impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cell(port) => write!(f, "{{cell}}:{port}"),
            Self::Uses(name) => write!(f, "{{uses.{name}}}"),
            Self::Fixed(address) => write!(f, "{}:{}", literal(address.ip()), address.port()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_whole_or_refused() {
        let read = |text: &str| Written::parse(text).map(|written| (written.host, written.port));
        assert_eq!(read("{cell}:53"), Ok((Host::Cell, Some(53))));
        assert_eq!(read("{cell}"), Ok((Host::Cell, None)));
        assert_eq!(read("{uses.db}"), Ok((Host::Uses("db".to_owned()), None)));
        let fixed = Host::Fixed("fd00::1".parse().unwrap());
        assert_eq!(read("fd00::1"), Ok((fixed.clone(), None)));
        assert_eq!(read("[fd00::1]:5353"), Ok((fixed, Some(5353))));
        for wrong in [
            "",
            "{cell}:0",
            "{cell}:+1",
            "{cell}5",
            "{cell",
            "{uses.}",
            "{uses.DB}",
            "{uses.db}:1",
            "shop.example:80",
            "10.0.0.1:0",
            "{cell}:99999",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
