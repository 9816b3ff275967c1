//! What a drill does to data, users and survivors, as files and histories say it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the verdict holds a drill to beside isolation; every part may be absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Effects {
    /// Absent: writes are judged by `lost_max` alone, as in older histories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symptom: Option<SymptomClaim>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadClaim>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harm: Option<HarmBudget>,
}

impl Effects {
    /// Nothing is asked; then a header does not name them.
    pub fn is_empty(&self) -> bool {
        *self == Effects::default()
    }
}

/// How acknowledged writes are judged: those of other cells must all be as they were left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durability {
    /// What may become of the target's; absent: not judged.
    pub target: Option<DataLimits>,
}

/// How many acknowledged writes may be wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataLimits {
    pub lost: u64,
    pub resurrected: u64,
    pub stale: u64,
}

/// When the last change of a write was acknowledged.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WritePhase {
    /// Before fire.
    Before,
    /// From fire until the last agent had confirmed its revert.
    During,
    After,
}

impl WritePhase {
    /// As people read it.
    pub fn words(self) -> &'static str {
        match self {
            WritePhase::Before => "before fire",
            WritePhase::During => "during the fault",
            WritePhase::After => "after the fault",
        }
    }
}

/// What became of the acknowledged writes of one phase; every write counts in one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteCounts {
    pub acknowledged: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub resurrected: u64,
    pub stale: u64,
    pub unread: u64,
}

/// One way in which a probe can be bad.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Symptom {
    /// No answer in time: silence.
    Timeouts,
    /// Connections refused, reset or closed without an answer.
    Resets,
    /// A status of 500 to 599: something answered and could not serve.
    ServerErrors,
    /// Any other wrong answer or error.
    WrongAnswers,
    /// The right answer, too late.
    Slow,
}

impl Symptom {
    /// All of them, in the order in which they are told.
    pub const ALL: [Symptom; 5] = [
        Symptom::Timeouts,
        Symptom::Resets,
        Symptom::ServerErrors,
        Symptom::WrongAnswers,
        Symptom::Slow,
    ];

    /// As people read it.
    pub fn words(self) -> &'static str {
        match self {
            Symptom::Timeouts => "timeouts",
            Symptom::Resets => "refused or reset",
            Symptom::ServerErrors => "5xx",
            Symptom::WrongAnswers => "wrong answers and other errors",
            Symptom::Slow => "slow answers",
        }
    }
}

/// How the target must fail for the drill to have been the one that was meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SymptomClaim {
    pub only: Vec<Symptom>,
    /// Share of the bad probes of what must be degraded that must be of these kinds, a fraction.
    pub at_least: f64,
}

/// While the fault lasts a generator sends so much more than the claim needs, that a single answer that fails does
/// not leave it without its proof.
pub const LOAD_SURPLUS: f64 = 1.05;

/// Who puts the load on the survivors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadSource {
    /// A generator of ours sends the request of this probe.
    Probe(String),
    /// Users do, as this traffic of the fleet counts them.
    Traffic(String),
}

/// What a survivor must carry for its capacity to be proved. Rates are requests per second of one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadClaim {
    #[serde(flatten)]
    pub by: LoadSource,
    /// The cells that take over, each loaded.
    pub cells: Vec<String>,
    /// Of one cell at its busiest.
    pub peak: f64,
    /// The target's share of the region's users, a fraction.
    pub share: f64,
    /// `peak / (1 - share)`, while the fault lasts.
    pub needed: f64,
}

/// One second of the load on one cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadSecond {
    pub cell: String,
    pub start_ms: u64,
    /// Requests that were due in this second.
    pub due: u32,
    /// Of these, sent in time; the others were held up on our side.
    pub sent: u32,
    /// Of these, answered as the probe expects, within its timeout.
    pub answered: u32,
}

/// What a drill may cost users, the target's included. Either limit alone ends the fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HarmBudget {
    /// Bad probes of all cells since fire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_requests: Option<u64>,
    /// The same as a share of all probes that are due from fire to the planned end, a fraction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_budget: Option<f64>,
}

/// How a user's program treats the addresses that DNS gives.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ClientKind {
    /// Keeps an address as long as its TTL says.
    HonoursTtl,
    /// Keeps the first address for ever.
    IgnoresTtl,
    /// Has one address in its configuration and never asks DNS.
    Pinned,
    /// Honours the TTL, and tries another address when the first is silent or fails.
    Retries,
}

impl ClientKind {
    /// All kinds, in the order in which they are told.
    pub const ALL: [ClientKind; 4] = [
        ClientKind::HonoursTtl,
        ClientKind::IgnoresTtl,
        ClientKind::Pinned,
        ClientKind::Retries,
    ];

    /// As people read it.
    pub fn words(self) -> &'static str {
        match self {
            ClientKind::HonoursTtl => "honours TTL",
            ClientKind::IgnoresTtl => "ignores TTL",
            ClientKind::Pinned => "pinned",
            ClientKind::Retries => "retries",
        }
    }
}

/// Shares of the kinds among an entrypoint's users, fractions that add up to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClientMix {
    pub honours_ttl: f64,
    pub ignores_ttl: f64,
    pub pinned: f64,
    pub retries: f64,
}

impl Default for ClientMix {
    /// A guess that holds some of each; a fleet that knows its users says so.
    fn default() -> ClientMix {
        ClientMix {
            honours_ttl: 0.7,
            ignores_ttl: 0.1,
            pinned: 0.1,
            retries: 0.1,
        }
    }
}

impl ClientMix {
    /// All users of one kind.
    pub fn only(kind: ClientKind) -> ClientMix {
        let share = |of| f64::from(u8::from(of == kind));
        ClientMix {
            honours_ttl: share(ClientKind::HonoursTtl),
            ignores_ttl: share(ClientKind::IgnoresTtl),
            pinned: share(ClientKind::Pinned),
            retries: share(ClientKind::Retries),
        }
    }

    /// The share of one kind, a fraction.
    pub fn of(&self, kind: ClientKind) -> f64 {
        match kind {
            ClientKind::HonoursTtl => self.honours_ttl,
            ClientKind::IgnoresTtl => self.ignores_ttl,
            ClientKind::Pinned => self.pinned,
            ClientKind::Retries => self.retries,
        }
    }
}

/// What the users of an entrypoint met in one second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsersSeen {
    /// The longest time for which an answer of this second may be kept, in seconds.
    #[serde(default)]
    pub ttl_s: u32,
    pub kinds: BTreeMap<ClientKind, UserCount>,
}

/// Requests of one kind of client, each counted once however many addresses it tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserCount {
    pub requests: u32,
    /// Failed, timed out, or slower than the entrypoint's threshold.
    pub bad: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_adds_up_to_all_users() {
        let sum = |mix: ClientMix| {
            ClientKind::ALL
                .iter()
                .map(|kind| mix.of(*kind))
                .sum::<f64>()
        };
        assert!((sum(ClientMix::default()) - 1.0).abs() < 1e-9);
        for kind in ClientKind::ALL {
            let mix = ClientMix::only(kind);
            assert!(
                (sum(mix) - 1.0).abs() < 1e-9 && mix.of(kind) > 0.5,
                "{kind:?}"
            );
        }
    }

    #[test]
    fn what_is_not_asked_is_not_written() {
        assert_eq!(serde_json::to_string(&Effects::default()).unwrap(), "{}");
        assert!(Effects::default().is_empty());
        let harm = Some(HarmBudget::default());
        assert!(
            !Effects {
                harm,
                ..Effects::default()
            }
            .is_empty()
        );
    }
}
