//! When a console's output is read again, so that a flood of tiny pieces is read in larger
//! ones. Pure; it refuses to hold a byte for longer than [`LONGEST_REST`].
//!
//! ```text
//!            a read now and then, much at once, or an answer to input
//!          ┌──────────┐
//!          ▼          │
//!       WhenReady ────┴── many small reads ──▶ Rest ──┐ few bytes came: rest longer
//!          ▲                                    ▲ │   │ too many: rest shorter
//!          └── nothing came, or very much ──────┼─┘   │
//!                                               └─────┘
//! ```
//! A 16550 hands out a few bytes at a time, 180,000 bytes a second in all under emulation.
//! Reading each piece as it comes wakes the agent tens of thousands of times a second. So a
//! run of small reads is read at intervals, in which QEMU's pieces gather in the kernel.
//!
//! What the kernel holds has to stay far from full, or the guest waits. A unix socket is full
//! after 278 pieces (each is charged some 770 bytes of 208 KiB), and QEMU sends a 16550's
//! bytes one by one: a fixed rest of 2 ms halved such a guest's output, one of 0.25 ms to 0.5
//! ms raised it by half. Hence a rest's length follows from what came during the one before.

use std::time::{Duration, Instant};

/// The longest that output waits in the kernel because of a rest.
pub const LONGEST_REST: Duration = Duration::from_millis(2);

/// The shortest rest, which saves more than it costs: each run begins with it.
pub const SHORTEST_REST: Duration = Duration::from_micros(250);

/// How often small pieces are read as they come, on average.
const READ_EVERY: Duration = Duration::from_millis(2);

/// How many of them may follow each other without that distance.
const BURST: u32 = 8;

/// How long nothing rests once very much came at once.
const BULK_LASTS: Duration = Duration::from_millis(100);

/// What sort of buffer the kernel keeps for a console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// So many bytes may gather during one rest, whatever pieces they come in: far less than
    /// what makes the guest wait.
    pub share: usize,
    /// So many bytes in one read are worth a wake-up of their own.
    pub bulk: usize,
}

impl Buffer {
    /// A unix stream socket: 278 pieces, however small.
    pub const UNIX: Self = Self {
        share: 96,
        bulk: 4096,
    };
    /// A terminal: 20 KiB, of which a read gives at most 4095 bytes.
    pub const PTY: Self = Self {
        share: 1024,
        bulk: 2048,
    };
    /// A TCP socket: the kernel joins pieces in tens of KiB.
    pub const TCP: Self = Self {
        share: 1024,
        bulk: 4096,
    };
}

/// When to read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// As soon as there is something.
    WhenReady,
    /// Not before so much time has passed, unless input is written.
    Rest(Duration),
}

/// Decides when to read again.
#[derive(Debug)]
pub struct Pace {
    buffer: Buffer,
    /// How long the next rest is.
    rest: Duration,
    /// Whether the next read follows a rest.
    rested: bool,
    /// When reads at [`READ_EVERY`] would have caught up with those that were made.
    due: Option<Instant>,
    bulk_until: Option<Instant>,
    answer_due: bool,
}

impl Pace {
    /// For a console that was not read yet.
    pub const fn new(buffer: Buffer) -> Self {
        Self {
            buffer,
            rest: SHORTEST_REST,
            rested: false,
            due: None,
            bulk_until: None,
            answer_due: false,
        }
    }

    /// `bytes` were read at `now`, more than none.
    pub fn read(&mut self, bytes: usize, now: Instant) -> Next {
        let rested = std::mem::take(&mut self.rested);
        let answered = std::mem::take(&mut self.answer_due);
        if bytes >= self.buffer.bulk {
            self.bulk_until = rested.then_some(now + BULK_LASTS).or(self.bulk_until);
            return Next::WhenReady;
        }
        if rested {
            self.adapt(bytes);
        }
        if answered || self.bulk_until.is_some_and(|until| now < until) {
            return Next::WhenReady;
        }
        let earliest = now.checked_sub(READ_EVERY * BURST).unwrap_or(now);
        let latest = now + READ_EVERY;
        let due = self.due.map_or(earliest, |due| due.max(earliest)) + READ_EVERY;
        self.due = Some(due.min(latest));
        if due <= now {
            return Next::WhenReady;
        }
        self.rested = true;
        Next::Rest(self.rest)
    }

    /// A read found nothing: the run is over, and the next bytes are the first again.
    pub const fn nothing_came(&mut self) {
        self.rested = false;
        self.rest = SHORTEST_REST;
    }

    /// Input was written: its answer is not made to wait.
    pub const fn input_written(&mut self) {
        self.answer_due = true;
    }

    /// Makes the next rest fit what came during the last one.
    fn adapt(&mut self, bytes: usize) {
        if bytes > self.buffer.share {
            self.rest = (self.rest / 2).max(SHORTEST_REST);
        } else if bytes < self.buffer.share / 2 {
            self.rest = (self.rest * 2).min(LONGEST_REST);
        }
    }
}

#[cfg(test)]
mod tests;
