//! Alarms of cells held back while a control looks ill: the prober may be what fell.
//!
//! How soon a stream alarms depends on its baseline and rate, so when the prober loses its network a cell
//! may be some blocks before the control that shows whose fault it was.

use super::evidence::{block_is_half_bad, is_blind};
use crate::history::{Alarm, AlarmCause, Block, Stream};

/// A control is suspect for so many blocks, and a cell waits no longer for it: users may be hurt.
const HOLD_BLOCKS: u64 = 4;

#[derive(Clone, Debug, Default)]
pub(super) struct Doubt {
    /// The control that looked ill last, and when, ms.
    ill: Option<(String, u64)>,
    held: Vec<Alarm>,
}

impl Doubt {
    /// A control's block of the second that ends at `at_ms`; none: it is missing.
    pub fn look(&mut self, control: &Stream, block_ms: u64, block: Option<&Block>, at_ms: u64) {
        let well = block
            .is_some_and(|block| !is_blind(control, block_ms, block) && !block_is_half_bad(block));
        if !well {
            self.ill = Some((control.name.clone(), at_ms));
        }
    }

    /// The alarms that may be said now. A control that stays suspect ends the fault itself.
    pub fn pass(&mut self, alarms: Vec<Alarm>, block_ms: u64, at_ms: u64) -> Vec<Alarm> {
        self.held.extend(alarms);
        let Some(first) = self.held.first() else {
            return Vec::new();
        };
        let hold_ms = HOLD_BLOCKS.saturating_mul(block_ms);
        let suspect = self.ill.as_ref();
        let suspect = suspect.filter(|(_, ill_ms)| at_ms.saturating_sub(*ill_ms) < hold_ms);
        let Some((control, _)) = suspect else {
            let held = std::mem::take(&mut self.held).into_iter();
            return held.map(|alarm| Alarm { at_ms, ..alarm }).collect();
        };
        if at_ms.saturating_sub(first.at_ms) < hold_ms {
            return Vec::new();
        }
        let stream = control.clone();
        self.held.clear();
        vec![Alarm {
            at_ms,
            stream,
            cause: AlarmCause::Prober,
        }]
    }
}
