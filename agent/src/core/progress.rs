//! Whether a guest takes its input: since when none of what waits for it got any further.
//!
//! ```text
//!              waits, or unread                 WEDGED_AFTER without progress
//!  Nothing ──────────────────▶ Waiting(since) ─────────────────────▶ Wedged(since)
//!     ▲                         ▲  │                                   │
//!     │      some was taken or read, not all                           │
//!     │                         └──┴───────────────────────────────────┤
//!     └──────────── all was taken and read, or none waits any more ────┘
//! ```
//! Input waits in two places: with the agent, until the endpoint takes it, and behind the
//! endpoint, until QEMU reads it. The second can be seen of some endpoints only, by looking; when
//! to look is said here: never at once, since nearly all input is read by then, and a look costs
//! more than a keystroke; and not while nothing can be unread.

use std::time::{Duration, Instant};

/// How long input makes no progress for its console to count as wedged.
pub const WEDGED_AFTER: Duration = Duration::from_secs(5);

/// How long after input was taken it is looked at first, whether it was read. Then twice as long
/// each time, up to [`WEDGED_AFTER`].
pub const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Input that an endpoint took and QEMU may not have read.
#[derive(Clone, Copy, Debug)]
struct Unread {
    /// Whether a look has seen that it is unread.
    seen: bool,
    /// Since when no byte of it was read.
    since: Instant,
    /// Bytes taken less bytes unread, as of the newest look: what was read, but for a constant
    /// that bytes may change which are on the wire and were not taken (telnet's doubled 255).
    read: i128,
    looked: Instant,
    /// How long after that to look again.
    pause: Duration,
}

/// What is known of one attachment's input.
#[derive(Debug, Default)]
pub struct Progress {
    /// Since when input waits of which the endpoint took nothing.
    waits: Option<Instant>,
    taken: u64,
    unread: Option<Unread>,
}

impl Progress {
    /// Input waits for the endpoint to take it; it may have waited before.
    pub fn waits(&mut self, now: Instant) {
        self.waits.get_or_insert(now);
    }

    /// No input waits for the endpoint, be it that it was refused.
    pub const fn nothing_waits(&mut self) {
        self.waits = None;
    }

    /// The endpoint took so many bytes at `now`.
    pub fn taken(&mut self, bytes: usize, now: Instant) {
        let read = i128::from(self.taken);
        self.taken += bytes as u64;
        self.waits = None;
        self.unread.get_or_insert(Unread {
            seen: false,
            since: now,
            read,
            looked: now,
            pause: FIRST_LOOK,
        });
    }

    /// So many of the bytes that the endpoint took are unread, as was seen by looking.
    pub fn unread(&mut self, bytes: usize, now: Instant) {
        if bytes == 0 {
            self.unread = None;
            return;
        }
        let read = i128::from(self.taken) - bytes as i128;
        let before = self.unread.filter(|before| read <= before.read);
        self.unread = Some(match before {
            Some(before) => Unread {
                seen: true,
                read,
                looked: now,
                pause: (before.pause * 2).min(WEDGED_AFTER),
                ..before
            },
            None => Unread {
                seen: true,
                since: now,
                read,
                looked: now,
                pause: FIRST_LOOK,
            },
        });
    }

    /// Since when there is no progress, if that is long ago.
    pub fn wedged(&self, now: Instant) -> Option<Instant> {
        let seen = self.unread.filter(|unread| unread.seen);
        let unread = seen.map(|unread| unread.since);
        let since = [self.waits, unread].into_iter().flatten().min()?;
        (now.saturating_duration_since(since) >= WEDGED_AFTER).then_some(since)
    }

    /// When input that waits will have waited for long, if that is yet to come.
    pub fn overdue_at(&self, now: Instant) -> Option<Instant> {
        self.waits
            .map(|since| since + WEDGED_AFTER)
            .filter(|due| *due > now)
    }

    /// When to look how much is unread. `None` while nothing can be: it can only come to be by
    /// [`Progress::taken`].
    pub fn look_at(&self) -> Option<Instant> {
        let unread = self.unread?;
        let (next, overdue) = (unread.looked + unread.pause, unread.since + WEDGED_AFTER);
        let passes_over = unread.looked < overdue && overdue < next;
        Some(if passes_over { overdue } else { next })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn input_that_is_not_taken_is_wedged_in_time_and_until_some_is() {
        let start = Instant::now();
        let mut progress = Progress::default();
        assert_eq!(progress.overdue_at(start), None, "nothing to wait for");
        progress.waits(start);
        progress.waits(start + SECOND);
        let due = progress.overdue_at(start + SECOND);
        assert_eq!(due, Some(start + WEDGED_AFTER));
        assert_eq!(progress.wedged(start + WEDGED_AFTER / 2), None);
        assert_eq!(progress.wedged(start + WEDGED_AFTER), Some(start));
        let due = progress.overdue_at(start + WEDGED_AFTER);
        assert_eq!(due, None, "it is known by then");
        progress.taken(1, start + WEDGED_AFTER);
        assert_eq!(progress.wedged(start + WEDGED_AFTER), None);
    }

    #[test]
    fn input_that_stays_unread_is_wedged_however_much_more_is_taken() {
        let start = Instant::now();
        let mut progress = Progress::default();
        for second in 0..=5 {
            let now = start + second * SECOND;
            progress.taken(10, now);
            progress.unread(10 * (second as usize + 1), now);
        }
        assert_eq!(progress.wedged(start + WEDGED_AFTER), Some(start));
        progress.taken(10, start + WEDGED_AFTER);
        progress.unread(69, start + WEDGED_AFTER);
        assert_eq!(progress.wedged(start + WEDGED_AFTER), None, "one was read");
        assert_eq!(
            progress.wedged(start + WEDGED_AFTER * 2),
            Some(start + WEDGED_AFTER)
        );
    }

    #[test]
    fn what_is_unread_is_looked_at_less_and_less_and_when_it_is_overdue() {
        let start = Instant::now();
        let mut progress = Progress::default();
        assert_eq!(progress.look_at(), None);
        progress.taken(3, start);
        let mut looks = Vec::new();
        while looks.len() < 6 {
            let at = progress.look_at().expect("unread");
            looks.push((at - start).as_secs());
            progress.unread(3, at);
        }
        assert_eq!(looks, [1, 3, 5, 10, 15, 20]);
        progress.unread(0, start + 21 * SECOND);
        assert_eq!(progress.look_at(), None);
    }

    #[test]
    fn input_that_nobody_has_looked_at_is_not_wedged() {
        let start = Instant::now();
        let mut progress = Progress::default();
        progress.taken(3, start);
        progress.taken(3, start + SECOND / 2);
        assert_eq!(progress.look_at(), Some(start + FIRST_LOOK));
        let late = start + WEDGED_AFTER;
        assert_eq!(progress.wedged(late), None);
        progress.unread(6, late);
        assert_eq!(progress.wedged(late), Some(start), "none of it was read");
        progress.unread(5, late);
        assert_eq!(progress.wedged(late), None, "some was");
    }

    #[test]
    fn input_that_is_longer_on_the_wire_is_not_wedged_while_it_is_read() {
        let start = Instant::now();
        let mut progress = Progress::default();
        progress.taken(100, start);
        progress.unread(150, start + SECOND);
        progress.unread(120, start + 3 * SECOND);
        assert_eq!(progress.wedged(start + WEDGED_AFTER), None);
    }

    #[test]
    fn a_flow_of_input_is_looked_at_once_a_second() {
        let start = Instant::now();
        let mut progress = Progress::default();
        let mut looks = 0;
        for millis in 0..10_000 {
            let now = start + Duration::from_millis(millis);
            progress.taken(1, now);
            // The newest byte is always unread yet.
            if progress.look_at().is_some_and(|due| due <= now) {
                progress.unread(1, now);
                looks += 1;
            }
            assert_eq!(progress.wedged(now), None);
        }
        assert_eq!(looks, 9);
    }

    /// One thing that happens, some time after the one before.
    #[derive(Clone, Debug)]
    enum Step {
        Waits,
        NothingWaits,
        /// So many bytes are taken.
        Taken(usize),
        /// QEMU reads at most so many bytes; the reader is looked at.
        Read(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Waits),
            Just(Step::NothingWaits),
            (1_usize..100).prop_map(Step::Taken),
            (0_usize..50).prop_map(Step::Read),
        ]
    }

    proptest! {
        #[test]
        fn it_is_wedged_if_and_only_if_something_outstanding_stood_still_for_long(
            steps in prop::collection::vec((0_u64..4000, step()), 1..200)
        ) {
            let mut progress = Progress::default();
            let mut now = Instant::now();
            // Since when something stands still in each of the two places.
            let (mut waits, mut still) = (None, None);
            let (mut unread, mut to_look, mut seen) = (0, false, false);
            for (pause, step) in steps {
                now += Duration::from_millis(pause);
                match step {
                    Step::Waits => {
                        progress.waits(now);
                        waits = waits.or(Some(now));
                    }
                    Step::NothingWaits => {
                        progress.nothing_waits();
                        waits = None;
                    }
                    Step::Taken(bytes) => {
                        progress.taken(bytes, now);
                        unread += bytes;
                        to_look = true;
                        waits = None;
                        still = still.or(Some(now));
                    }
                    Step::Read(bytes) => {
                        let read = bytes.min(unread);
                        unread -= read;
                        progress.unread(unread, now);
                        (to_look, seen) = (unread > 0, unread > 0);
                        if unread == 0 {
                            still = None;
                        } else if read > 0 {
                            still = Some(now);
                        }
                    }
                }
                let oldest = [waits, still.filter(|_| seen)].into_iter().flatten().min();
                let wedged = oldest.filter(|since| now - *since >= WEDGED_AFTER);
                prop_assert_eq!(progress.wedged(now), wedged);
                prop_assert_eq!(progress.look_at().is_some(), to_look, "no look at nothing");
                prop_assert!(progress.overdue_at(now).is_none_or(|due| due > now));
            }
        }
    }
}
