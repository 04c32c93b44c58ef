//! A console's output as viewers see it: generations of bytes, with every loss told.
//!
//! ```text
//!            begin                 begin                    nobody reads it
//!  (none) ─────────▶ current ───────────────▶ previous ─────────────────▶ (forgotten)
//!                     │   ▲
//!             append, │   │ interrupt: bytes of unknown number are missing here
//!                     └───┘
//! ```
//! One generation is one ring of one running QEMU. The one before it is kept only as long
//! as a cursor is still in it, so that a viewer gets the last words of a crashed guest.
//! History and live output are the same thing here: a cursor that pulls.
//!
//! This file refuses to wait, to wake anybody and to know the time.

mod kept;
mod lines;
mod start;

use std::sync::Arc;

use bytes::Bytes;

use super::budget::Budget;
use super::position::{Generation, Position};
use super::stamps::Stamp;

use self::kept::Kept;
use self::start::Beginning;
pub use kept::MAX_INTERRUPTIONS;
pub use lines::{LineScan, MAX_LINES_SCAN, MAX_TAIL_LINES};
pub use start::Start;

/// Why output is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The ring went on before the viewer could read.
    Overrun,
    /// The agent was not attached for a while, or came after the VM had started, or the last
    /// output of a terminal may not have been read.
    NotAttached,
    /// A whole generation ended before the viewer could get there.
    GenerationPassed,
}

/// Output that a viewer will not get: from `from` up to and not including `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where the viewer was.
    pub from: Position,
    /// Where it goes on.
    pub to: Position,
    /// Whether the offsets' difference is how much was lost.
    pub length_known: bool,
    /// Why.
    pub reason: GapReason,
}

/// What a cursor finds next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Bytes, and when the newest of them was read.
    Output {
        /// The first byte's position.
        position: Position,
        /// At least one byte.
        bytes: Bytes,
        /// When the newest was read.
        time: Stamp,
    },
    /// Missing bytes.
    Gap(Gap),
    /// The next generation, from its beginning.
    GenerationStarted(Position),
    /// Nothing yet.
    Idle,
}

/// A viewer's place. To be given back with [`OutputLog::close`].
#[derive(Debug)]
pub struct Cursor {
    position: Position,
    /// The first interruption that this viewer has yet to be told of.
    interruption: u64,
    beginning: Beginning,
}

impl Cursor {
    /// The next byte that the viewer expects.
    pub const fn position(&self) -> Position {
        self.position
    }
}

/// A console's output.
#[derive(Debug)]
pub struct OutputLog {
    limit: usize,
    budget: Option<Arc<Budget>>,
    previous: Option<Kept>,
    current: Kept,
}

impl OutputLog {
    /// Begins with an empty first generation. Each generation keeps at most `limit` bytes.
    pub fn new(limit: usize, generation: Generation) -> Self {
        Self::within(limit, None, generation)
    }

    /// As [`OutputLog::new`], and together only as much as `budget`, if there is one, has left.
    pub fn within(limit: usize, budget: Option<Arc<Budget>>, generation: Generation) -> Self {
        Self {
            limit,
            previous: None,
            current: Kept::new(limit, budget.clone(), generation),
            budget,
        }
    }

    /// The next byte to come.
    pub const fn head(&self) -> Position {
        Position {
            generation: self.current.generation,
            offset: self.current.ring.end(),
        }
    }

    /// The oldest byte of the current generation that is kept.
    pub const fn oldest(&self) -> Position {
        Position {
            generation: self.current.generation,
            offset: self.current.ring.oldest(),
        }
    }

    /// Bytes of memory that the rings hold.
    pub fn allocated(&self) -> usize {
        self.current.ring.allocated()
            + self
                .previous
                .as_ref()
                .map_or(0, |kept| kept.ring.allocated())
    }

    /// Adds bytes that were read at `time`. Returns whether the ring was to grow for them and
    /// could not, for the first time since [`OutputLog::take_wanted`].
    pub fn append(&mut self, bytes: &[u8], time: Stamp) -> bool {
        let denied = self.current.ring.append(bytes);
        self.current.stamps.appended(self.current.ring.end(), time);
        self.current.forget_passed_interruptions();
        denied
    }

    /// How many more bytes of memory it asked for in vain since this was last asked.
    pub const fn take_wanted(&mut self) -> usize {
        self.current.ring.take_wanted()
    }

    /// Allows it so many bytes of memory, or as many as it has, if that is more.
    pub fn allow_more(&mut self, bytes: usize) {
        let previous = self.allocated() - self.current.ring.allocated();
        self.current.ring.allow_more(bytes.saturating_sub(previous));
    }

    /// Allows it so many bytes of memory. If it has more, it forgets the oldest output, of the
    /// previous generation first, and gives memory back.
    pub fn allow(&mut self, bytes: usize) {
        let current = self.current.ring.allocated();
        let mut left = bytes;
        if let Some(previous) = &mut self.previous {
            previous.allow(bytes.saturating_sub(current));
            left = bytes.saturating_sub(previous.ring.allocated());
        }
        self.current.allow(left);
    }

    /// Says that bytes of unknown number are missing at the head.
    pub fn interrupt(&mut self) {
        self.current.interrupt();
    }

    /// Ends the current generation and begins another.
    pub fn begin(&mut self, generation: Generation) {
        let ended = std::mem::replace(
            &mut self.current,
            Kept::new(self.limit, self.budget.clone(), generation),
        );
        self.previous = (ended.cursors > 0).then_some(ended);
    }

    /// Takes a viewer's place back.
    pub fn close(&mut self, cursor: Cursor) {
        if cursor.beginning != Beginning::Nowhere {
            self.leave(cursor.position.generation);
        }
    }

    /// The VM was started or reset at `time`: that is where its output since then begins, or a
    /// little before (see [`Stamps`](super::stamps::Stamps)). Marks the newest boot of the current generation.
    pub fn boot(&mut self, time: Stamp) {
        let kept = &mut self.current;
        let since = kept.stamps.since(time).min(kept.ring.end());
        kept.boot = Some(since.max(kept.boot.unwrap_or(0)));
    }

    /// What comes next for this viewer, at most `max` bytes of it and without the `hidden`
    /// newest of the current generation; the cursor moves on.
    pub fn next(&mut self, cursor: &mut Cursor, max: usize, hidden: usize) -> Next {
        let beginning = std::mem::take(&mut cursor.beginning);
        if beginning == Beginning::Nowhere {
            return self.skip(cursor);
        }
        let in_previous = match &self.previous {
            Some(kept) => kept.generation == cursor.position.generation,
            None => false,
        };
        let (kept, hidden) = if in_previous {
            (self.previous.as_mut(), 0)
        } else {
            (Some(&mut self.current), hidden)
        };
        match kept {
            Some(kept) if kept.generation == cursor.position.generation => {
                match kept.next(cursor, max, hidden, beginning) {
                    Next::Idle if in_previous => self.follow(cursor),
                    next => next,
                }
            }
            _ => self.skip(cursor),
        }
    }

    /// From the end of the previous generation to the beginning of the current one.
    fn follow(&mut self, cursor: &mut Cursor) -> Next {
        self.leave(cursor.position.generation);
        self.current.cursors += 1;
        let started = Position {
            generation: self.current.generation,
            offset: 0,
        };
        *cursor = Cursor {
            position: started,
            interruption: 0,
            beginning: Beginning::Told,
        };
        Next::GenerationStarted(started)
    }

    /// From a generation that is no longer kept to the oldest byte of one that is.
    fn skip(&mut self, cursor: &mut Cursor) -> Next {
        let from = cursor.position;
        self.current.cursors += 1;
        let to = self.oldest();
        let interruption = self.current.forgotten_interruptions;
        *cursor = Cursor {
            position: to,
            interruption,
            beginning: Beginning::Told,
        };
        Next::Gap(Gap {
            from,
            to,
            length_known: false,
            reason: GapReason::GenerationPassed,
        })
    }

    fn leave(&mut self, generation: Generation) {
        if generation == self.current.generation {
            self.current.cursors -= 1;
        } else if let Some(kept) = self
            .previous
            .as_mut()
            .filter(|k| k.generation == generation)
        {
            kept.cursors -= 1;
            if kept.cursors == 0 {
                self.previous = None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
