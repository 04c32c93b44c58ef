//! The task that drives an attached session: keys, signals, output and the stream.
//!
//! ```text
//!   Running ── escape, signal, end of a pipe ──▶ Leaving ── Closed, or 2 s ──▶ Draining
//!      └────── Closed, or a broken stream that no other replaces ────────────▶ Draining
//!   Draining ── all is written, or the time for it is up ──▶ Ended
//! ```
//!
//! Refuses to decide anything about the stream itself: that is the session's.

mod ending;
mod input;
mod way;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tonic::Status;
use vmconsole_proto::v1::{StreamConsoleRequest, StreamConsoleResponse};

use self::ending::DRAIN_STALL;
use self::way::News;
pub(super) use self::way::{Dialer, Way};
use super::breaks::Breaks;
use super::escape::Escapes;
use super::keyboard::Reads;
use super::notices;
use super::reconnect::{Reconnect, Trouble};
use super::screen::{Progress, Screen};
use super::session::{Effect, Session, Typing};
use super::signals::Signals;
use super::terminal::RawTerminal;
use crate::exit::Exit;
use crate::output::tell_unless_stuck;
use crate::refusal::Refusal;

/// Where the task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Detach is sent, or about to be.
    Leaving {
        exit: Exit,
        until: Instant,
        hurried: bool,
    },
    /// The stream is over; output is still being written.
    Draining {
        exit: Exit,
        until: Instant,
        hurried: bool,
        discarded: bool,
    },
    Ended(Exit),
}

/// Times that matter while running.
#[derive(Debug)]
struct Times {
    /// When a held escape key means leaving.
    escape: Option<Instant>,
    /// Since when nothing was said in either direction.
    quiet_since: Instant,
    /// When the guest last took input, or input began to wait.
    input_moved: Instant,
    /// How long it must be quiet after the end of a pipe.
    linger: Duration,
    /// Whether the pipe is at its end.
    input_ended: bool,
    /// Since when there is no stream, if there is none.
    down_since: Instant,
}

/// What the task works with.
pub(super) struct Parts {
    /// The session that was opened.
    pub(super) session: Session,
    /// Where input comes from.
    pub(super) typing: Typing,
    /// Escapes, at a terminal.
    pub(super) escapes: Option<Escapes>,
    /// The raw terminal, if there is one.
    pub(super) terminal: Option<RawTerminal>,
    /// Stdin, if it is read.
    pub(super) reads: Option<Reads>,
    /// Stdout and stderr.
    pub(super) screen: Screen,
    /// Signals.
    pub(super) signals: Signals,
    /// The way to the agent.
    pub(super) way: Way,
    /// How others are opened.
    pub(super) dialer: Dialer,
    /// Beside the stream.
    pub(super) breaks: Breaks,
    /// When others are opened.
    pub(super) reconnect: Reconnect,
    /// How long it must be quiet after the end of a pipe.
    pub(super) linger: Duration,
}

/// The task.
pub(super) struct Drive {
    parts: Parts,
    times: Times,
    phase: Phase,
}

impl Drive {
    /// A task that has not begun; `effects` are what opening the session asked for.
    pub(super) fn new(parts: Parts, effects: Vec<Effect>) -> Self {
        let now = Instant::now();
        let linger = parts.linger;
        let times = Times {
            escape: None,
            quiet_since: now,
            input_moved: now,
            linger,
            input_ended: false,
            down_since: now,
        };
        let mut drive = Self {
            parts,
            times,
            phase: Phase::Running,
        };
        drive.apply(effects);
        drive
    }

    /// Runs to the end. The terminal is put back when the future is done or dropped.
    pub(super) async fn run(mut self) -> Exit {
        loop {
            if let Phase::Ended(exit) = self.phase {
                return exit;
            }
            self.beat();
            let until = self.deadline();
            let parts = &mut self.parts;
            let open = !matches!(self.phase, Phase::Draining { .. });
            let wants_room = parts.session.has_request();
            // In order of urgency: leaving comes before showing, and showing before reading
            // more. None of them can occupy the loop: each waits for its own far end.
            tokio::select! {
                biased;
                asked = parts.signals.next() => self.signal(asked),
                read = next_read(&mut parts.reads), if parts.session.wants_input() => self.read(read),
                progress = parts.screen.progress() => self.progressed(progress),
                news = parts.way.news(wants_room) => self.news(news),
                outcome = parts.breaks.outcome(), if open => self.broke(outcome),
                () = sleep_until_some(until) => self.elapsed(),
            }
        }
    }

    fn news(&mut self, news: News) {
        match news {
            News::Room(room) => self.send(room),
            News::Message(message) => {
                self.heard();
                self.message(message);
            }
            News::Dialed(dialed) => self.dialed(*dialed),
        }
    }

    /// Sends one message. Where the agent reads no more, what it says last tells why.
    fn send(&mut self, room: bool) {
        let Way::Up { stream, sending } = &mut self.parts.way else {
            return;
        };
        *sending = room;
        if let Ok(permit) = stream.requests.try_reserve()
            && let Some(message) = self.parts.session.next_request()
        {
            permit.send(StreamConsoleRequest {
                message: Some(message),
            });
        }
    }

    /// A break that was sent is told by the agent, to everybody who is attached.
    fn broke(&mut self, outcome: Result<(), Refusal>) {
        if let Err(refusal) = outcome {
            self.parts.screen.notice(notices::no_break(&refusal));
        }
    }

    fn progressed(&mut self, progress: Option<Progress>) {
        let Some(progress) = progress else {
            // The writer has ended: as it was told to, or by a fault of its own.
            let exit = match self.phase {
                Phase::Draining { exit, .. } | Phase::Ended(exit) => exit,
                Phase::Running | Phase::Leaving { .. } => Exit::Failed,
            };
            self.phase = Phase::Ended(exit);
            return;
        };
        match progress.failed {
            // Whoever read stdout has left, and so do we.
            Some(io::ErrorKind::BrokenPipe) => self.leave(Exit::Done, true),
            Some(kind) => self.stdout_failed(kind),
            None => {
                self.parts.session.wrote(progress.position, progress.dealt);
                if self.phase == Phase::Running && matches!(self.parts.way, Way::Waiting) {
                    self.dial(Duration::ZERO);
                }
            }
        }
        if let Phase::Draining {
            until,
            hurried: false,
            ..
        } = &mut self.phase
        {
            *until = Instant::now() + DRAIN_STALL;
        }
    }

    /// Output is being lost on this side.
    fn stdout_failed(&mut self, kind: io::ErrorKind) {
        let text = format!("cannot write to standard output: {kind}");
        match &mut self.phase {
            Phase::Running => {
                self.parts.screen.notice(text);
                self.leave(Exit::Failed, true);
            }
            Phase::Draining {
                exit: exit @ Exit::Done,
                hurried: false,
                ..
            } => {
                tell_unless_stuck(&text);
                *exit = Exit::Failed;
            }
            Phase::Leaving { .. } | Phase::Draining { .. } | Phase::Ended(_) => {}
        }
    }

    fn message(&mut self, message: Result<Option<StreamConsoleResponse>, Status>) {
        match message {
            // A message that this version does not know is passed over.
            Ok(Some(StreamConsoleResponse { message: None })) => {}
            Ok(Some(StreamConsoleResponse {
                message: Some(message),
            })) => {
                let effects = self.parts.session.receive(message);
                self.apply(effects);
            }
            ended => self.stream_ended(ended),
        }
    }

    /// The stream is over without a Closed.
    fn stream_ended(&mut self, end: Result<Option<StreamConsoleResponse>, Status>) {
        let (exit, text, trouble) = match end {
            Ok(_) => (
                Exit::Broken,
                "the agent ended the stream without a word".to_owned(),
                Trouble::Passing,
            ),
            Err(status) => {
                let refusal = Refusal::new(&status);
                (
                    refusal.exit_after_open(),
                    format!("the stream broke: {refusal}"),
                    Trouble::of_refusal(&refusal),
                )
            }
        };
        if trouble == Trouble::Passing {
            self.broken(exit, text);
            return;
        }
        if self.phase == Phase::Running {
            self.parts.screen.notice(text);
        }
        self.drain(exit);
    }

    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Output(bytes, position) => {
                    self.times.quiet_since = Instant::now();
                    if self.parts.screen.output(bytes, position).is_err() {
                        self.drain(Exit::Failed);
                    }
                }
                Effect::Notice(text) => self.parts.screen.notice(text),
                Effect::InputMoved => {
                    self.times.quiet_since = Instant::now();
                    self.times.input_moved = self.times.quiet_since;
                }
                Effect::Leave(exit) => self.leave(exit, false),
                Effect::Broken(exit, why) => self.broken(exit, why),
                Effect::End(exit) => self.drain(exit),
            }
        }
    }
}

/// The next read of stdin, if it is read at all.
async fn next_read(reads: &mut Option<Reads>) -> Option<io::Result<Bytes>> {
    match reads {
        Some(reads) => reads.recv().await,
        None => std::future::pending().await,
    }
}

/// Sleeps until then, or for good.
pub(crate) async fn sleep_until_some(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
