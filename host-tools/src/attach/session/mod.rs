//! One attached session as a pure machine: messages of the agent and what was typed in,
//! messages for the agent and things to do out.
//!
//! ```text
//!            typed ─▶ queue ─▶ input window ─▶ next_request ─▶ agent
//!   agent ─▶ receive ─▶ Effect::Output ─▶ (written out) ─▶ wrote ─▶ next_request (ack)
//!                    └▶ Effect::Notice, Effect::End
//! ```
//!
//! Refuses to know of terminals, of tokio and of the clock.

mod receive;

use std::collections::VecDeque;

use bytes::Bytes;
use vmconsole_proto::v1::stream_console_request::Message as Request;
use vmconsole_proto::v1::{
    ConsoleState, Detach, Input, Mode, Opened, OutputAck, Participant, Position,
};

use super::escape::EscapeKey;
use super::notices;
use super::window::{Dealt, InputWindow, OutputWindow};
use crate::exit::Exit;
use crate::words;

/// How many typed bytes wait for the input window at a terminal; more is dropped and told.
const TERMINAL_QUEUE_BYTES: usize = 1 << 20;

/// From how many waiting bytes on a pipe is not read.
const PIPE_QUEUE_BYTES: usize = 128 << 10;

/// Where input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Typing {
    /// A person at a terminal.
    Terminal,
    /// A program: all of it is to arrive, or the exit says that it did not.
    Pipe,
    /// Nowhere: only watching, and no terminal.
    Nobody,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Write these bytes to stdout, and report it by [`Session::wrote`] with this position.
    Output(Bytes, Position),
    /// Tell this on stderr.
    Notice(String),
    /// The guest took input.
    InputMoved,
    /// Nothing is left to be done here: leave, and end with this.
    Leave(Exit),
    /// The agent has closed the stream.
    End(Exit),
}

/// How far leaving has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    Wanted,
    Sent,
}

/// The session.
#[derive(Debug)]
pub(crate) struct Session {
    typing: Typing,
    key: EscapeKey,
    console: String,
    you_write: bool,
    writer: Option<Participant>,
    epoch: u64,
    attached: u32,
    state: ConsoleState,
    input: InputWindow,
    queue: VecDeque<Bytes>,
    queued: usize,
    output: OutputWindow,
    leaving: Leaving,
    input_ended: bool,
    faults: u32,
    deaf_told: bool,
    full_told: bool,
}

impl Session {
    /// The session that the agent opened, with an output window of `window` bytes, and what
    /// is to be told of it.
    pub(crate) fn open(
        opened: Opened,
        typing: Typing,
        key: EscapeKey,
        window: u64,
    ) -> (Self, Vec<Effect>) {
        let console = opened.console.clone().unwrap_or_default();
        let you_write = !matches!(opened.mode(), Mode::View | Mode::Unspecified);
        let session = Self {
            typing,
            key,
            console: notices::console_name(&opened),
            you_write,
            epoch: opened.write_epoch,
            attached: opened.roster.as_ref().map_or(1, |roster| roster.total),
            state: console.state.unwrap_or_default(),
            // A session that is not resumed counts its input from 0 by definition.
            input: InputWindow::new(opened.next_input_offset.unwrap_or(0), opened.input_window),
            queue: VecDeque::new(),
            queued: 0,
            output: OutputWindow::new(window, opened.position.unwrap_or_default()),
            leaving: Leaving::No,
            input_ended: false,
            faults: 0,
            deaf_told: false,
            full_told: false,
            writer: console.writer,
        };
        let effects = session.first_effects(&opened.session_id);
        (session, effects)
    }

    /// Takes what was typed, escapes removed.
    pub(crate) fn typed(&mut self, bytes: Bytes) -> Vec<Effect> {
        if !self.you_write {
            let told = std::mem::replace(&mut self.deaf_told, true);
            let text = "you do not hold the writer's lease: what you type is not sent";
            return if told {
                Vec::new()
            } else {
                vec![Effect::Notice(text.to_owned())]
            };
        }
        if self.typing == Typing::Terminal && self.queued + bytes.len() > TERMINAL_QUEUE_BYTES {
            let told = std::mem::replace(&mut self.full_told, true);
            let text = "the guest takes no input: what you type now is dropped";
            return if told {
                Vec::new()
            } else {
                vec![Effect::Notice(text.to_owned())]
            };
        }
        self.queued += bytes.len();
        self.queue.push_back(bytes);
        Vec::new()
    }

    /// Whether more input may be handed to [`Session::typed`].
    pub(crate) fn wants_input(&self) -> bool {
        match self.typing {
            Typing::Terminal => true,
            Typing::Pipe => self.queued < PIPE_QUEUE_BYTES && self.leaving == Leaving::No,
            Typing::Nobody => false,
        }
    }

    /// No more will be typed.
    pub(crate) fn input_ended(&mut self) {
        self.input_ended = true;
    }

    /// Whether all input so far was written to the guest.
    pub(crate) fn delivered(&self) -> bool {
        self.queue.is_empty() && self.input.settled()
    }

    /// Output was written out up to `position`, `dealt` in all.
    pub(crate) fn wrote(&mut self, position: Position, dealt: Dealt) {
        self.output.written(position, dealt);
    }

    /// Leave: what is typed and fits the window goes first.
    pub(crate) fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Wanted;
        }
    }

    /// Whether [`Session::next_request`] has something.
    pub(crate) fn has_request(&self) -> bool {
        self.leaving != Leaving::Sent
            && (self.output.ack_due() || self.may_send() || self.leaving == Leaving::Wanted)
    }

    /// The next message for the agent; it counts as sent.
    pub(crate) fn next_request(&mut self) -> Option<Request> {
        if self.leaving == Leaving::Sent {
            return None;
        }
        if let Some(position) = self.output.take_ack() {
            return Some(Request::OutputAck(OutputAck {
                position: Some(position),
            }));
        }
        if self.may_send() {
            return self.next_input();
        }
        (self.leaving == Leaving::Wanted).then(|| {
            self.leaving = Leaving::Sent;
            Request::Detach(Detach {})
        })
    }

    /// The text that `Enter ~ ?` shows.
    pub(crate) fn help(&self) -> String {
        let writer = match (&self.writer, self.you_write) {
            (_, true) => "you write".to_owned(),
            (Some(writer), false) => format!("{} writes", words::participant(writer)),
            (None, false) => "nobody writes".to_owned(),
        };
        notices::help(self.key, &self.console, &writer, self.attached)
    }

    /// What the opening itself tells.
    fn first_effects(&self, session_id: &str) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.typing == Typing::Terminal {
            let text = notices::attached(&self.console, session_id, self.key);
            effects.push(Effect::Notice(text));
        }
        if usual(&self.state) != Some(true) && self.state != ConsoleState::default() {
            effects.push(Effect::Notice(notices::state(&self.state)));
        }
        effects
    }

    /// Tells that somebody else writes, where writing was asked for; ends a pipe's session.
    pub(crate) fn wanted_to_write(&self) -> Vec<Effect> {
        if self.you_write {
            return Vec::new();
        }
        let mut effects = vec![Effect::Notice(notices::somebody_else_writes(
            self.writer.as_ref(),
        ))];
        if self.typing == Typing::Pipe {
            effects.push(Effect::Leave(Exit::LeaseHeld));
        }
        effects
    }

    fn may_send(&self) -> bool {
        self.you_write && !self.queue.is_empty() && self.input.allowance() > 0
    }

    /// As much of the queue's front as fits.
    fn next_input(&mut self) -> Option<Request> {
        let mut data = self.queue.pop_front()?;
        if data.len() > self.input.allowance() {
            let rest = data.split_off(self.input.allowance());
            self.queue.push_front(rest);
        }
        self.queued -= data.len();
        self.full_told = false;
        let offset = self.input.send(data.len());
        Some(Request::Input(Input {
            offset,
            write_epoch: self.epoch,
            data,
        }))
    }
}

/// Whether a state is the one that nobody needs to be told of; unset where it is unknown.
fn usual(state: &ConsoleState) -> Option<bool> {
    use vmconsole_proto::v1::{Availability, VmState};
    match (state.availability(), state.vm_state()) {
        (Availability::Unspecified, _) => None,
        (Availability::Attached | Availability::Ready, VmState::Running | VmState::Unspecified) => {
            Some(true)
        }
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests;
