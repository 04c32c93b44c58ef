//! A guest's output as plain lines: terminal sequences are taken out, lines are cut.
//!
//! It is hostile text: a sequence that never ends swallows a bounded part of it, a line is
//! kept up to a length, and nothing panics. It refuses to be a terminal: text that was put to
//! a place on the screen becomes a line of its own.

/// The most bytes of one line that are kept.
const MAX_LINE: usize = 512;
/// The most bytes that one terminal sequence may have; what follows counts as text.
const MAX_SEQUENCE: usize = 1024;

const ESC: u8 = 0x1b;
const BELL: u8 = 0x07;
const BACKSPACE: u8 = 0x08;

/// Where in a terminal sequence (ECMA-48) the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    /// After ESC, and bytes between it and the final one.
    Escape,
    /// After ESC and `[`.
    Control,
    /// In a string, such as a window's title, that ends with BEL or ESC and `\`.
    String,
    /// In such a string, after ESC.
    StringEscape,
}

/// Calls `each` with every line of `bytes` that is not empty, and with whether the line was
/// ended: the last may not be.
pub(super) fn lines(bytes: &[u8], mut each: impl FnMut(&str, bool)) {
    let mut lines = Lines {
        state: State::Text,
        sequence: 0,
        previous: 0,
        line: Vec::new(),
    };
    for byte in bytes {
        if lines.ends_line(*byte) {
            lines.take(true, &mut each);
        }
    }
    lines.take(false, &mut each);
}

struct Lines {
    state: State,
    sequence: usize,
    /// The byte before, within a sequence.
    previous: u8,
    line: Vec<u8>,
}

impl Lines {
    /// Takes a byte; tells whether the line is over.
    fn ends_line(&mut self, byte: u8) -> bool {
        if self.state == State::Text {
            return self.text(byte);
        }
        self.sequence += 1;
        let (next, ends) = match (self.state, byte) {
            (State::Escape, b'[') => (State::Control, false),
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => (State::String, false),
            (State::Escape, 0x20..=0x2f) => (State::Escape, false),
            // A reset of the terminal clears its screen.
            (State::Escape, b'c') => (State::Text, true),
            // Cursor to a place or to another line.
            (State::Control, b'H' | b'f' | b'A' | b'B' | b'E' | b'F' | b'd') => (State::Text, true),
            // The whole screen is cleared, rather than what is behind a prompt.
            (State::Control, b'J') => (State::Text, matches!(self.previous, b'2' | b'3')),
            (State::Control, 0x20..=0x3f) => (State::Control, false),
            (State::String, BELL) => (State::Text, false),
            (State::String, ESC) => (State::StringEscape, false),
            (State::String, _) => (State::String, false),
            (State::StringEscape, b'\\') => (State::Text, false),
            (State::StringEscape, ESC) => (State::StringEscape, false),
            (State::StringEscape, _) => (State::String, false),
            (_, ESC) => (State::Escape, false),
            _ => (State::Text, false),
        };
        self.previous = byte;
        self.state = if self.sequence >= MAX_SEQUENCE {
            State::Text
        } else {
            next
        };
        ends
    }

    fn text(&mut self, byte: u8) -> bool {
        match byte {
            ESC => {
                self.state = State::Escape;
                self.sequence = 0;
            }
            b'\n' | b'\r' => return true,
            BACKSPACE => {
                self.line.pop();
            }
            b'\t' => self.keep(b' '),
            0..=0x1f | 0x7f => {}
            _ => self.keep(byte),
        }
        false
    }

    fn keep(&mut self, byte: u8) {
        if self.line.len() < MAX_LINE {
            self.line.push(byte);
        }
    }

    fn take(&mut self, ended: bool, each: &mut impl FnMut(&str, bool)) {
        let line = String::from_utf8_lossy(&self.line);
        if !line.trim().is_empty() {
            each(&line, ended);
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(bytes: &[u8]) -> Vec<(String, bool)> {
        let mut found = Vec::new();
        lines(bytes, |line, ended| found.push((line.to_owned(), ended)));
        found
    }

    #[test]
    fn sequences_are_taken_out_and_places_on_the_screen_are_lines() {
        let bytes =
            b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS\r\n\x1b]0;title\x07one\x1b[2;5Htwo \x1b(Bx\x08y";
        let expected = [("SeaBIOS", true), ("one", true), ("two y", false)];
        assert_eq!(plain(bytes), expected.map(|(l, e)| (l.to_owned(), e)));
    }

    #[test]
    fn a_string_without_an_end_swallows_a_bounded_part() {
        let mut bytes = b"\x1b]".to_vec();
        bytes.extend_from_slice(&[b'x'; MAX_SEQUENCE]);
        bytes.extend_from_slice(b"\nlogin: ");
        assert_eq!(plain(&bytes).last().unwrap().0, "login: ");
    }

    #[test]
    fn a_long_line_is_cut() {
        let found = plain(&[b'a'; 10_000]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0.len(), MAX_LINE);
    }

    proptest! {
        #[test]
        fn any_bytes_give_bounded_lines_without_control_characters(
            bytes in prop::collection::vec(any::<u8>(), 0..5000),
        ) {
            for (line, _) in plain(&bytes) {
                prop_assert!(line.len() <= 3 * MAX_LINE);
                prop_assert!(!line.bytes().any(|b| b < 0x20 || b == 0x7f));
            }
        }

        #[test]
        fn plain_text_stays_as_it_is(words in prop::collection::vec("[a-z]{1,20}", 1..20)) {
            let text = words.join("\r\n");
            let found: Vec<_> = plain(text.as_bytes()).into_iter().map(|(line, _)| line).collect();
            prop_assert_eq!(found, words);
        }
    }
}
