//! One relayed session as a pure machine: messages of the agent and bytes of the local
//! connection in, messages for the agent and bytes to be written out.
//!
//! ```text
//!   local ─▶ read ─▶ unsent ── input window ──▶ next_request ─▶ agent
//!   agent ─▶ receive ─▶ pending ─▶ (written) ─▶ wrote ─▶ next_request (ack)
//!
//!   Display: local end ─▶ all was sent ─▶ our side of the stream ends
//!   Serial:  local end ─▶ all was taken, and it is quiet ─▶ Detach
//! ```
//!
//! What it holds is bounded: one read beyond the input window, and the output window; once our
//! side has ended there is none, and [`Session::takes`] stands for it.
//! Refuses to know of sockets, of tokio and of the clock.

mod receive;

use std::marker::PhantomData;

use bytes::Bytes;
use vmconsole_proto::v1::ConsoleState;

use super::pending::Pending;
use super::wire::{Kind, OUTPUT_WINDOW, Opening, Wire};
use crate::attach::Wish;
use crate::attach::leaving::Leaving;
use crate::attach::notices;
use crate::attach::window::{InputWindow, MAX_INPUT_BYTES, OutputWindow};
use crate::exit::Exit;
use crate::output::printable;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Tell somebody.
    Notice(String),
    /// Leave: the agent is to be told.
    Leave(Exit),
    /// The agent has closed the stream.
    End(Exit),
}

/// The machine.
#[derive(Debug)]
pub(super) struct Session<W> {
    you_write: bool,
    epoch: u64,
    /// Whether the lease was asked for, and is waited for.
    queued: bool,
    /// Whether it goes on without the lease.
    stays: bool,
    input: InputWindow,
    /// What was read and not sent.
    unsent: Bytes,
    local_ended: bool,
    half_closed: bool,
    output: OutputWindow,
    /// What is to be written to the local connection.
    pub(super) pending: Pending,
    state: ConsoleState,
    ping: bool,
    leaving: Leaving,
    faults: u32,
    /// Whether it was told that bytes are dropped.
    deaf_told: bool,
    wire: PhantomData<fn() -> W>,
}

impl<W: Wire> Session<W> {
    /// The session that was opened, with this wish; whether it goes on as a viewer where it
    /// cannot write.
    pub(super) fn open(opening: Opening, wish: &Wish, view_otherwise: bool) -> (Self, Vec<Effect>) {
        let mut effects = vec![Effect::Notice(opened(&opening))];
        let watches = *wish == Wish::View;
        let session = Self {
            you_write: opening.writes,
            epoch: opening.epoch,
            queued: *wish == Wish::Queue && !opening.writes,
            stays: watches || view_otherwise || W::KIND == Kind::Display,
            input: InputWindow::new(opening.next_input, opening.input_window),
            unsent: Bytes::new(),
            local_ended: false,
            half_closed: false,
            output: OutputWindow::new(OUTPUT_WINDOW, opening.position),
            pending: Pending::default(),
            state: opening.console.state.unwrap_or_default(),
            ping: false,
            leaving: Leaving::No,
            faults: 0,
            deaf_told: false,
            wire: PhantomData,
        };
        if !watches && !session.you_write && !session.queued {
            let writer = opening.console.writer.as_ref();
            let text = notices::somebody_else_writes(writer);
            effects.push(Effect::Notice(text));
            effects.extend(session.without_the_lease());
        }
        (session, effects)
    }

    /// How many bytes of the local connection may be read now; with 0 it is not to be read. One
    /// read waits for the window, or the lease, so that an end right behind it is seen; a
    /// viewer's of a serial console is dropped for the same reason.
    pub(super) fn room(&self) -> usize {
        let reads = !self.local_ended && self.leaving == Leaving::No && self.unsent.is_empty();
        if reads { MAX_INPUT_BYTES } else { 0 }
    }

    /// Takes what was read: no more than [`Session::room`] said.
    pub(super) fn read(&mut self, bytes: Bytes) -> Vec<Effect> {
        if self.sends() || self.queued {
            self.unsent = bytes;
            return Vec::new();
        }
        if std::mem::replace(&mut self.deaf_told, true) {
            return Vec::new();
        }
        let text = "the lease is not held: what the client sends is dropped";
        vec![Effect::Notice(text.to_owned())]
    }

    /// The local connection says no more.
    pub(super) const fn local_ended(&mut self) {
        self.local_ended = true;
    }

    /// The local connection takes no more.
    pub(super) fn local_gone(&mut self) {
        self.local_ended = true;
        self.unsent.clear();
        self.pending.clear();
        self.leave();
    }

    /// So many bytes of [`Session::pending`] were written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.pending.wrote(bytes);
        let (position, dealt) = self.pending.progress();
        self.output.written(position, dealt);
    }

    /// Whether our side of the stream is to end: a display's client has, and all was sent.
    pub(super) fn half_closes(&self) -> bool {
        W::KIND == Kind::Display && self.all_sent() && self.leaving == Leaving::No
    }

    /// Our side of the stream has ended: nothing is acknowledged, and the agent does not wait
    /// for it any more.
    pub(super) const fn half_closed(&mut self) {
        self.half_closed = true;
        self.output.unbound();
    }

    /// Whether the agent is to be listened to. While there is an output window it bounds what
    /// waits to be written; without one, this does.
    pub(super) fn takes(&self) -> bool {
        !self.half_closed || !self.pending.is_full()
    }

    /// Whether a serial console's client has ended, and the guest took all that it sent.
    pub(super) fn delivered(&self) -> bool {
        W::KIND == Kind::Serial && self.all_sent() && self.input.settled()
    }

    /// Whether the client has ended, and what it sent is held up.
    pub(super) fn undelivered(&self) -> bool {
        self.local_ended
            && match W::KIND {
                Kind::Display => !self.unsent.is_empty(),
                Kind::Serial => !self.delivered(),
            }
    }

    /// Up to where the guest took what was sent, or it was refused.
    pub(super) const fn taken_to(&self) -> u64 {
        self.input.acked_to()
    }

    /// Asks the agent for a sign of life.
    pub(super) const fn ping(&mut self) {
        self.ping = true;
    }

    /// Leave: what was read and fits the window goes first.
    pub(super) fn leave(&mut self) {
        self.leaving.want();
    }

    /// Whether [`Session::next_request`] has something.
    pub(super) fn has_request(&self) -> bool {
        let wanted = self.ping
            || self.output.ack_due()
            || self.may_send()
            || self.leaving == Leaving::Wanted;
        wanted && self.leaving != Leaving::Sent
    }

    /// The next message for the agent; it counts as sent.
    pub(super) fn next_request(&mut self) -> Option<W::Request> {
        if !self.has_request() {
            return None;
        }
        if std::mem::take(&mut self.ping) {
            return Some(W::ping());
        }
        if let Some(position) = self.output.take_ack() {
            return Some(W::ack(position));
        }
        if self.may_send() {
            let fits = self.input.allowance().min(self.unsent.len());
            let data = self.unsent.split_to(fits);
            return Some(W::data(self.input.send(fits), self.epoch, data));
        }
        self.leaving = Leaving::Sent;
        Some(W::detach())
    }

    /// Whether the local connection's bytes go to the agent now.
    fn sends(&self) -> bool {
        self.you_write || W::KIND == Kind::Display
    }

    fn may_send(&self) -> bool {
        self.sends() && !self.unsent.is_empty() && self.input.allowance() > 0
    }

    fn all_sent(&self) -> bool {
        self.local_ended && self.unsent.is_empty()
    }

    /// What is done where another writes.
    fn without_the_lease(&self) -> Option<Effect> {
        (!self.stays && !self.queued).then_some(Effect::Leave(Exit::LeaseHeld))
    }
}

/// What is told of an opened session.
fn opened(opening: &Opening) -> String {
    let session = printable(&opening.session);
    let writes = match opening.writes {
        true => "writes",
        false => "only watches",
    };
    match opening.detail.as_str() {
        "" => format!("open as session {session}, which {writes}"),
        detail => format!("open as session {session}, which {writes} ({detail})"),
    }
}

#[cfg(test)]
mod tests;
