//! How often the event loop turns under load. Pure.
//!
//! A guest that floods its serial port sends thousands of small messages a second. A turn for
//! each costs several times what it carries. A short pause lets them gather, so that a turn
//! takes many; what comes after a rest is never held up.

use std::time::Duration;

/// How long a pause is: the most that a byte waits because of others.
const PAUSE: Duration = Duration::from_millis(2);
/// How many turns a second go without a pause, on average. A message needs two.
const TURNS_PER_S: f64 = 1000.0;
/// How many turns may follow each other at once after a rest.
const BURST: f64 = 64.0;

/// The turns that may go without a pause.
#[derive(Debug)]
pub(super) struct Pace {
    credit: f64,
}

impl Pace {
    /// After a rest.
    pub(super) const fn new() -> Self {
        Self { credit: BURST }
    }

    /// Notes that a turn is over, `since` the one before was, and tells how long to pause.
    pub(super) fn turned(&mut self, since: Duration) -> Option<Duration> {
        self.credit = (self.credit + since.as_secs_f64() * TURNS_PER_S).min(BURST) - 1.0;
        (self.credit < 0.0).then_some(PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_comes_now_and_then_is_never_held_up() {
        let mut pace = Pace::new();
        for _ in 0..10_000 {
            assert_eq!(pace.turned(Duration::from_millis(2)), None);
            assert_eq!(pace.turned(Duration::ZERO), None);
        }
    }

    proptest! {
        #[test]
        fn a_flood_is_held_to_the_rate(micros in prop::collection::vec(0_u64..400, 1000..3000)) {
            let mut pace = Pace::new();
            let (mut now, mut since) = (Duration::ZERO, Duration::ZERO);
            for took in &micros {
                since += Duration::from_micros(*took);
                now += since;
                since = pace.turned(since).unwrap_or_default();
            }
            let most = BURST + (now + since).as_secs_f64() * TURNS_PER_S + 1.0;
            prop_assert!(micros.len() as f64 <= most);
        }
    }
}
