//! What a console's guest wrote lately, copied at one moment, for a diagnosis to read.
//!
//! A viewer's place is taken and given back under one hold of the lock, for one copy of at
//! most 64 KiB in all. It refuses to follow: for that there are viewers.

use super::MAX_FRAME;
use super::live::Console;
use crate::core::output::{Next, OutputLog, Start};

/// The most bytes of the beginning that are copied.
pub const MAX_BEGINNING: usize = 16 * 1024;

/// The most of the newest bytes that are copied: with the beginning, as much as a frame.
pub const MAX_NEWEST: usize = MAX_FRAME - MAX_BEGINNING;

/// Output of the current generation, as it was at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// The first of it, if that is still kept and `newest` does not reach back to it: at most
    /// [`MAX_BEGINNING`] bytes.
    pub beginning: Vec<u8>,
    /// The newest of it.
    pub newest: Vec<u8>,
    /// Whether the two are all that the generation had, with nothing forgotten, left out or
    /// missed.
    pub whole: bool,
}

impl Console {
    /// The newest bytes of output, at most `newest` and [`MAX_NEWEST`], and the first ones.
    /// Empty if there was no output yet.
    pub fn recent(&self, newest: usize) -> Recent {
        let newest = newest.min(MAX_NEWEST) as u64;
        let mut shared = self.shared.lock();
        let Some(output) = shared.output.as_mut() else {
            return Recent::default();
        };
        let (oldest, end) = (output.oldest().offset, output.head().offset);
        let begins = end.saturating_sub(newest).max(oldest);
        let mut recent = Recent::default();
        let unbroken = copy(output, newest, u64::MAX, &mut recent.newest);
        let mut contiguous = begins == 0;
        if oldest == 0 && begins > 0 {
            let length = begins.min(MAX_BEGINNING as u64);
            let unbroken = copy(output, u64::MAX, length, &mut recent.beginning);
            contiguous = unbroken && length == begins;
        }
        recent.whole = unbroken && contiguous;
        recent
    }
}

/// Copies `length` bytes from `back` before the head on; tells whether nothing was missed.
fn copy(output: &mut OutputLog, back: u64, length: u64, into: &mut Vec<u8>) -> bool {
    let mut cursor = output.open(Start::TailBytes(back));
    let mut unbroken = true;
    let mut left = usize::try_from(length).unwrap_or(usize::MAX);
    while left > 0 {
        match output.next(&mut cursor, left, 0) {
            Next::Output { bytes, .. } => {
                left -= bytes.len();
                into.extend_from_slice(&bytes);
            }
            Next::Gap(_) => unbroken = false,
            Next::GenerationStarted(_) | Next::Idle => break,
        }
    }
    output.close(cursor);
    unbroken
}
