//! What was typed, from the keyboard until the agent is done with it.
//!
//! ```text
//!   push ─▶ waiting ── the window ──▶ sent ── acked ──▶ forgotten
//!              ▲                       │
//!              └── resumed: what had ──┘── anew: nobody knows, and it is not sent again
//!                  not arrived
//! ```
//!
//! Pure. Refuses to send a byte a second time unless the agent says that it never came.

use std::collections::VecDeque;

use bytes::Bytes;

use super::window::{Fault, InputWindow};

/// Bytes of which it is not known whether they are the guest's, or that never will be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Undelivered {
    /// They were sent, and nobody said what became of them.
    pub(crate) in_doubt: usize,
    /// They were not sent.
    pub(crate) unsent: usize,
}

/// The bytes.
#[derive(Debug)]
pub(crate) struct Typed {
    window: InputWindow,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    sent: VecDeque<Bytes>,
    sent_bytes: usize,
}

impl Typed {
    /// Nothing was typed; the next byte has the offset `next`, and `window` bytes from there
    /// may be sent.
    pub(crate) const fn new(next: u64, window: u64) -> Self {
        Self {
            window: InputWindow::new(next, window),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sent: VecDeque::new(),
            sent_bytes: 0,
        }
    }

    /// Takes what was typed.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.waiting_bytes += bytes.len();
        self.waiting.push_back(bytes);
    }

    /// How many bytes wait to be sent.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether everything arrived at the guest, or was refused.
    pub(crate) fn delivered(&self) -> bool {
        self.waiting.is_empty() && self.window.settled()
    }

    /// What has not.
    pub(crate) const fn undelivered(&self) -> Undelivered {
        Undelivered {
            in_doubt: self.sent_bytes,
            unsent: self.waiting_bytes,
        }
    }

    /// Whether [`Typed::next`] has something.
    pub(crate) fn has_next(&self) -> bool {
        !self.waiting.is_empty() && self.window.allowance() > 0
    }

    /// The next bytes that fit, and their offset; they count as sent.
    pub(crate) fn next(&mut self) -> Option<(u64, Bytes)> {
        let allowance = self.window.allowance();
        if allowance == 0 {
            return None;
        }
        let mut data = self.waiting.pop_front()?;
        if data.len() > allowance {
            let rest = data.split_off(allowance);
            self.waiting.push_front(rest);
        }
        self.waiting_bytes -= data.len();
        self.sent_bytes += data.len();
        self.sent.push_back(data.clone());
        Some((self.window.send(data.len()), data))
    }

    /// Takes an InputAck, and forgets what it is about; returns whether it moved on.
    ///
    /// # Errors
    /// As [`InputWindow::acked`].
    pub(crate) fn acked(&mut self, offset: u64, window: u64) -> Result<bool, Fault> {
        let before = self.window.acked_to();
        let moved = self.window.acked(offset, window)?;
        let done = usize::try_from(offset - before).unwrap_or(usize::MAX);
        self.forget(done);
        Ok(moved)
    }

    /// The session goes on by another stream: all below `next` arrived at the agent, and what
    /// was sent beyond waits again.
    ///
    /// # Errors
    /// [`Fault::NextInput`] if that was never sent, or was done with before; nothing changes.
    pub(crate) fn resumed(&mut self, next: u64, window: u64) -> Result<(), Fault> {
        let lost = self.window.resumed(next, window)?;
        let mut lost = usize::try_from(lost).unwrap_or(usize::MAX);
        while lost > 0
            && let Some(mut last) = self.sent.pop_back()
        {
            let again = last.split_off(last.len().saturating_sub(lost));
            lost -= again.len();
            self.sent_bytes -= again.len();
            self.waiting_bytes += again.len();
            self.waiting.push_front(again);
            if !last.is_empty() {
                self.sent.push_back(last);
            }
        }
        Ok(())
    }

    /// Another session begins. What waits is for it, unless something is in doubt before it:
    /// half a command may be another command. Returns what is given up.
    pub(crate) fn anew(&mut self, next: u64, window: u64) -> Undelivered {
        self.window = InputWindow::new(next, window);
        let in_doubt = std::mem::take(&mut self.sent_bytes);
        self.sent.clear();
        let unsent = match in_doubt {
            0 => 0,
            _ => self.drop_waiting(),
        };
        Undelivered { in_doubt, unsent }
    }

    /// Drops what waits to be sent, and returns how much that was.
    pub(crate) fn drop_waiting(&mut self) -> usize {
        self.waiting.clear();
        std::mem::take(&mut self.waiting_bytes)
    }

    /// Drops so many bytes that were sent first.
    fn forget(&mut self, mut done: usize) {
        while done > 0
            && let Some(mut first) = self.sent.pop_front()
        {
            if first.len() > done {
                let rest = first.split_off(done);
                self.sent.push_front(rest);
            }
            done -= first.len();
            self.sent_bytes -= first.len();
        }
    }
}

#[cfg(test)]
mod tests;
