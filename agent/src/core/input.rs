//! A session's input on its way to the guest, counted to the byte.
//!
//! ```text
//!   push            begin_write             settle(n, m): n bytes were taken
//!  ──────▶ pending ─────────────▶ in flight ─────────────────────────────▶ done (written)
//!     │       │   ▲                 │  ▲ │
//!     │       │   │                 │  └─┘ m more are on their way
//!     │       │   └── the rest ─────┤
//!     │       │ refuse_pending      │ the rest, if refused meanwhile, or if nobody will know
//!     └───────┴─────────────────────┴─────────────────────────────────────▶ done (refused)
//! ```
//! Every byte has an offset and ends up written or refused, once. Whether the session may
//! write is not decided here.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

use super::lease::Epoch;
use super::reason::Reason;

/// How many bytes a client may send beyond what is done with.
pub const INPUT_WINDOW: u64 = 64 * 1024;

/// The most refused stretches that wait to be told to a client. Neighbours with one
/// reason count as one; a client that collects more does not read its answers.
pub const MAX_REFUSED: usize = 64;

/// Input that was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The first byte's offset.
    pub from: u64,
    /// The offset after the last byte.
    pub to: u64,
    /// Why.
    pub reason: Reason,
}

/// What a client did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Bytes are missing before these.
    #[error("input at offset {offset} came where {expected} was expected")]
    Ahead {
        /// The offset that came.
        offset: u64,
        /// The offset that was due.
        expected: u64,
    },
    /// More bytes than the window allows.
    #[error("input up to offset {end} passes the window, which ends at {limit}")]
    PastWindow {
        /// Where the input would have ended.
        end: u64,
        /// Where the window ends.
        limit: u64,
    },
    /// Too many refusals that the client has not read.
    #[error("too many refusals of input wait to be read")]
    Unread,
}

/// The most stretches of waiting input with refused input between them. A client that
/// makes more sends under a wrong epoch and a right one in turn.
pub const MAX_STRETCHES: usize = 64;

/// Neighbouring bytes that wait.
#[derive(Debug)]
struct Stretch {
    from: u64,
    bytes: BytesMut,
    epoch: Epoch,
}

impl Stretch {
    fn end(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }
}

/// A session's input. Holds at most [`INPUT_WINDOW`] bytes.
#[derive(Debug, Default)]
pub struct InputQueue {
    /// The offset after the last byte that came.
    received: u64,
    /// What is in flight, and then what waits. No stretch is empty.
    pending: VecDeque<Stretch>,
    /// How much of the first stretch is being written.
    in_flight: usize,
    /// What of the bytes below this offset is not in flight any more is refused, not written.
    refuse_below: Option<(u64, Reason)>,
    refused: Vec<Refused>,
    /// The refusals that were told last, at most [`MAX_REFUSED`], oldest first.
    told: VecDeque<Refused>,
    /// Those of them that are to be told again.
    again: Vec<Refused>,
}

impl InputQueue {
    /// The offset that the next byte must have.
    pub const fn expected(&self) -> u64 {
        self.received
    }

    /// How many bytes beyond [`InputQueue::expected`] may be sent.
    pub fn window(&self) -> u64 {
        INPUT_WINDOW.saturating_sub(self.received - self.done())
    }

    /// Every byte below was written or refused.
    pub fn done(&self) -> u64 {
        self.pending
            .front()
            .map_or(self.received, |first| first.from)
    }

    /// Takes what a client sent. What it had sent before is dropped; the rest waits, or is
    /// refused if `verdict` says so.
    ///
    /// # Errors
    /// [`InputError`]; the session is over then.
    pub fn push(
        &mut self,
        offset: u64,
        epoch: Epoch,
        bytes: &[u8],
        verdict: Result<(), Reason>,
    ) -> Result<(), InputError> {
        let expected = self.received;
        let had = expected
            .checked_sub(offset)
            .ok_or(InputError::Ahead { offset, expected })?;
        let had = usize::try_from(had).unwrap_or(usize::MAX).min(bytes.len());
        let new = &bytes[had..];
        let (end, limit) = (expected + new.len() as u64, self.done() + INPUT_WINDOW);
        if end > limit {
            return Err(InputError::PastWindow { end, limit });
        }
        if new.is_empty() {
            return Ok(());
        }
        if self.refused.len() >= MAX_REFUSED || self.pending.len() >= MAX_STRETCHES {
            return Err(InputError::Unread);
        }
        self.received = end;
        // Bytes of two epochs never wait together: a change of writer refuses what waits.
        let joins = self
            .pending
            .back()
            .is_none_or(|last| last.epoch == epoch || self.is_refused(last));
        match verdict.and(if joins {
            Ok(())
        } else {
            Err(Reason::TakenOver)
        }) {
            Ok(()) => self.append(expected, epoch, new),
            Err(reason) => self.note_refused(expected, end, reason),
        }
        Ok(())
    }

    fn append(&mut self, from: u64, epoch: Epoch, new: &[u8]) {
        let apart = self
            .pending
            .back()
            .is_some_and(|last| self.is_refused(last));
        match self.pending.back_mut() {
            Some(last) if last.end() == from && !apart => last.bytes.extend_from_slice(new),
            _ => self.pending.push_back(Stretch {
                from,
                bytes: BytesMut::from(new),
                epoch,
            }),
        }
    }

    /// The next bytes to write, at most `max`; they are in flight until
    /// [`InputQueue::settle`]. `None` if nothing waits, or something is in flight.
    pub fn begin_write(&mut self, max: usize) -> Option<Bytes> {
        let first = self
            .pending
            .front()
            .filter(|_| self.in_flight == 0 && max > 0)?;
        self.in_flight = first.bytes.len().min(max);
        Some(Bytes::copy_from_slice(&first.bytes[..self.in_flight]))
    }

    /// Whether what of a stretch is not taken will be refused.
    fn is_refused(&self, stretch: &Stretch) -> bool {
        self.refuse_below
            .is_some_and(|(below, _)| stretch.end() <= below)
    }

    /// `written` bytes of those in flight were taken, and `under_way` bytes after them stay in
    /// flight; the rest waits again, or is refused if that was asked for meanwhile.
    pub fn settle(&mut self, written: usize, under_way: usize) {
        let in_flight = std::mem::take(&mut self.in_flight);
        let written = written.min(in_flight);
        self.in_flight = under_way.min(in_flight - written);
        if let Some(first) = self.pending.front_mut() {
            first.bytes.advance(written);
            first.from += written as u64;
        }
        self.pending.pop_front_if(|first| first.bytes.is_empty());
        self.refuse_what_is_not_in_flight();
    }

    fn refuse_what_is_not_in_flight(&mut self) {
        let Some((below, reason)) = self.refuse_below else {
            return;
        };
        let mut kept = VecDeque::new();
        let mut in_flight = self.in_flight;
        for mut stretch in std::mem::take(&mut self.pending) {
            let rest = std::mem::take(&mut in_flight).min(stretch.bytes.len());
            let (from, end) = (stretch.from + rest as u64, stretch.end());
            if end <= below && from < end {
                self.note_refused(from, end, reason);
                stretch.bytes.truncate(rest);
            }
            if !stretch.bytes.is_empty() {
                kept.push_back(stretch);
            }
        }
        self.pending = kept;
        if self.in_flight == 0 {
            self.refuse_below = None;
        }
    }

    /// Refuses all that waits: at once, or as soon as it is told what of the bytes in flight
    /// can still be written.
    pub fn refuse_pending(&mut self, reason: Reason) {
        self.refuse_below = Some((self.received, reason));
        if self.in_flight == 0 {
            self.refuse_what_is_not_in_flight();
        }
    }

    /// Refuses what is in flight, of which nobody knows how much was written; the rest
    /// waits.
    pub fn refuse_in_flight(&mut self, reason: Reason) {
        let (from, lost) = (self.done(), self.in_flight);
        if lost > 0 {
            self.note_refused(from, from + lost as u64, reason);
            self.settle(lost, 0);
        }
    }

    /// The refusals that were not told yet, or are to be told again; they count as told now.
    pub fn take_refused(&mut self) -> Vec<Refused> {
        let mut refused = std::mem::take(&mut self.again);
        refused.append(&mut self.refused);
        self.told.extend(refused.iter().copied());
        let passed = self.told.len().saturating_sub(MAX_REFUSED);
        self.told.drain(..passed);
        refused
    }

    /// Has the newest [`MAX_REFUSED`] of those that were told told again: the stream that they
    /// were told on broke, and nobody knows whether they were heard.
    pub fn tell_again(&mut self) {
        let told = std::mem::take(&mut self.told);
        self.again.extend(told);
        let passed = self.again.len().saturating_sub(MAX_REFUSED);
        self.again.drain(..passed);
    }

    fn note_refused(&mut self, from: u64, to: u64, reason: Reason) {
        match self.refused.last_mut() {
            Some(last) if last.to == from && last.reason == reason => last.to = to,
            _ => self.refused.push(Refused { from, to, reason }),
        }
    }
}

#[cfg(test)]
mod tests;
