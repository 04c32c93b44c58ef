//! What a guest wrote, told apart: firmware, kernel, a prompt, a panic, and which was last.
//!
//! ```text
//!             power on, reset            loaded               asks
//!  (nothing) ─────────────────▶ Firmware ──────▶ Kernel ─────────────▶ Prompt
//!                                  ▲                │ dies
//!                                  └──── reset ─────┴─────▶ Panic
//! ```
//! It knows texts of common firmware, kernels and logins, in English, as they write them on a
//! serial line. It is a guess by hostile text: nothing but a diagnosis may build on it.

mod marks;
mod strip;

use marks::Mark;

pub use marks::{LoaderState, Stage};

/// The most bytes of what a guest wrote that are shown.
pub const MAX_QUOTE: usize = 256;

/// After so many lines that are of no known firmware, something else is taken to write.
const FIRMWARE_LINES: usize = 64;

/// What a guest wrote, in short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// Who wrote last, as far as that can be told.
    pub last: Option<Stage>,
    /// Whether the guest was seen to begin: its firmware, or the first lines of its kernel.
    pub began: bool,
    /// Whether a prompt was seen since it began.
    pub prompted: bool,
    /// Whether the last line is not ended and of no known kind: something may wait there.
    pub open_line: bool,
    /// The last line that is not empty, printable and at most [`MAX_QUOTE`] bytes long.
    pub last_line: String,
    /// The line by which `last` was told, likewise.
    pub telling_line: String,
    /// Since `last` was told: how many lines of no known kind.
    unknown_lines: usize,
}

impl Transcript {
    /// Reads `pieces` of output, in order; between two of them some may be missing.
    pub fn read(pieces: &[&[u8]]) -> Self {
        let mut transcript = Self::default();
        for piece in pieces {
            strip::lines(piece, |line, ended| transcript.line(line, ended));
        }
        transcript
    }

    fn line(&mut self, line: &str, ended: bool) {
        if let Some((prompt, kernel)) = marks::written_over(line) {
            self.part(prompt, false);
            self.part(kernel, ended);
        } else {
            self.part(line, ended);
        }
    }

    fn part(&mut self, line: &str, ended: bool) {
        self.last_line = quote(line);
        let mark = marks::mark(line, ended);
        self.open_line = mark.is_none() && !ended;
        let Some(mark) = mark else {
            self.unknown_lines += 1;
            if matches!(self.last, Some(Stage::Firmware(_))) && self.unknown_lines > FIRMWARE_LINES
            {
                self.last = None;
            }
            return;
        };
        self.began |= mark == Mark::KernelEarly;
        if matches!(mark, Mark::Firmware(_) | Mark::KernelStart) {
            self.began = true;
            self.prompted = false;
        }
        // A dying kernel writes more lines of a kernel.
        let of_kernel = matches!(mark, Mark::Kernel | Mark::KernelEarly);
        if of_kernel && self.last == Some(Stage::Panic) {
            return;
        }
        self.prompted |= matches!(mark, Mark::Prompt | Mark::Secret);
        self.unknown_lines = 0;
        // A panic's first line tells why; its last one repeats that, once it is written.
        let repeats = mark == Mark::Panic && self.last == Some(Stage::Panic);
        self.last = Some(mark.stage());
        if !repeats {
            self.telling_line = quote(line);
        }
    }
}

/// A guest's text as it may be shown: what a terminal would obey is replaced, and it is cut
/// to [`MAX_QUOTE`] bytes.
fn quote(text: &str) -> String {
    let mut shown = String::new();
    for character in text.trim().chars() {
        let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let character = if character.is_control() || turns {
            char::REPLACEMENT_CHARACTER
        } else {
            character
        };
        if shown.len() + character.len_utf8() > MAX_QUOTE {
            break;
        }
        shown.push(character);
    }
    shown
}

#[cfg(test)]
mod tests;
