//! What leaves a device is delayed, lost, reordered or held back to a rate.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A root queueing discipline of ours on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QdiscChange {
    pub device: String,
    pub shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    Netem(Netem),
    Tbf(Tbf),
    /// Only packets to these peers: at most this rate, and through the netem if there is one.
    Towards {
        peers: Vec<IpNet>,
        rate_bps: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        netem: Option<Netem>,
    },
}

/// `tc-netem(8)`; shares are in parts per million so that a plan has no floats.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Netem {
    pub delay_us: u32,
    pub jitter_us: u32,
    pub loss_ppm: u32,
    pub duplicate_ppm: u32,
    pub corrupt_ppm: u32,
    /// Of packets that are sent at once, before the delayed ones; needs a delay.
    pub reorder_ppm: u32,
    /// Bits per second; 0 is no limit.
    pub rate_bps: u64,
}

/// A token bucket, `tc-tbf(8)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tbf {
    /// Bits per second.
    pub rate_bps: u64,
    pub burst_bytes: u32,
    /// How long a packet may wait before it is dropped.
    pub latency_us: u32,
}

impl QdiscChange {
    pub fn summary(&self) -> String {
        let device = &self.device;
        match &self.shape {
            Shape::Netem(netem) => format!("what leaves {device}: {}", netem.words()),
            Shape::Tbf(tbf) => format!("what leaves {device}: at most {} bit/s", tbf.rate_bps),
            Shape::Towards {
                peers,
                rate_bps,
                netem,
            } => {
                let also = netem.as_ref().map(Netem::words).unwrap_or_default();
                let comma = if also.is_empty() { "" } else { ", " };
                format!(
                    "what leaves {device} towards {} prefixes: at most {rate_bps} bit/s{comma}{also}",
                    peers.len()
                )
            }
        }
    }
}

impl Netem {
    fn words(&self) -> String {
        let share = |name: &str, ppm: u32| {
            (ppm > 0).then(|| format!("{name} {} %", f64::from(ppm) / 10_000.0))
        };
        let time = |name: &str, us: u32| {
            (us > 0).then(|| format!("{name} {} ms", f64::from(us) / 1_000.0))
        };
        let rate = (self.rate_bps > 0).then(|| format!("rate {} bit/s", self.rate_bps));
        let words = [
            time("delay", self.delay_us),
            time("jitter", self.jitter_us),
            share("loss", self.loss_ppm),
            share("duplicate", self.duplicate_ppm),
            share("corrupt", self.corrupt_ppm),
            share("reorder", self.reorder_ppm),
            rate,
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}
