//! Signs of life over a stream, since HTTP/2's own are answered by the nearest hop: a pure
//! machine, to which the time is told.
//!
//! Refuses to take the agent for dead while it says anything at all.

use std::time::{Duration, Instant};

/// How often the agent is asked for one.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// After so many intervals without any message the stream counts as broken.
const MISSED: u32 = 3;

/// The machine of one stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heartbeat {
    interval: Duration,
    heard: Instant,
    pinged: Instant,
}

impl Heartbeat {
    /// Of a stream that was just opened.
    pub(crate) const fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            heard: now,
            pinged: now,
        }
    }

    /// The agent said something.
    pub(crate) const fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Whether a Ping is due; it counts as sent.
    pub(crate) fn take_ping(&mut self, now: Instant) -> bool {
        let due = now.saturating_duration_since(self.pinged) >= self.interval;
        if due {
            self.pinged = now;
        }
        due
    }

    /// Whether the agent has fallen silent.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= self.interval * MISSED
    }

    /// When to look again.
    pub(crate) fn deadline(&self) -> Instant {
        (self.pinged + self.interval).min(self.heard + self.interval * MISSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_come_at_their_interval_and_silence_is_three_of_them() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut heartbeat = Heartbeat::new(INTERVAL, begun);
        assert!(!heartbeat.take_ping(at(9)));
        assert_eq!(heartbeat.deadline(), at(10));
        assert!(heartbeat.take_ping(at(10)) && !heartbeat.take_ping(at(11)));
        assert!(heartbeat.take_ping(at(20)));
        assert_eq!(heartbeat.deadline(), at(30));
        assert!(!heartbeat.is_silent(at(29)) && heartbeat.is_silent(at(30)));
        heartbeat.heard(at(29));
        assert!(!heartbeat.is_silent(at(58)) && heartbeat.is_silent(at(59)));
    }
}
