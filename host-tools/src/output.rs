//! What is shown before and after a terminal is raw: plain text on the standard handles.
//!
//! Refuses to pass on control characters from elsewhere: names and messages come from
//! other people, and a terminal obeys what it is sent.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What every message on stderr begins with.
pub(crate) const PREFIX: &str = "vmconsolectl: ";

/// How many causes of an error are shown.
const MAX_CAUSES: usize = 8;

/// What tonic says where it has nothing to say; the cause behind it is what counts.
const EMPTY_LINKS: &[&str] = &["transport error", ""];

/// Writes text to stdout, all of it.
///
/// # Errors
/// As the write fails, `BrokenPipe` where the reader is gone.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes one message to stderr. A stderr that takes nothing leaves nobody to tell.
pub(crate) fn tell(message: &str) {
    let _ = io::stderr()
        .lock()
        .write_all(format!("{PREFIX}{message}\n").as_bytes());
}

/// Like [`tell`], unless stderr would make it wait: a terminal that is stuck must not keep
/// the program from ending.
pub(crate) fn tell_unless_stuck(message: &str) {
    let stderr = io::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut fds, PollTimeout::ZERO) == Ok(1) {
        tell(message);
    }
}

/// An error with its causes, each once, on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(link) = next {
        let text = link.to_string();
        let said = parts.last().is_some_and(|before| before.contains(&text));
        if !said && !EMPTY_LINKS.contains(&text.as_str()) && parts.len() < MAX_CAUSES {
            parts.push(text);
        }
        next = link.source();
    }
    printable(&parts.join(": "))
}

/// The text with everything that a terminal would obey made visible instead: control
/// characters, and the marks that turn the direction of writing.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) {
            // Writing to a String does not fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A JSON text that says the same, with everything escaped that a terminal would obey. The
/// serializer escapes no more than JSON demands: the characters below U+0020.
pub(crate) fn printable_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        // Line feeds are between values: those within are escaped already. All that are
        // obeyed have four digits at most.
        if is_obeyed(c) && c != '\n' {
            // Writing to a String does not fail.
            let _ = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Control characters, and the marks that turn the direction of writing (Unicode's
/// `Bidi_Control`).
const fn is_obeyed(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        assert_eq!(
            printable("ok \u{1b}[2J\r\n\u{202e}\u{61c}"),
            "ok \\u{1b}[2J\\u{d}\\u{a}\\u{202e}\\u{61c}"
        );
        assert_eq!(printable("Zoë's VM"), "Zoë's VM");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    #[test]
    fn a_chain_says_each_cause_once() {
        let deepest = Link {
            text: "refused",
            source: None,
        };
        let repeated = Link {
            text: "transport error",
            source: Some(Box::new(deepest)),
        };
        let top = Link {
            text: "cannot connect",
            source: Some(Box::new(repeated)),
        };
        assert_eq!(chain(&top), "cannot connect: refused");
    }
}
