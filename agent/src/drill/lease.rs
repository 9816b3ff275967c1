//! How long a drill holds without a word from its conductor.

use std::time::Duration;

use crate::boottime::Boottime;
use crate::kernel::nft::Gate;

/// A step that ends this soon is not renewed any more: several jiffies (10 ms each at most).
const TAIL: Duration = Duration::from_millis(50);

/// A drill without a lease has no length, and no end but its deadline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    length: Option<Duration>,
    ends: Option<Boottime>,
}

impl Lease {
    pub fn begin(length: Option<Duration>) -> Self {
        let mut lease = Self { length, ends: None };
        lease.renew();
        lease
    }

    pub fn renew(&mut self) {
        self.ends = self.length.map(|length| Boottime::now().plus(length));
    }

    pub fn ends(&self) -> Option<Boottime> {
        self.ends
    }

    pub fn passed(&self) -> bool {
        self.ends.is_some_and(Boottime::passed)
    }

    /// The earlier of the lease's end and another instant.
    pub fn or(&self, other: Boottime) -> Boottime {
        self.ends.map_or(other, |ends| ends.min(other))
    }

    /// The gate of a step that begins now and has this much `left`.
    pub fn gate(&self, left: Duration) -> Gate {
        Gate::new(self.ends.map_or(left, |ends| ends.left().min(left)))
    }

    /// The gate of a step that is renewed with this much `left`; none where its own timer ends it:
    /// without a lease, and at the very end of a step. There the gate, which counts in ms and jiffies,
    /// may have closed just before the step's own timer; taking that for a lost lease would end the
    /// steps after it too.
    pub fn renewed_gate(&self, left: Duration) -> Option<Gate> {
        let length = self.length?;
        (left > TAIL).then(|| Gate::new(length.min(left)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn lease(length: u64) -> Lease {
        Lease::begin(Some(ms(length)))
    }

    #[test]
    fn a_step_at_its_end_is_not_renewed() {
        assert_eq!(lease(9_000).renewed_gate(ms(0)), None);
        assert_eq!(lease(9_000).renewed_gate(ms(3)), None);
        assert_eq!(lease(9_000).renewed_gate(ms(50)), None);
        assert_eq!(
            lease(9_000).renewed_gate(ms(51)),
            Some(Gate::from_millis(51)),
            "the gate never outlives the step"
        );
        assert_eq!(
            lease(900).renewed_gate(ms(5_000)),
            Some(Gate::from_millis(900)),
            "nor the lease"
        );
    }

    #[test]
    fn without_a_lease_only_the_step_and_the_deadline_end() {
        let none = Lease::begin(None);
        assert!(!none.passed());
        assert_eq!(none.ends(), None);
        assert_eq!(none.or(Boottime(7)), Boottime(7));
        assert_eq!(none.gate(ms(3_600_000)), Gate::from_millis(3_600_000));
        assert_eq!(
            none.renewed_gate(ms(5_000)),
            None,
            "its gate stays as it is"
        );
    }

    #[test]
    fn a_lease_that_ran_out_has_passed() {
        let mut short = lease(0);
        assert!(short.passed());
        short.length = Some(ms(60_000));
        short.renew();
        assert!(!short.passed());
        assert_eq!(short.or(Boottime(7)), Boottime(7));
        assert_eq!(short.gate(ms(100)), Gate::from_millis(100));
    }
}
