//! Whom a probe trusts over TLS: an authority, and the name that a certificate must be for.

use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::asks::At;
use crate::input::InputError;
use crate::read::is_dns_name;

/// What a server's certificate is checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// PEM file of authorities; `None`: those that this machine trusts. A relative path is relative
    /// to the fleet file.
    pub ca: Option<PathBuf>,
    /// What the certificate must be for, a DNS name or an address; `None`: the address that is asked.
    pub name: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrustSpec {
    /// PEM file of authorities; a relative path starts at the fleet file. Default: this machine's.
    ca: Option<PathBuf>,
    /// What the certificate must be for, and the name that is asked for. Default: the address.
    name: Option<String>,
}

impl TrustSpec {
    pub fn new(ca: Option<PathBuf>, name: Option<String>) -> Self {
        Self { ca, name }
    }
}

impl Trust {
    pub(crate) fn read(spec: TrustSpec, at: &At<'_>) -> Result<Self, InputError> {
        let TrustSpec { ca, name } = spec;
        if ca.as_ref().is_some_and(|ca| ca.as_os_str().is_empty()) {
            let hint = "name a PEM file, or leave it out for the authorities of this machine";
            return Err(at.below("ca").wrong("it is empty").with_hint(hint));
        }
        if let Some(name) = &name
            && !is_dns_name(name)
            && name.parse::<IpAddr>().is_err()
        {
            let message = format!("`{name}` is neither a DNS name nor an address");
            return Err(at.below("name").wrong(message));
        }
        Ok(Self { ca, name })
    }

    pub(crate) fn file(&mut self) -> Option<&mut PathBuf> {
        self.ca.as_mut()
    }
}
