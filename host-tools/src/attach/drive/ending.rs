//! Waiting and ending: every wait of the task has its limit here.

use std::time::Duration;

use tokio::time::Instant;

use super::{Drive, Phase, Way};
use crate::attach::escape::Escapes;
use crate::attach::session::Typing;
use crate::exit::Exit;
use crate::output::tell_unless_stuck;

/// How long the agent may take to answer Detach.
const DETACH_WAIT: Duration = Duration::from_secs(2);

/// How long output that has arrived may take to be written once the user has left; then it
/// is dropped, and what is being written may take as long again.
const LEAVE_DRAIN: Duration = Duration::from_millis(500);

/// How long stdout may take nothing once the stream has ended otherwise.
pub(super) const DRAIN_STALL: Duration = Duration::from_secs(60);

/// How long the guest may take nothing of a pipe's input.
const INPUT_STALL: Duration = Duration::from_secs(60);

impl Drive {
    /// When [`Drive::elapsed`] is due, if ever.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        match self.phase {
            Phase::Leaving { until, .. } | Phase::Draining { until, .. } => Some(until),
            Phase::Running | Phase::Ended(_) => self
                .times
                .escape
                .into_iter()
                .chain(self.pipe_deadline())
                .chain(self.outage_deadline())
                .chain(self.heartbeat_deadline())
                .min(),
        }
    }

    /// When trying to get another stream is given up.
    fn outage_deadline(&self) -> Option<Instant> {
        self.parts.reconnect.deadline().map(Instant::from_std)
    }

    /// When the agent is to be asked for a sign of life, or has given none.
    fn heartbeat_deadline(&mut self) -> Option<Instant> {
        let heartbeat = self.parts.way.heartbeat();
        heartbeat.map(|heartbeat| Instant::from_std(heartbeat.deadline()))
    }

    /// When a pipe's session is over, or given up.
    fn pipe_deadline(&self) -> Option<Instant> {
        if self.parts.typing != Typing::Pipe || !self.parts.way.is_up() {
            return None;
        }
        if !self.parts.session.delivered() {
            return Some(self.times.input_moved + INPUT_STALL);
        }
        self.times
            .input_ended
            .then(|| self.times.quiet_since + self.times.linger)
    }

    pub(super) fn elapsed(&mut self) {
        match self.phase {
            Phase::Running => self.elapsed_running(),
            Phase::Leaving { exit, .. } => self.drain(exit),
            Phase::Draining {
                exit,
                hurried: true,
                discarded: false,
                ..
            } => {
                self.parts.screen.discard_output();
                let until = Instant::now() + LEAVE_DRAIN;
                self.phase = Phase::Draining {
                    exit,
                    until,
                    hurried: true,
                    discarded: true,
                };
            }
            Phase::Draining {
                exit,
                hurried: true,
                ..
            } => self.phase = Phase::Ended(exit),
            Phase::Draining { .. } => {
                tell_unless_stuck("standard output takes nothing: output that had arrived is lost");
                self.phase = Phase::Ended(Exit::Failed);
            }
            Phase::Ended(_) => {}
        }
    }

    fn elapsed_running(&mut self) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        if due(self.times.escape) {
            self.times.escape = None;
            if let Some(action) = self.parts.escapes.as_mut().and_then(Escapes::elapsed) {
                self.act(action);
            }
        } else if self.is_silent() {
            self.broken(Exit::Broken, "the agent has fallen silent".to_owned());
        } else if due(self.outage_deadline()) {
            let seconds = self.parts.reconnect.limit().as_secs_f64();
            let text = format!("gave up after {seconds} s without a connection");
            self.give_up(text, Exit::Broken);
        } else if due(self.pipe_deadline()) && self.parts.session.delivered() {
            self.leave(Exit::Done, false);
        } else if due(self.pipe_deadline()) {
            let text = format!("the guest took no input for {} s", INPUT_STALL.as_secs());
            self.parts.screen.notice(text);
            self.leave(Exit::Undelivered, false);
        }
    }

    /// Sends Detach and waits for Closed. `hurried` where somebody waits to be let go.
    pub(super) fn leave(&mut self, exit: Exit, hurried: bool) {
        match &mut self.phase {
            Phase::Running if !self.parts.way.is_up() => {
                let until = Instant::now();
                self.phase = Phase::Leaving {
                    exit,
                    until,
                    hurried,
                };
                self.tell_undelivered();
                self.drain(exit);
            }
            Phase::Running => {
                self.parts.session.leave();
                let until = Instant::now() + DETACH_WAIT;
                self.phase = Phase::Leaving {
                    exit,
                    until,
                    hurried,
                };
            }
            Phase::Draining {
                hurried: now_hurried @ false,
                until,
                ..
            } if hurried => {
                *now_hurried = true;
                *until = Instant::now() + LEAVE_DRAIN;
            }
            Phase::Leaving { .. } | Phase::Draining { .. } | Phase::Ended(_) => {}
        }
    }

    /// The stream is over. A leaving that had begun keeps its own exit.
    pub(super) fn drain(&mut self, exit: Exit) {
        let (exit, hurried) = match self.phase {
            Phase::Running => (exit, false),
            Phase::Leaving { exit, hurried, .. } => (exit, hurried),
            Phase::Draining { .. } | Phase::Ended(_) => return,
        };
        if self.parts.typing == Typing::Terminal && exit == Exit::Done {
            self.parts.screen.notice("detached".to_owned());
        }
        self.parts.way = Way::Over;
        self.parts.screen.finish();
        let wait = if hurried { LEAVE_DRAIN } else { DRAIN_STALL };
        let until = Instant::now() + wait;
        self.phase = Phase::Draining {
            exit,
            until,
            hurried,
            discarded: false,
        };
    }
}
