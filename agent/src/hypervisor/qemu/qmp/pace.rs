//! How fast a peer's messages are read. Pure: time is passed in.
//!
//! A guest can make its QEMU tell of every failed disk request, thousands a second, and a
//! hostile peer can send as fast as it likes. Beyond a budget for each second reading rests
//! until the second is over: nothing is lost, and QEMU keeps what waits.

use std::time::Duration;

use tokio::time::Instant;

/// How long a budget lasts.
const PERIOD: Duration = Duration::from_secs(1);
/// The most messages in it. A QEMU with 64 consoles is read whole with about 300.
pub(super) const MAX_MESSAGES: usize = 4000;
/// The most bytes in it.
pub(super) const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What is left of the budget.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    messages: usize,
    bytes: usize,
}

impl Pace {
    /// A whole budget, from `now` on.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            since: now,
            messages: 0,
            bytes: 0,
        }
    }

    /// Counts a message of `bytes` bytes, and tells until when to rest before the next.
    pub(super) fn count(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        if now.saturating_duration_since(self.since) >= PERIOD {
            *self = Self::new(now);
        }
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let spent = self.messages >= MAX_MESSAGES || self.bytes >= MAX_BYTES;
        spent.then(|| self.since + PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_period_takes_more_than_its_budget(
            messages in prop::collection::vec((1usize..1024 * 1024, 0u64..5), 1..3000),
        ) {
            let start = Instant::now();
            let (mut pace, mut now) = (Pace::new(start), start);
            let mut taken: Vec<(Duration, usize)> = Vec::new();
            for (bytes, pause) in messages {
                now += Duration::from_millis(pause);
                taken.push((now - start, bytes));
                if let Some(until) = pace.count(now, bytes) {
                    prop_assert!(until >= now && until - now <= PERIOD);
                    now = until;
                }
            }
            // Any second touches two budgets at most, each with one message too many.
            let total: usize = taken.iter().map(|(_, bytes)| bytes).sum();
            let seconds = taken.last().map_or(0, |(at, _)| at.as_secs()) as usize + 1;
            prop_assert!(total <= seconds * (MAX_BYTES + 1024 * 1024));
        }
    }

    #[test]
    fn quiet_peers_never_rest() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for second in 0..100_000u32 {
            let now = start + Duration::from_millis(10) * second;
            assert_eq!(pace.count(now, 200), None);
        }
    }
}
