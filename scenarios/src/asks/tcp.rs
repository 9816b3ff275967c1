//! TCP: a connection is made, and closed again.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::asks::place::Written;
use crate::asks::{At, Place, Question};
use crate::input::InputError;
use crate::values::Text;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpConnect {
    pub place: Place,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpSpec {
    /// `{cell}:PORT`, or `{uses.NAME}` for what each cell declares.
    address: Text<Written>,
}

impl Question for TcpConnect {
    type Spec = TcpSpec;

    fn read(spec: TcpSpec, at: &At<'_>) -> Result<Self, InputError> {
        let place = at.below("address").place_of_cell(spec.address.0, None)?;
        Ok(Self { place })
    }

    fn requests(&self) -> usize {
        0
    }
}
