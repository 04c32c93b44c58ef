//! Waiting and ending: every wait of the task has its limit here.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::{Line, Phase};
use crate::exit::Exit;
use crate::relay::wire::Wire;

/// How long the agent may take to answer Detach.
const DETACH_WAIT: Duration = Duration::from_secs(2);

/// How long the client may take nothing once the stream is over.
const DRAIN_STALL: Duration = Duration::from_secs(60);

/// How long writing what arrived may take once the program is to stop.
const STOP_DRAIN: Duration = Duration::from_millis(500);

/// For how long a display whose client has ended may say nothing and not end, either.
const HALF_CLOSED_WAIT: Duration = Duration::from_secs(10);

/// How long it must be quiet once a serial console's client has ended and the guest took all:
/// its answer is still wanted.
const AFTER_INPUT: Duration = Duration::from_secs(1);

/// How long the guest may take nothing of what a client that has ended sent.
const INPUT_STALL: Duration = Duration::from_secs(60);

impl<W: Wire> Line<'_, W> {
    /// When [`Line::elapsed`] is due, if ever.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Leaving { until, .. } | Phase::Draining { until, .. } => Some(until),
            Phase::Ended(_) => None,
            Phase::Running if self.is_half_closed() => {
                let wait = match self.session.takes() {
                    true => HALF_CLOSED_WAIT,
                    false => DRAIN_STALL,
                };
                Some(self.times.quiet_since + wait)
            }
            Phase::Running => {
                let heartbeat = self.stream.as_ref().and_then(|stream| stream.heartbeat);
                let heartbeat = heartbeat.map(|heartbeat| Instant::from_std(heartbeat.deadline()));
                heartbeat.into_iter().chain(self.ended_deadline()).min()
            }
        }
    }

    /// When it is left because the client has ended.
    fn ended_deadline(&self) -> Option<Instant> {
        if self.session.delivered() {
            Some(self.times.quiet_since + AFTER_INPUT)
        } else {
            let stalled = self.session.undelivered();
            stalled.then(|| self.times.input_moved + INPUT_STALL)
        }
    }

    pub(super) fn elapsed(&mut self) {
        match self.phase {
            Phase::Running if self.is_half_closed() => self.elapsed_half_closed(),
            Phase::Running => self.elapsed_running(),
            Phase::Leaving { exit, .. } => self.drain(exit),
            Phase::Draining { exit, .. } => {
                if !self.times.hurried {
                    self.tell_stalled();
                }
                self.phase = Phase::Ended(exit);
            }
            Phase::Ended(_) => {}
        }
    }

    fn elapsed_half_closed(&mut self) {
        if self.session.takes() {
            self.drain(Exit::Done);
        } else {
            self.tell_stalled();
            self.phase = Phase::Ended(Exit::Done);
        }
    }

    fn tell_stalled(&self) {
        self.say
            .tell("the client takes nothing: output that had arrived is lost");
    }

    fn elapsed_running(&mut self) {
        let now = Instant::now();
        let heartbeat = self.stream.as_ref().and_then(|stream| stream.heartbeat);
        if heartbeat.is_some_and(|heartbeat| heartbeat.is_silent(now.into_std())) {
            self.broken(Exit::Broken, "the agent has fallen silent");
        } else if self.ended_deadline().is_some_and(|due| due <= now) {
            if self.session.delivered() {
                self.leave(Exit::Done);
            } else {
                let seconds = INPUT_STALL.as_secs();
                self.say
                    .tell(&format!("the guest took no input for {seconds} s"));
                self.leave(Exit::Undelivered);
            }
        }
    }

    /// Asks for a sign of life when it is time, whatever else there is to do.
    pub(super) fn beat(&mut self) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let heartbeat = stream.heartbeat.as_mut();
        if heartbeat.is_some_and(|heartbeat| heartbeat.take_ping(Instant::now().into_std())) {
            self.session.ping();
        }
    }

    /// The agent said something.
    pub(super) fn heard(&mut self) {
        let now = Instant::now();
        self.times.quiet_since = now;
        let heartbeat = self.stream.as_mut();
        if let Some(heartbeat) = heartbeat.and_then(|stream| stream.heartbeat.as_mut()) {
            heartbeat.heard(now.into_std());
        }
    }

    /// Ends our side where the client has ended its own and all of it was sent.
    pub(super) fn half_close(&mut self) {
        if self.session.half_closes() && !self.session.has_request() && !self.is_half_closed() {
            self.end_our_side();
        }
    }

    /// Says nothing to the agent from now on.
    pub(super) fn end_our_side(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.requests = None;
            self.session.half_closed();
        }
    }

    /// Whether nothing can be said to the agent any more.
    fn is_half_closed(&self) -> bool {
        let stream = self.stream.as_ref();
        stream.is_some_and(|stream| stream.requests.is_none())
    }

    /// The program is to stop.
    pub(super) fn stop(&mut self) {
        self.times.hurried = true;
        match &mut self.phase {
            Phase::Running => self.leave(Exit::Done),
            Phase::Draining { until, .. } => *until = Instant::now() + STOP_DRAIN,
            Phase::Leaving { .. } | Phase::Ended(_) => {}
        }
    }

    /// The client takes or sends no more.
    pub(super) fn client_gone(&mut self, error: &io::Error) {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        if !matches!(error.kind(), BrokenPipe | ConnectionReset) {
            self.say.tell(&format!("the client is lost: {error}"));
        }
        self.session.local_gone();
        match self.phase {
            Phase::Running => self.leave(Exit::Done),
            Phase::Draining { exit, .. } => self.phase = Phase::Ended(exit),
            Phase::Leaving { .. } | Phase::Ended(_) => {}
        }
    }

    /// Sends Detach and waits for Closed; where nothing can be sent any more, ends the stream.
    pub(super) fn leave(&mut self, exit: Exit) {
        if self.phase != Phase::Running {
            return;
        }
        if self.is_half_closed() {
            self.drain(exit);
            return;
        }
        self.session.leave();
        let until = Instant::now() + DETACH_WAIT;
        self.phase = Phase::Leaving { exit, until };
    }

    /// The stream is over. A leaving that had begun keeps its own exit.
    pub(super) fn drain(&mut self, exit: Exit) {
        let exit = match self.phase {
            Phase::Running => exit,
            Phase::Leaving { exit, .. } => exit,
            Phase::Draining { .. } | Phase::Ended(_) => return,
        };
        self.stream = None;
        self.session.local_ended();
        let wait = match self.times.hurried {
            true => STOP_DRAIN,
            false => DRAIN_STALL,
        };
        let until = Instant::now() + wait;
        self.phase = Phase::Draining { exit, until };
        self.drained(0);
    }

    /// So much was written: the end, where that was all.
    pub(super) fn drained(&mut self, bytes: usize) {
        let Phase::Draining { exit, until } = &mut self.phase else {
            return;
        };
        if self.session.pending.is_empty() {
            self.phase = Phase::Ended(*exit);
        } else if bytes > 0 && !self.times.hurried {
            *until = Instant::now() + DRAIN_STALL;
        }
    }
}
