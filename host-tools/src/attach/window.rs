//! The two windows of a stream, counted: input that may be sent, and output that is
//! acknowledged.
//!
//! Pure: no I/O and no clock. Refuses to repair what the agent counts wrong in silence: a
//! break is returned, to be told.

use vmconsole_proto::v1::{Gap, Position};

/// The most bytes that one Input may carry.
pub(crate) const MAX_INPUT_BYTES: usize = 65_536;

/// How many Output messages may go unacknowledged, by the interface.
pub(crate) const MAX_UNACKED_MESSAGES: u64 = 1024;

/// The most bytes of input that are sent and not acknowledged, whatever the agent's window: they
/// are kept, to be sent again if the stream breaks.
pub(crate) const MAX_KEPT_BYTES: u64 = 1 << 20;

/// Output is acknowledged after this part of the window, or of the messages.
const ACK_PART: u64 = 4;

/// After so many messages of state an acknowledgement is due, whatever was written: the agent
/// sends only so much state after the newest one. A quarter of that, or less.
pub(crate) const STATES_PER_ACK: u64 = 16;

/// What the agent did that the interface forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// Output, a gap or a generation began elsewhere than where the last one ended.
    #[error("output is not contiguous: expected {}, got {}", shown(.expected), shown(.got))]
    NotContiguous {
        /// Where it should have begun.
        expected: Position,
        /// Where it began.
        got: Position,
    },
    /// A message without a position.
    #[error("a message of the stream lacks its position")]
    NoPosition,
    /// More unacknowledged output than the window allows.
    #[error("the output window of {window} bytes or {MAX_UNACKED_MESSAGES} messages was overrun")]
    Overrun {
        /// The window.
        window: u64,
    },
    /// A session that was taken up again expects input that was never sent, or that was done
    /// with before.
    #[error("the next input is to be at {offset}, where {acked} to {sent} was possible")]
    NextInput {
        /// What came.
        offset: u64,
        /// The newest acknowledgement.
        acked: u64,
        /// What was sent.
        sent: u64,
    },
    /// An acknowledgement of input that was never sent, or behind an earlier one.
    #[error("input was acknowledged up to {offset}, where {acked} to {sent} was possible")]
    InputAck {
        /// What came.
        offset: u64,
        /// The acknowledgement before.
        acked: u64,
        /// What was sent.
        sent: u64,
    },
}

/// A position as messages show it.
fn shown(position: &Position) -> String {
    format!("{:016x}+{}", position.generation, position.offset)
}

/// Input: what may be sent now, and what is still on its way.
#[derive(Debug)]
pub(crate) struct InputWindow {
    next: u64,
    acked: u64,
    limit: u64,
}

impl InputWindow {
    /// The next byte has the offset `next`; `window` bytes from there may be sent.
    pub(crate) const fn new(next: u64, window: u64) -> Self {
        Self {
            next,
            acked: next,
            limit: next.saturating_add(window),
        }
    }

    /// How many bytes the next Input may carry; 0 while the window is closed.
    pub(crate) fn allowance(&self) -> usize {
        let left = self.limit.saturating_sub(self.next);
        let kept = self.next - self.acked;
        usize::try_from(left.min(MAX_KEPT_BYTES.saturating_sub(kept)))
            .unwrap_or(usize::MAX)
            .min(MAX_INPUT_BYTES)
    }

    /// Takes the next `bytes` offsets and returns the first.
    pub(crate) fn send(&mut self, bytes: usize) -> u64 {
        let offset = self.next;
        self.next = self.next.saturating_add(bytes as u64);
        offset
    }

    /// Takes an InputAck; returns whether it moved on.
    ///
    /// # Errors
    /// [`Fault::InputAck`] for one that fits nothing that was sent; it is not taken.
    pub(crate) fn acked(&mut self, offset: u64, window: u64) -> Result<bool, Fault> {
        if offset < self.acked || offset > self.next {
            return Err(Fault::InputAck {
                offset,
                acked: self.acked,
                sent: self.next,
            });
        }
        let moved = offset > self.acked;
        self.acked = offset;
        self.limit = offset.saturating_add(window);
        Ok(moved)
    }

    /// The session goes on by another stream, which expects the offset `next` and takes `window`
    /// bytes from there. Returns how many bytes that were sent are to be sent again.
    ///
    /// # Errors
    /// [`Fault::NextInput`] for an offset that was never sent, or is behind what was
    /// acknowledged; nothing changes.
    pub(crate) fn resumed(&mut self, next: u64, window: u64) -> Result<u64, Fault> {
        if next < self.acked || next > self.next {
            return Err(Fault::NextInput {
                offset: next,
                acked: self.acked,
                sent: self.next,
            });
        }
        let lost = self.next - next;
        self.next = next;
        self.limit = next.saturating_add(window);
        Ok(lost)
    }

    /// Up to where input is acknowledged.
    pub(crate) const fn acked_to(&self) -> u64 {
        self.acked
    }

    /// Whether everything that was sent is dealt with.
    pub(crate) const fn settled(&self) -> bool {
        self.acked == self.next
    }
}

/// Output that is dealt with, counted since the start of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dealt {
    /// Bytes of Output.
    pub(crate) bytes: u64,
    /// Output messages.
    pub(crate) messages: u64,
}

/// Output: where the next byte must be, and what is to be acknowledged.
#[derive(Debug)]
pub(crate) struct OutputWindow {
    size: u64,
    expected: Position,
    received: Dealt,
    written: Dealt,
    acked: Dealt,
    written_to: Position,
    acked_to: Position,
    /// State that came since the last acknowledgement, in messages of the usual size.
    states: u64,
    /// Whether the agent keeps to the window.
    bounded: bool,
}

impl OutputWindow {
    /// A window of `size` bytes; output begins at `start`.
    pub(crate) const fn new(size: u64, start: Position) -> Self {
        const NOTHING: Dealt = Dealt {
            bytes: 0,
            messages: 0,
        };
        let (received, written, acked) = (NOTHING, NOTHING, NOTHING);
        Self {
            size,
            expected: start,
            received,
            written,
            acked,
            written_to: start,
            acked_to: start,
            states: 0,
            bounded: true,
        }
    }

    /// Nothing is acknowledged any more, and the agent sends without a window from now on.
    /// Whoever takes its output bounds what waits.
    pub(crate) const fn unbound(&mut self) {
        self.bounded = false;
    }

    /// Output goes on by another stream, whose window is whole again, from `position`. What is
    /// still to be written of the stream before is not acknowledged any more.
    ///
    /// # Errors
    /// [`Fault::NotContiguous`] and [`Fault::NoPosition`], to be told.
    pub(crate) fn reopened(&mut self, position: Option<Position>) -> Result<(), Fault> {
        let contiguous = self.begins_at(position);
        self.acked = self.received;
        self.acked_to = self.expected;
        self.states = 0;
        contiguous
    }

    /// How many messages of output wait to be written.
    pub(crate) const fn unwritten(&self) -> u64 {
        self.received.messages - self.written.messages
    }

    /// Where the next output must begin.
    pub(crate) const fn expected(&self) -> Position {
        self.expected
    }

    /// Takes an Output of `len` bytes and goes on behind it, also where it did not fit.
    ///
    /// # Errors
    /// [`Fault::Overrun`] is fatal, as queues are sized by the window; the others are told.
    pub(crate) fn output(&mut self, position: Option<Position>, len: usize) -> Result<(), Fault> {
        self.received.bytes = self.received.bytes.saturating_add(len as u64);
        self.received.messages += 1;
        let over_bytes = self.received.bytes - self.acked.bytes > self.size;
        let over_messages = self.received.messages - self.acked.messages > MAX_UNACKED_MESSAGES;
        if self.bounded && (over_bytes || over_messages) {
            return Err(Fault::Overrun { window: self.size });
        }
        let contiguous = self.begins_at(position);
        self.expected.offset = self.expected.offset.saturating_add(len as u64);
        contiguous
    }

    /// Takes a Gap and goes on behind it.
    ///
    /// # Errors
    /// [`Fault::NotContiguous`] and [`Fault::NoPosition`], to be told.
    pub(crate) fn gap(&mut self, gap: &Gap) -> Result<(), Fault> {
        let contiguous = self.begins_at(gap.from);
        self.expected = gap.to.ok_or(Fault::NoPosition)?;
        contiguous
    }

    /// Takes a GenerationStarted. A gap may have led into the generation already.
    ///
    /// # Errors
    /// [`Fault::NotContiguous`] for a start other than 0, [`Fault::NoPosition`].
    pub(crate) fn generation(&mut self, position: Option<Position>) -> Result<(), Fault> {
        let position = position.ok_or(Fault::NoPosition)?;
        if position.generation == self.expected.generation {
            return Ok(());
        }
        let start = Position {
            generation: position.generation,
            offset: 0,
        };
        self.expected = position;
        if position == start {
            Ok(())
        } else {
            Err(Fault::NotContiguous {
                expected: start,
                got: position,
            })
        }
    }

    /// Learns that output was written out up to `position`, `dealt` in all.
    pub(crate) fn written(&mut self, position: Position, dealt: Dealt) {
        self.written_to = position;
        self.written = dealt;
    }

    /// Learns that state came, as much as `messages` of the usual size.
    pub(crate) const fn state(&mut self, messages: u64) {
        self.states = self.states.saturating_add(messages);
    }

    /// Whether an acknowledgement is due: a quarter of the window was written since the last,
    /// or [`STATES_PER_ACK`] came.
    pub(crate) const fn ack_due(&self) -> bool {
        let bytes = self.written.bytes.saturating_sub(self.acked.bytes);
        let messages = self.written.messages.saturating_sub(self.acked.messages);
        bytes >= self.size / ACK_PART
            || messages >= MAX_UNACKED_MESSAGES / ACK_PART
            || self.states >= STATES_PER_ACK
    }

    /// The acknowledgement, if one is due; it counts as sent. It may be of the same position
    /// again.
    pub(crate) fn take_ack(&mut self) -> Option<Position> {
        self.ack_due().then(|| {
            self.states = 0;
            // Else it is of the stream before.
            let (written, acked) = (self.written, self.acked);
            if written.bytes > acked.bytes || written.messages > acked.messages {
                self.acked = self.written;
                self.acked_to = self.written_to;
            }
            self.acked_to
        })
    }

    /// Compares with where it should begin, and goes on from where it does.
    fn begins_at(&mut self, position: Option<Position>) -> Result<(), Fault> {
        let got = position.ok_or(Fault::NoPosition)?;
        let expected = std::mem::replace(&mut self.expected, got);
        if got == expected {
            Ok(())
        } else {
            Err(Fault::NotContiguous { expected, got })
        }
    }
}

#[cfg(test)]
mod tests;
