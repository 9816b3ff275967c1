//! The YAML shape of an entrypoint's kinds of client, and its check.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::asks::At;
use crate::effects::{ClientKind, ClientMix};
use crate::input::InputError;
use crate::values::{Percentage, Text};

/// Percentages that a person writes may miss 100% by this much.
const SLACK: f64 = 1e-6;

/// Default 70% honoursTtl and 10% of each other kind; a kind that is not named has 0%.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ClientsSpec {
    /// Keep an address as long as its TTL says.
    honours_ttl: Option<Text<Percentage>>,
    /// Keep their first address for ever.
    ignores_ttl: Option<Text<Percentage>>,
    /// Have one address in their configuration.
    pinned: Option<Text<Percentage>>,
    /// Honour the TTL, and try another address when one fails.
    retries: Option<Text<Percentage>>,
}

/// The kinds are all users: no more, no fewer. `at` is the entrypoint.
pub(super) fn read(spec: Option<ClientsSpec>, at: &At<'_>) -> Result<ClientMix, InputError> {
    let Some(spec) = spec else {
        return Ok(ClientMix::default());
    };
    let share = |text: Option<Text<Percentage>>| text.map_or(0.0, |share| share.0.0);
    let mix = ClientMix {
        honours_ttl: share(spec.honours_ttl),
        ignores_ttl: share(spec.ignores_ttl),
        pinned: share(spec.pinned),
        retries: share(spec.retries),
    };
    let sum: f64 = ClientKind::ALL.iter().map(|kind| mix.of(*kind)).sum();
    if (sum - 1.0).abs() <= SLACK {
        return Ok(mix);
    }
    let message = format!(
        "the kinds of client add up to {}%, not 100%",
        (sum * 1e4).round() / 1e2
    );
    Err(at.below("clients").wrong_key(message))
}
