//! When a session ends by itself: for want of input, for its length, or because its client
//! fell silent. And when it is warned of that.
//!
//! ```text
//!            length - notice              length
//!   Quiet ───────────────────▶ Warned ───────────────▶ over
//!     ▲                          │
//!     └───── input (idle) ───────┘    the heartbeat is over without a warning
//! ```
//! It knows times as they are passed in, and does not wait for them.

use std::time::{Duration, Instant};

use super::reason::Reason;

/// How long before its end a session is warned, at most; half of the limit where that is
/// shorter.
pub const NOTICE: Duration = Duration::from_secs(60);

/// After so many intervals without a message of the client it is taken for lost.
pub const MISSED: u32 = 3;

/// How long a session may go without input, and may last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeLimits {
    /// From the last input, or the last request for the lease, on. `None`: for ever.
    pub idle: Option<Duration>,
    /// From its beginning on. `None`: for ever.
    pub duration: Option<Duration>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// There is a warning to be told: see [`Deadlines::warning`].
    Warning,
    /// The session is over, for this reason, having had this long.
    End(Reason, Duration),
}

/// One limit, and how far it got.
#[derive(Clone, Copy, Debug)]
struct Limit {
    length: Duration,
    since: Instant,
    warned: bool,
    /// Whether the warning was told, or there is none to tell.
    told: bool,
}

impl Limit {
    const fn new(length: Duration, since: Instant) -> Self {
        Self {
            length,
            since,
            warned: false,
            told: true,
        }
    }

    fn ends(&self) -> Instant {
        self.since + self.length
    }

    fn next(&self) -> Instant {
        if self.warned {
            return self.ends();
        }
        self.since + (self.length - NOTICE.min(self.length / 2))
    }

    /// Whether a warning falls due by `now`, and has not yet.
    fn warn(&mut self, now: Instant) -> bool {
        let due = !self.warned && now >= self.next();
        if due {
            self.warned = true;
            self.told = false;
        }
        due
    }

    fn take_warning(&mut self, now: Instant) -> Option<Duration> {
        let untold = !std::mem::replace(&mut self.told, true);
        untold.then(|| self.ends().saturating_duration_since(now))
    }
}

/// One session's deadlines. They outlive the stream that the session is served on.
#[derive(Clone, Debug)]
pub struct Deadlines {
    idle: Option<Limit>,
    duration: Option<Limit>,
    /// The interval of the client's heartbeat, and when it was last heard of.
    heartbeat: Option<(Duration, Instant)>,
    over: bool,
}

impl Deadlines {
    /// Those of a session that begins at `now`.
    pub fn new(limits: TimeLimits, now: Instant) -> Self {
        let limit = |length: Option<Duration>| length.map(|length| Limit::new(length, now));
        Self {
            idle: limit(limits.idle),
            duration: limit(limits.duration),
            heartbeat: None,
            over: false,
        }
    }

    /// A stream begins, at `now`, whose client sends something each `interval` at least.
    /// `None`: it promises nothing.
    pub fn set_heartbeat(&mut self, interval: Option<Duration>, now: Instant) {
        self.heartbeat = interval.map(|interval| (interval, now));
    }

    /// A message of the client came. `active`: it was input, or a request for the lease, which
    /// withdraws a warning that the session is idle.
    pub fn heard(&mut self, active: bool, now: Instant) {
        if let Some((_, heard)) = &mut self.heartbeat {
            *heard = now;
        }
        if active && let Some(idle) = &mut self.idle {
            *idle = Limit::new(idle.length, now);
        }
    }

    /// When something may be due next; `None`: never. What is heard only puts it off.
    pub fn next(&self) -> Option<Instant> {
        if self.over {
            return None;
        }
        let heartbeat = self.heartbeat.map(|(each, heard)| heard + each * MISSED);
        let idle = self.idle.as_ref().map(Limit::next);
        let duration = self.duration.as_ref().map(Limit::next);
        [heartbeat, idle, duration].into_iter().flatten().min()
    }

    /// What is due at `now`, once: an end is the last, save that of a stream whose client fell
    /// silent.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        if self.over {
            return None;
        }
        if let Some((reason, length)) = self.end(now) {
            if reason == Reason::TransportLost {
                // The stream's end, not the session's.
                self.heartbeat = None;
            } else {
                self.over = true;
            }
            return Some(Due::End(reason, length));
        }
        let idle = self.idle.as_mut().is_some_and(|limit| limit.warn(now));
        let duration = self.duration.as_mut().is_some_and(|limit| limit.warn(now));
        (idle || duration).then_some(Due::Warning)
    }

    fn end(&self, now: Instant) -> Option<(Reason, Duration)> {
        let limits = [
            (self.duration, Reason::MaxDuration),
            (self.idle, Reason::IdleTimeout),
        ];
        for (limit, reason) in limits {
            if let Some(limit) = limit.filter(|limit| now >= limit.ends()) {
                return Some((reason, limit.length));
            }
        }
        let (each, heard) = self.heartbeat?;
        let lost = now >= heard + each * MISSED;
        lost.then_some((Reason::TransportLost, each * MISSED))
    }

    /// A warning that was not told yet, with how long is left, and takes it for told.
    pub fn warning(&mut self, now: Instant) -> Option<(Reason, Duration)> {
        let limits = [
            (&mut self.duration, Reason::MaxDuration),
            (&mut self.idle, Reason::IdleTimeout),
        ];
        limits.into_iter().find_map(|(limit, reason)| {
            let left = limit.as_mut()?.take_warning(now)?;
            Some((reason, left))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn limits(idle: u64, duration: u64) -> TimeLimits {
        let some = |length| (length > 0).then_some(seconds(length));
        TimeLimits {
            idle: some(idle),
            duration: some(duration),
        }
    }

    #[test]
    fn where_there_is_no_limit_nothing_is_ever_due() {
        let now = Instant::now();
        let mut deadlines = Deadlines::new(TimeLimits::default(), now);
        deadlines.heard(true, now);
        assert_eq!(deadlines.next(), None);
        assert_eq!(deadlines.due(now + seconds(1 << 30)), None);
    }

    #[test]
    fn who_types_nothing_is_warned_and_then_ended_and_pings_are_no_typing() {
        let begin = Instant::now();
        let mut deadlines = Deadlines::new(limits(600, 0), begin);
        let at = |second| begin + seconds(second);
        deadlines.heard(true, at(100));
        deadlines.heard(false, at(500));
        assert_eq!(deadlines.next(), Some(at(640)));
        assert_eq!(deadlines.due(at(639)), None);
        assert_eq!(deadlines.due(at(640)), Some(Due::Warning));
        assert_eq!(deadlines.due(at(640)), None, "once");
        let warning = Some((Reason::IdleTimeout, seconds(58)));
        assert_eq!(deadlines.warning(at(642)), warning);
        assert_eq!(deadlines.warning(at(642)), None, "once");
        assert_eq!(deadlines.next(), Some(at(700)));
        let end = Due::End(Reason::IdleTimeout, seconds(600));
        assert_eq!(deadlines.due(at(700)), Some(end));
        assert_eq!((deadlines.next(), deadlines.due(at(900))), (None, None));
    }

    #[test]
    fn input_withdraws_the_warning_and_the_next_comes_anew() {
        let begin = Instant::now();
        let mut deadlines = Deadlines::new(limits(40, 0), begin);
        let at = |second| begin + seconds(second);
        assert_eq!(deadlines.due(at(20)), Some(Due::Warning), "half of it");
        deadlines.heard(true, at(39));
        assert_eq!(deadlines.warning(at(39)), None, "it is told no more");
        assert_eq!(deadlines.due(at(40)), None);
        assert_eq!(deadlines.due(at(59)), Some(Due::Warning));
        let warning = Some((Reason::IdleTimeout, seconds(20)));
        assert_eq!(deadlines.warning(at(59)), warning);
    }

    #[test]
    fn a_session_that_lasts_too_long_is_warned_and_ended_whatever_it_types() {
        let begin = Instant::now();
        let mut deadlines = Deadlines::new(limits(0, 3600), begin);
        let at = |second| begin + seconds(second);
        deadlines.heard(true, at(3539));
        assert_eq!(deadlines.next(), Some(at(3540)));
        assert_eq!(deadlines.due(at(3540)), Some(Due::Warning));
        let warning = Some((Reason::MaxDuration, seconds(60)));
        assert_eq!(deadlines.warning(at(3540)), warning);
        deadlines.heard(true, at(3599));
        let end = Due::End(Reason::MaxDuration, seconds(3600));
        assert_eq!(deadlines.due(at(3600)), Some(end));
    }

    #[test]
    fn three_intervals_without_a_message_are_a_loss_until_another_stream_begins() {
        let begin = Instant::now();
        let mut deadlines = Deadlines::new(limits(0, 0), begin);
        let at = |second| begin + seconds(second);
        deadlines.set_heartbeat(Some(seconds(5)), begin);
        deadlines.heard(false, at(14));
        assert_eq!(deadlines.next(), Some(at(29)));
        assert_eq!(deadlines.due(at(28)), None);
        let mut another = deadlines.clone();
        let end = Due::End(Reason::TransportLost, seconds(15));
        assert_eq!(deadlines.due(at(29)), Some(end));
        another.set_heartbeat(None, at(28));
        assert_eq!((another.next(), another.due(at(99))), (None, None));
    }

    #[test]
    fn two_warnings_that_were_not_told_are_both_told() {
        let begin = Instant::now();
        let mut deadlines = Deadlines::new(limits(100, 100), begin);
        let now = begin + seconds(60);
        assert_eq!(deadlines.due(now), Some(Due::Warning));
        let told = [deadlines.warning(now), deadlines.warning(now)];
        let reasons = told.map(|told| told.map(|(reason, _)| reason));
        let both = [Some(Reason::MaxDuration), Some(Reason::IdleTimeout)];
        assert_eq!(reasons, both);
    }

    proptest! {
        /// Whoever waits for `next`, and for nothing else, is told everything in time.
        #[test]
        fn what_is_heard_puts_the_next_deadline_off_and_an_end_comes_after_its_warning(
            idle in 0u64..200,
            duration in 0u64..400,
            heartbeat in 0u64..60,
            heard in prop::collection::vec((0u64..40, any::<bool>()), 0..40),
        ) {
            let begin = Instant::now();
            let mut deadlines = Deadlines::new(limits(idle, duration), begin);
            deadlines.set_heartbeat((heartbeat > 0).then_some(seconds(heartbeat)), begin);
            let (mut now, mut warned, mut ended) = (begin, Vec::new(), None);
            let mut heard = heard.into_iter();
            while let (Some(next), None) = (deadlines.next(), ended) {
                match heard.next() {
                    Some((after, active)) if now + seconds(after) < next => {
                        now += seconds(after);
                        prop_assert_eq!(deadlines.due(now), None, "before its time");
                        deadlines.heard(active, now);
                        prop_assert!(deadlines.next() >= Some(next));
                    }
                    _ => {
                        now = next;
                        match deadlines.due(now) {
                            Some(Due::End(reason, _)) => ended = Some(reason),
                            // Two may fall due at one time.
                            Some(Due::Warning) => {
                                warned.extend(std::iter::from_fn(|| deadlines.warning(now)));
                            }
                            None => prop_assert!(false, "nothing was due at its time"),
                        }
                    }
                }
            }
            prop_assert_eq!(ended.is_none(), idle + duration + heartbeat == 0);
            let warned = |reason| warned.iter().any(|(told, _)| *told == reason);
            if let Some(reason) = ended.filter(|it| *it != Reason::TransportLost) {
                prop_assert!(warned(reason));
            }
        }
    }
}
