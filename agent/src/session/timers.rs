//! A session's deadlines, on the clock: noted by whoever reads the client's messages, told
//! by whoever writes to it.
//!
//! They belong to the session and not to its stream: who takes a session up on another stream
//! hands them on, and its idle time and its length go on counting.

use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::clock::{at, now};
use crate::core::deadlines::{Deadlines, Due, TimeLimits};
use crate::core::reason::Reason;

/// One session's deadlines.
#[derive(Debug)]
pub(crate) struct Timers {
    deadlines: Mutex<Deadlines>,
    /// When the session is over at the latest, if it may not last for ever.
    expires: Option<SystemTime>,
}

impl Timers {
    /// Those of a session that begins now.
    pub(super) fn new(limits: TimeLimits) -> Self {
        Self {
            deadlines: Mutex::new(Deadlines::new(limits, now())),
            expires: limits.duration.map(|length| SystemTime::now() + length),
        }
    }

    /// When the session is over at the latest. `None`: it may last for ever.
    pub(super) const fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// A stream begins whose client promised a message each `heartbeat`, or did not. To be
    /// called for every stream that the session is served on.
    pub(super) fn stream_begins(&self, heartbeat: Option<Duration>) {
        self.deadlines.lock().set_heartbeat(heartbeat, now());
    }

    /// A message came. `active`: it was input, or a request for the lease.
    pub(super) fn heard(&self, active: bool) {
        let mut deadlines = self.deadlines.lock();
        // Most sessions have none, and ask for no time.
        if deadlines.next().is_some() {
            deadlines.heard(active, now());
        }
    }

    /// Waits until something is due; for ever if nothing will be.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn due(&self) -> Due {
        loop {
            let next = self.deadlines.lock().next();
            at(next).await;
            // What was heard meanwhile put it off.
            if let Some(due) = self.deadlines.lock().due(now()) {
                return due;
            }
        }
    }

    /// A warning that the client was not told yet, with how long is left.
    pub(super) fn warning(&self) -> Option<(Reason, Duration)> {
        let mut deadlines = self.deadlines.lock();
        deadlines.next()?;
        deadlines.warning(now())
    }
}

/// What a client is told at its end by a deadline that gave it this long.
pub(super) fn detail(reason: Reason, length: Duration) -> String {
    let seconds = length.as_secs();
    match reason {
        Reason::IdleTimeout => {
            format!("nothing was typed for {seconds} s (limits.idle_timeout_seconds)")
        }
        Reason::MaxDuration => {
            format!(
                "the session lasted {seconds} s, the most allowed (limits.max_duration_seconds)"
            )
        }
        _ => format!("no message came for {seconds} s, three intervals of the heartbeat"),
    }
}
