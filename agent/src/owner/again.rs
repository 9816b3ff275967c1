//! When an agent that holds no drill tries again what it still owes.

use std::time::Duration;

use crate::boottime::Boottime;
use crate::guardian::TRIED_EVERY;
use crate::revert::Outcome;

/// To the first try; each pause is that much longer.
const FIRST: Duration = Duration::from_millis(200);
/// For so many times the length of a try the agent answers before the next one.
const ANSWERS: u32 = 4;

/// When what is still owed is tried again; an agent to which nothing is owed sleeps.
#[derive(Clone, Copy, Default)]
pub struct Again {
    pub at: Option<Boottime>,
    tries: u32,
}

impl Again {
    /// A try that took so long is not soon made again: meanwhile the agent answers nobody.
    pub fn behind(self, outcome: &Outcome, took: Duration) -> Self {
        if !outcome.owed {
            return Self::default();
        }
        let tries = self.tries.saturating_add(1);
        let pause = FIRST.saturating_mul(tries).min(TRIED_EVERY);
        let pause = pause.max(took.saturating_mul(ANSWERS));
        Self {
            at: Some(Boottime::now().plus(pause)),
            tries,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn it_is_tried_less_often_but_never_given_up_and_leaves_time_to_answer() {
        let mut owed = Outcome::default();
        owed.out_of_sight(Path::new("journal"));
        let mut again = Again::default();
        let mut last = Duration::ZERO;
        for _ in 0..200 {
            again = again.behind(&owed, Duration::ZERO);
            let left = again.at.expect("it is tried again").left();
            assert!(left <= TRIED_EVERY && left + FIRST > last, "{left:?}");
            last = left;
        }
        assert!(last > TRIED_EVERY / 2);
        let slow = again.behind(&owed, Duration::from_secs(10));
        assert!(slow.at.expect("tried").left() > Duration::from_secs(30));
        assert!(
            slow.behind(&Outcome::default(), Duration::ZERO)
                .at
                .is_none()
        );
    }
}
