//! TLS: a handshake, whether the certificate is trusted and for the right name, and how long it holds.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::asks::place::Written;
use crate::asks::trust::TrustSpec;
use crate::asks::{At, Place, Question, Trust};
use crate::input::InputError;
use crate::values::Text;

const HTTPS_PORT: u16 = 443;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsHandshake {
    pub place: Place,
    pub trust: Trust,
    /// A certificate that expires sooner than this is bad.
    pub valid_for: Duration,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TlsHandshakeSpec {
    /// `{cell}` or `{uses.NAME}`; port 443 unless said otherwise.
    address: Text<Written>,
    /// PEM file of authorities; a relative path starts at the fleet file. Default: this machine's.
    ca: Option<PathBuf>,
    /// What the certificate must be for, and the name that is asked for. Default: the address.
    name: Option<String>,
    /// A certificate that expires sooner than this is bad. Default 0s: only an expired one is.
    valid_for: Option<Text<Duration>>,
}

impl Question for TlsHandshake {
    type Spec = TlsHandshakeSpec;

    fn read(spec: TlsHandshakeSpec, at: &At<'_>) -> Result<Self, InputError> {
        let place = at
            .below("address")
            .place_of_cell(spec.address.0, Some(HTTPS_PORT))?;
        let trust = TrustSpec::new(spec.ca, spec.name);
        Ok(Self {
            place,
            trust: Trust::read(trust, at)?,
            valid_for: spec.valid_for.map_or(Duration::ZERO, |text| text.0),
        })
    }

    fn requests(&self) -> usize {
        0
    }

    fn files(&mut self) -> Vec<&mut PathBuf> {
        self.trust.file().into_iter().collect()
    }
}
