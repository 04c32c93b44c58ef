//! When a broken stream is opened again, and when that is given up: a pure machine, to which
//! the time and chance are told.
//!
//! ```text
//!   Up ── broken ──▶ Down ── after a wait, an attempt ──▶ opened ──▶ Up
//!    ▲                ▲ └────── failed, again ──────┘
//!    │                └─ the limit is up, or a refusal that stays ──▶ over
//!    └─ a stream that outlasts the wait before it begins the count anew
//! ```
//!
//! Refuses to try for longer than its limit, and more often than its waits allow, also where
//! each stream breaks as soon as it is open.

use std::time::{Duration, Instant};

use vmconsole_proto::v1::{Closed, Reason};

use crate::refusal::Refusal;

/// The longest wait before the first attempt.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest wait before any attempt.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// How long an agent that answers may refuse with what is true of one that has just started:
/// that it knows no such VM, for instance.
const SETTLE: Duration = Duration::from_secs(15);

/// What became of an attempt, or how a stream ended, as far as trying again is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It may pass.
    Passing,
    /// It passes soon, or stays: an agent that has just started says so too.
    Settling,
    /// The session cannot be taken up again; a new one may be opened.
    SessionOver,
    /// It stays.
    Lasting,
}

impl Trouble {
    /// Of a Closed.
    pub(crate) fn of_closed(closed: &Closed) -> Self {
        match closed.reason() {
            Reason::TransportLost | Reason::AgentDraining | Reason::EndpointLost
                if closed.retryable =>
            {
                Self::Passing
            }
            _ => Self::Lasting,
        }
    }

    /// Of a status, in the place of an answer or at the end of a stream.
    pub(crate) fn of_refusal(refusal: &Refusal) -> Self {
        match refusal.reason() {
            Some(Reason::TransportLost | Reason::AgentDraining | Reason::EndpointLost) => {
                Self::Passing
            }
            Some(Reason::ResumeRefused) => Self::SessionOver,
            Some(Reason::NotFound | Reason::NotRunning) => Self::Settling,
            Some(_) => Self::Lasting,
            None if refusal.may_pass() => Self::Passing,
            None => Self::Lasting,
        }
    }
}

/// A time without a stream that lasts.
#[derive(Clone, Copy, Debug)]
struct Outage {
    since: Instant,
    attempts: u32,
    /// The wait before the newest attempt.
    waited: Duration,
    /// When the agent first answered.
    answered: Option<Instant>,
    /// Since when a stream is up that has to show that it lasts.
    up: Option<Instant>,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Reconnect {
    limit: Duration,
    outage: Option<Outage>,
}

impl Reconnect {
    /// While a stream is up. An outage is given up after `limit`; zero for never trying.
    pub(crate) const fn new(limit: Duration) -> Self {
        Self {
            limit,
            outage: None,
        }
    }

    /// How long an outage may last.
    pub(crate) const fn limit(&self) -> Duration {
        self.limit
    }

    /// The stream broke: how long to wait before the first attempt; `None` for giving up.
    /// `chance` is any number, for the jitter.
    pub(crate) fn broken(&mut self, now: Instant, chance: u32) -> Option<Duration> {
        let outage = self.outage.filter(|outage| {
            let up = outage.up.map(|up| now.saturating_duration_since(up));
            up.is_some_and(|up| up <= outage.waited.max(FIRST_WAIT))
        });
        self.outage = Some(Outage {
            up: None,
            ..outage.unwrap_or(Outage {
                since: now,
                attempts: 0,
                waited: Duration::ZERO,
                answered: None,
                up: None,
            })
        });
        self.next_wait(now, chance)
    }

    /// An attempt failed: how long to wait before the next; `None` for giving up.
    pub(crate) fn failed(
        &mut self,
        now: Instant,
        trouble: Trouble,
        chance: u32,
    ) -> Option<Duration> {
        let outage = self.outage.as_mut()?;
        match trouble {
            Trouble::Lasting => None,
            Trouble::Passing | Trouble::SessionOver => self.next_wait(now, chance),
            Trouble::Settling => {
                let answered = *outage.answered.get_or_insert(now);
                let settled = now.saturating_duration_since(answered) > SETTLE;
                if settled {
                    return None;
                }
                self.next_wait(now, chance)
            }
        }
    }

    /// A stream is open.
    pub(crate) const fn opened(&mut self, now: Instant) {
        if let Some(outage) = &mut self.outage {
            outage.up = Some(now);
            outage.answered = None;
        }
    }

    /// When the outage is to be given up, while no stream is up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let outage = self.outage.as_ref().filter(|outage| outage.up.is_none())?;
        outage.since.checked_add(self.limit)
    }

    /// Twice as long as the one before, from half of that to all of it, as chance has it.
    fn next_wait(&mut self, now: Instant, chance: u32) -> Option<Duration> {
        let outage = self.outage.as_mut()?;
        let lasted = now.saturating_duration_since(outage.since);
        if lasted >= self.limit {
            return None;
        }
        let doubled = 1u32.checked_shl(outage.attempts).unwrap_or(u32::MAX);
        let longest = FIRST_WAIT.saturating_mul(doubled).min(MAX_WAIT);
        let half = longest / 2;
        let part = f64::from(chance) / f64::from(u32::MAX);
        outage.attempts = outage.attempts.saturating_add(1);
        outage.waited = (half + half.mul_f64(part)).min(self.limit - lasted);
        Some(outage.waited)
    }
}

#[cfg(test)]
mod tests;
