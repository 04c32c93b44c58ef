//! When newly read output is shown to viewers.
//!
//! ```text
//!            append, a pause before it, or input since ──▶ show at once
//!  Settled ─ append ──▶ Pending ─ interval over, or enough bytes ──▶ Settled (shown)
//! ```
//! A 16550 hands out a few bytes a read. Shown one by one they cost a message each, and
//! a viewer that stopped reading would collect thousands of them. So the first bytes
//! after a pause are shown at once and what follows is joined, but never held for longer
//! than [`INTERVAL`]. An answer to what was typed is not made to wait: each input
//! written to the guest lets one append through.

use std::time::{Duration, Instant};

/// The longest that output is held back, and so some 200 showings a second at most.
pub const INTERVAL: Duration = Duration::from_millis(5);

/// So many bytes are shown at once, however soon they come.
pub const ENOUGH_BYTES: usize = 16 * 1024;

/// What is to be done about bytes just appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Show them now.
    Now,
    /// Show them at this time, unless they were shown before; nobody waits for that yet.
    At(Instant),
    /// Somebody waits to show them already.
    Waiting,
}

/// Decides when to show.
#[derive(Debug, Default)]
pub struct Gather {
    shown: Option<Instant>,
    pending: usize,
    answer_due: bool,
}

impl Gather {
    /// `bytes` were appended at `now`.
    pub fn appended(&mut self, bytes: usize, now: Instant) -> Show {
        let first = self.pending == 0;
        self.pending += bytes;
        let due = self.shown.map_or(now, |shown| shown + INTERVAL);
        if self.answer_due || now >= due || self.pending >= ENOUGH_BYTES {
            self.show(now);
            Show::Now
        } else if first {
            Show::At(due)
        } else {
            Show::Waiting
        }
    }

    /// All that there is is shown: nothing more will come of it.
    pub fn show_all(&mut self, now: Instant) {
        self.show(now);
    }

    /// How many of the newest bytes are not to be shown yet.
    pub const fn hidden(&self) -> usize {
        self.pending
    }

    /// Input was written to the guest: its answer is not made to wait.
    pub fn input_written(&mut self) {
        self.answer_due = true;
    }

    /// The time that [`Show::At`] named has come: whether there is anything to show.
    pub fn due(&mut self, now: Instant) -> bool {
        let any = self.pending > 0;
        if any {
            self.show(now);
        }
        any
    }

    fn show(&mut self, now: Instant) {
        self.shown = Some(now);
        self.pending = 0;
        self.answer_due = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_bytes_after_a_pause_go_at_once() {
        let mut gather = Gather::default();
        let start = Instant::now();
        assert_eq!(gather.appended(1, start), Show::Now);
        assert_eq!(gather.appended(1, start + MS), Show::At(start + INTERVAL));
        assert_eq!(gather.appended(1, start + 2 * MS), Show::Waiting);
        assert!(gather.due(start + INTERVAL));
        assert!(!gather.due(start + INTERVAL));
        assert_eq!(gather.appended(1, start + 2 * INTERVAL), Show::Now);
    }

    #[test]
    fn an_answer_to_input_goes_at_once() {
        let mut gather = Gather::default();
        let start = Instant::now();
        assert_eq!(gather.appended(1, start), Show::Now);
        gather.input_written();
        assert_eq!(gather.appended(1, start + MS / 2), Show::Now);
        assert_eq!(
            gather.appended(1, start + MS),
            Show::At(start + MS / 2 + INTERVAL)
        );
    }

    #[test]
    fn many_bytes_go_at_once() {
        let mut gather = Gather::default();
        let start = Instant::now();
        assert_eq!(gather.appended(1, start), Show::Now);
        assert_eq!(gather.appended(ENOUGH_BYTES, start), Show::Now);
    }

    proptest! {
        #[test]
        fn nothing_waits_longer_than_the_interval_and_a_flood_is_shown_some_200_times_a_second(
            steps in prop::collection::vec((0u64..4000, 1usize..18), 1..2000),
        ) {
            let mut gather = Gather::default();
            let start = Instant::now();
            let mut now = start;
            let mut timer: Option<Instant> = None;
            let mut oldest_hidden: Option<Instant> = None;
            let mut shown = 0u64;
            for (micros, bytes) in steps {
                let next = now + Duration::from_micros(micros);
                if let Some(due) = timer.filter(|due| *due <= next) {
                    timer = None;
                    if gather.due(due) {
                        shown += 1;
                        oldest_hidden = None;
                    }
                }
                now = next;
                if let Some(hidden) = oldest_hidden {
                    prop_assert!(now < hidden + INTERVAL);
                }
                match gather.appended(bytes, now) {
                    Show::Now => { shown += 1; oldest_hidden = None; }
                    Show::At(due) => { timer = Some(due); oldest_hidden = oldest_hidden.or(Some(now)); }
                    Show::Waiting => prop_assert!(timer.is_some()),
                }
            }
            let intervals = (now - start).as_micros() as u64 / INTERVAL.as_micros() as u64;
            prop_assert!(shown <= intervals + 2, "{} showings in {} intervals", shown, intervals);
        }
    }
}
