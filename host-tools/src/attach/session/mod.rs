//! One attached session as a pure machine: messages of the agent and what was typed in,
//! messages for the agent and things to do out.
//!
//! ```text
//!            typed ─▶ queue ─▶ input window ─▶ next_request ─▶ agent
//!   agent ─▶ receive ─▶ Effect::Output ─▶ (written out) ─▶ wrote ─▶ next_request (ack)
//!                    └▶ Effect::Notice, Effect::End
//!
//!   Up ── broke ──▶ Down (typing waits) ── reopened ──▶ Up
//! ```
//!
//! Refuses to know of terminals, of tokio and of the clock.

mod again;
mod lease;
mod receive;

use bytes::Bytes;
use vmconsole_proto::v1::stream_console_request::Message as Request;
use vmconsole_proto::v1::{
    ConsoleState, Detach, Input, Mode, Opened, OutputAck, Participant, Ping, Position, Roster,
};

use super::escape::EscapeKey;
use super::leaving::Leaving;
use super::notices;
use super::typed::{Typed, Undelivered};
use super::window::{Dealt, OutputWindow};
use crate::exit::Exit;
use crate::words;

pub(crate) use self::again::Again;
pub(crate) use self::lease::Claim;

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
    /// The agent has closed the stream, and another may take its place; the text says why.
    Broken(Exit, String),
    /// The agent has closed the stream.
    End(Exit),
}

/// The session.
#[derive(Debug)]
pub(crate) struct Session {
    typing: Typing,
    key: EscapeKey,
    console: String,
    id: String,
    token: Vec<u8>,
    up: bool,
    you_write: bool,
    claim: Claim,
    asked: Option<Request>,
    ping: bool,
    writer: Option<Participant>,
    epoch: u64,
    roster: Roster,
    state: ConsoleState,
    input: Typed,
    refused_to: u64,
    output: OutputWindow,
    until: Option<Position>,
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
        let session = Self {
            typing,
            key,
            console: notices::console_name(&opened),
            token: opened.resume_token.clone(),
            up: true,
            you_write: writes(&opened),
            claim: Claim::View,
            asked: None,
            ping: false,
            epoch: opened.write_epoch,
            state: console.state.unwrap_or_default(),
            // A session that is not resumed counts its input from 0 by definition.
            input: Typed::new(opened.next_input_offset.unwrap_or(0), opened.input_window),
            refused_to: 0,
            output: OutputWindow::new(window, opened.position.unwrap_or_default()),
            until: None,
            leaving: Leaving::No,
            input_ended: false,
            faults: 0,
            deaf_told: false,
            full_told: false,
            writer: console.writer,
            id: opened.session_id,
            roster: opened.roster.unwrap_or_default(),
        };
        let effects = session.first_effects();
        (session, effects)
    }

    /// Ends as soon as output has got to `head`: at once, if that is unset.
    pub(crate) fn end_at(&mut self, head: Option<Position>) -> Vec<Effect> {
        self.until = Some(head.unwrap_or_default());
        self.at_the_end().into_iter().collect()
    }

    /// Takes what was typed, escapes removed.
    pub(crate) fn typed(&mut self, bytes: Bytes) -> Vec<Effect> {
        if !self.you_write {
            let told = std::mem::replace(&mut self.deaf_told, true);
            let text = "you do not hold the writer's lease: what you type is not sent";
            return told_once(told, text);
        }
        let waiting = self.input.waiting();
        if self.typing == Typing::Terminal && waiting + bytes.len() > TERMINAL_QUEUE_BYTES {
            let told = std::mem::replace(&mut self.full_told, true);
            let text = "the guest takes no input: what you type now is dropped";
            return told_once(told, text);
        }
        self.input.push(bytes);
        Vec::new()
    }

    /// Whether more input may be handed to [`Session::typed`]. A pipe is read by who may write
    /// alone: nothing of it is to be lost.
    pub(crate) fn wants_input(&self) -> bool {
        let room = self.input.waiting() < PIPE_QUEUE_BYTES;
        match self.typing {
            Typing::Terminal => true,
            Typing::Pipe => self.you_write && room && self.leaving == Leaving::No,
            Typing::Nobody => false,
        }
    }

    /// No more will be typed.
    pub(crate) const fn input_ended(&mut self) {
        self.input_ended = true;
    }

    /// Whether all input so far was written to the guest.
    pub(crate) fn delivered(&self) -> bool {
        self.input.delivered()
    }

    /// How much was not, as far as is known.
    pub(crate) const fn undelivered(&self) -> Undelivered {
        self.input.undelivered()
    }

    /// Output was written out up to `position`, `dealt` in all.
    pub(crate) fn wrote(&mut self, position: Position, dealt: Dealt) {
        self.output.written(position, dealt);
    }

    /// Leave: what is typed and fits the window goes first.
    pub(crate) fn leave(&mut self) {
        self.leaving.want();
    }

    /// Asks the agent for a sign of life.
    pub(crate) const fn ping(&mut self) {
        self.ping = true;
    }

    /// Whether [`Session::next_request`] has something.
    pub(crate) fn has_request(&self) -> bool {
        let wanted = self.output.ack_due()
            || self.ping
            || self.asked.is_some()
            || self.may_send()
            || self.leaving == Leaving::Wanted;
        self.up && self.leaving != Leaving::Sent && wanted
    }

    /// The next message for the agent; it counts as sent.
    pub(crate) fn next_request(&mut self) -> Option<Request> {
        if !self.has_request() {
            return None;
        }
        if std::mem::take(&mut self.ping) {
            return Some(Request::Ping(Ping::default()));
        }
        if let Some(position) = self.output.take_ack() {
            return Some(Request::OutputAck(OutputAck {
                position: Some(position),
            }));
        }
        if self.may_send() {
            return self.next_input();
        }
        if let Some(asked) = self.asked.take() {
            return Some(asked);
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
        notices::help(self.key, &self.console, &writer, &self.roster, &self.id)
    }

    /// What the opening itself tells.
    fn first_effects(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.typing == Typing::Terminal {
            let text = notices::attached(&self.console, &self.id, self.key);
            effects.push(Effect::Notice(text));
        }
        if usual(&self.state) != Some(true) && self.state != ConsoleState::default() {
            effects.push(Effect::Notice(notices::state(&self.state)));
        }
        effects
    }

    /// Leaves where all output that was wanted has come.
    fn at_the_end(&self) -> Option<Effect> {
        let (until, now) = (self.until?, self.output.expected());
        let there = until.generation != now.generation || until.offset <= now.offset;
        there.then_some(Effect::Leave(Exit::Done))
    }

    fn may_send(&self) -> bool {
        self.you_write && self.input.has_next()
    }

    /// As much of what waits as fits.
    fn next_input(&mut self) -> Option<Request> {
        let (offset, data) = self.input.next()?;
        self.full_told = false;
        Some(Request::Input(Input {
            offset,
            write_epoch: self.epoch,
            data,
        }))
    }
}

/// Whether the session that was opened holds the lease.
fn writes(opened: &Opened) -> bool {
    !matches!(opened.mode(), Mode::View | Mode::Unspecified)
}

/// A notice, unless it was told before.
fn told_once(told: bool, text: &str) -> Vec<Effect> {
    match told {
        true => Vec::new(),
        false => vec![Effect::Notice(text.to_owned())],
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
