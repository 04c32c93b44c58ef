//! Where the last lines of the output begin, looked for backwards in pieces: whoever guards
//! the output holds it for one copy of a piece at a time, and looks at the copy after that.
//!
//! It looks at no more than is kept, and at no more than a bound of its own.

use super::OutputLog;
use crate::core::position::Position;

/// The most lines that may be asked for.
pub const MAX_TAIL_LINES: u32 = 100_000;

/// How far back lines are looked for, in bytes. Where fewer than were asked for end within, it
/// begins there, be it within a line.
pub const MAX_LINES_SCAN: u64 = 16 * 1024 * 1024;

/// How much is copied at a time, in bytes.
const PIECE: u64 = 64 * 1024;

/// A search for the beginning of the last lines of the generation that was current when it
/// began.
#[derive(Debug)]
pub struct LineScan {
    /// Where the lines begin, as far as was looked.
    at: Position,
    end: u64,
    /// Nothing before this is looked at.
    floor: u64,
    /// How many lines are yet to be found.
    left: u32,
}

impl LineScan {
    /// Begins to look for the last `lines` lines.
    pub const fn new(output: &OutputLog, lines: u32) -> Self {
        let at = output.head();
        Self {
            at,
            end: at.offset,
            floor: at.offset.saturating_sub(MAX_LINES_SCAN),
            left: lines,
        }
    }

    /// Looks for them without a pause.
    pub(super) fn whole(output: &OutputLog, lines: u32) -> Position {
        let (mut scan, mut piece) = (Self::new(output, lines), Vec::new());
        while scan.copy(output, &mut piece) {
            scan.look(&piece);
        }
        scan.position()
    }

    /// Where they begin, once there is nothing more to look at.
    pub const fn position(&self) -> Position {
        self.at
    }

    /// Copies what is to be looked at next to `piece`, at most 64 KiB, in place of what it
    /// holds. `false` if there is no more.
    pub fn copy(&self, output: &OutputLog, piece: &mut Vec<u8>) -> bool {
        piece.clear();
        let kept = &output.current;
        let from = self.at.offset.saturating_sub(PIECE);
        let from = from.max(self.floor).max(kept.ring.oldest());
        if self.left == 0 || kept.generation != self.at.generation || from >= self.at.offset {
            return false;
        }
        let length = usize::try_from(self.at.offset - from).unwrap_or(usize::MAX);
        let (first, second) = kept.ring.read(from, length);
        piece.extend_from_slice(first);
        piece.extend_from_slice(second);
        true
    }

    /// Looks at what was copied last.
    pub fn look(&mut self, piece: &[u8]) {
        // What ends the last line begins none.
        let after_all = self.at.offset == self.end;
        let looked = match piece {
            [rest @ .., b'\n'] if after_all => rest,
            all => all,
        };
        let begins = self.at.offset - piece.len() as u64;
        let ends = looked.iter().filter(|byte| **byte == b'\n').count();
        let ends = u32::try_from(ends).unwrap_or(u32::MAX);
        if ends < self.left {
            self.left -= ends;
            self.at.offset = begins;
            return;
        }
        let mut newlines = (looked.iter().enumerate().rev()).filter(|(_, byte)| **byte == b'\n');
        let before = newlines.nth(self.left as usize - 1);
        self.left = 0;
        self.at.offset = before.map_or(begins, |(index, _)| begins + index as u64 + 1);
    }
}
