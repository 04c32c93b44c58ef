//! What comes from this side: signals, and standard input with its escapes.

use std::io;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Drive, Phase};
use crate::attach::escape::{Action, KEY_PAUSE};
use crate::attach::session::{Effect, Session, Typing};
use crate::attach::signals::Asked;
use crate::exit::Exit;

impl Drive {
    pub(super) fn signal(&mut self, asked: Asked) {
        let terminal = self.parts.terminal.as_ref();
        let set = match (asked, terminal) {
            (Asked::End(number), _) => {
                let exit = Exit::Signal(number as i32 as u8);
                match self.phase {
                    Phase::Running => self.leave(exit, true),
                    // Asked twice: no more waiting.
                    _ => self.phase = Phase::Ended(exit),
                }
                return;
            }
            (Asked::Stop, Some(terminal)) => terminal.suspend(),
            (Asked::Continue, Some(terminal)) if self.phase == Phase::Running => {
                terminal.raw_again()
            }
            // On the way out the terminal is not taken again.
            (Asked::Continue, Some(_)) | (_, None) => Ok(()),
        };
        if let Err(error) = set {
            self.parts
                .screen
                .notice(format!("cannot set the terminal: {error}"));
        }
    }

    pub(super) fn read(&mut self, read: Option<io::Result<Bytes>>) {
        self.times.escape = None;
        match read {
            Some(Ok(bytes)) => match &mut self.parts.escapes {
                Some(escapes) => {
                    for action in escapes.feed(&bytes) {
                        self.act(action);
                    }
                }
                None => self.typed(bytes),
            },
            None if self.parts.typing == Typing::Pipe => {
                self.parts.reads = None;
                self.times.input_ended = true;
                self.parts.session.input_ended();
                self.times.quiet_since = Instant::now();
            }
            None => {
                self.parts.reads = None;
                self.leave(Exit::Done, true);
            }
            Some(Err(error)) => {
                self.parts.reads = None;
                self.parts
                    .screen
                    .notice(format!("cannot read standard input: {error}"));
                self.leave(Exit::Failed, true);
            }
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Send(bytes) => self.typed(bytes.into()),
            Action::Leave => self.leave(Exit::Done, true),
            Action::Help => self.parts.screen.notice(self.parts.session.help()),
            Action::Break => self.send_break(),
            Action::Ask => self.with_the_lease(Session::ask),
            Action::Release => self.with_the_lease(Session::release),
            Action::ArmTimer => self.times.escape = Some(Instant::now() + KEY_PAUSE),
        }
    }

    fn send_break(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        let text = if !self.parts.way.is_up() {
            "there is no connection: the break is not sent"
        } else if !self.parts.breaks.begin() {
            "a break is being sent: this one is not"
        } else {
            return;
        };
        self.parts.screen.notice(text.to_owned());
    }

    fn with_the_lease(&mut self, ask: impl FnOnce(&mut Session) -> Vec<Effect>) {
        if self.phase == Phase::Running {
            let effects = ask(&mut self.parts.session);
            self.apply(effects);
        }
    }

    pub(super) fn typed(&mut self, bytes: Bytes) {
        if self.phase != Phase::Running {
            return;
        }
        if self.parts.session.delivered() {
            self.times.input_moved = Instant::now();
        }
        let effects = self.parts.session.typed(bytes);
        self.apply(effects);
    }
}
