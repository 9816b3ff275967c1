//! gRPC: `grpc.health.v1.Health/Check` of one service.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::asks::place::Written;
use crate::asks::trust::TrustSpec;
use crate::asks::{At, Place, Question, Trust};
use crate::input::InputError;
use crate::values::Text;

/// Good is SERVING and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcHealth {
    pub place: Place,
    /// Empty: the server as a whole.
    pub service: String,
    /// `None`: in the clear.
    pub trust: Option<Trust>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrpcSpec {
    /// `{cell}:PORT`, or `{uses.NAME}` for what each cell declares.
    address: Text<Written>,
    /// Default: the server as a whole.
    #[serde(default)]
    service: String,
    /// Over TLS, and how the certificate is checked; `{}`: by this machine's authorities.
    tls: Option<TrustSpec>,
}

impl Question for GrpcHealth {
    type Spec = GrpcSpec;

    fn read(spec: GrpcSpec, at: &At<'_>) -> Result<Self, InputError> {
        let place = at.below("address").place_of_cell(spec.address.0, None)?;
        let trust = spec.tls.map(|spec| Trust::read(spec, &at.below("tls")));
        Ok(Self {
            place,
            service: spec.service,
            trust: trust.transpose()?,
        })
    }

    fn files(&mut self) -> Vec<&mut PathBuf> {
        let trust = self.trust.as_mut();
        trust.and_then(Trust::file).into_iter().collect()
    }
}
