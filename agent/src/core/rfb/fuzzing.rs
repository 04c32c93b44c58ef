//! What must hold of the filter whatever a client sends. For fuzzers and tests only.

use bytes::Bytes;

use super::filter::{ClientFilter, Dropped, Violation};
use super::keys::{KeyEvent, KeySet, readings};
use super::message::MAX_WHOLE;
use super::rules::{Rules, parse_refused_keys};

/// What a filter made of what came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) output: Vec<u8>,
    pub(super) dropped: Dropped,
    pub(super) violation: Option<Violation>,
}

/// Filters pieces, one after the other, each with what it says of the lease.
pub(super) fn pass<'a>(
    filter: &mut ClientFilter,
    pieces: impl IntoIterator<Item = (&'a [u8], bool)>,
) -> Passed {
    let mut passed = Passed::default();
    for (piece, holds_lease) in pieces {
        let mut out = Vec::new();
        let answer = filter.filter(Bytes::copy_from_slice(piece), holds_lease, &mut out);
        if passed.violation.is_some() {
            assert_eq!(answer.err(), passed.violation, "a violation stays");
            assert!(out.is_empty(), "nothing after a violation");
        }
        match answer {
            Ok(dropped) => passed.dropped += dropped,
            Err(violation) => passed.violation = Some(violation),
        }
        assert!(filter.held() <= MAX_WHOLE);
        passed.output.extend(out.into_iter().flatten());
    }
    passed
}

/// The messages one after the other, and what is left: the beginning of one, or of what is none.
/// Reads the protocol once more, without what it is to check.
pub(super) fn messages(mut wire: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut messages = Vec::new();
    while let Some(len) = length(wire).filter(|len| *len <= wire.len()) {
        let (message, rest) = wire.split_at(len);
        messages.push(message);
        wire = rest;
    }
    (messages, wire)
}

fn length(wire: &[u8]) -> Option<usize> {
    let number = |at: usize, len: usize| -> Option<usize> {
        let bytes = wire.get(at..at + len)?;
        Some(
            bytes
                .iter()
                .fold(0, |sum, &byte| (sum << 8) | usize::from(byte)),
        )
    };
    Some(match (number(0, 1)?, number(1, 1)) {
        (0, _) => 20,
        (1, _) => 6 + 6 * number(4, 2)?,
        (2, _) => 4 + 4 * number(2, 2)?,
        (3 | 150, _) => 10,
        (4, _) => 8,
        (5, _) => 6,
        (6, _) => match number(4, 4)? {
            len if len < 1 << 31 => 8 + len,
            negative => 8 + (1 << 32) - negative,
        },
        (248, _) => 9 + number(8, 1)?,
        (250, _) => 4,
        (251, _) => 8 + 16 * number(6, 1)?,
        (253, flags) if flags? >= 0x80 => 4 + number(2, 2)?,
        (253, _) => 4 + number(2, 1)? + 256 * number(3, 1)?,
        (255, Some(0)) => 12,
        (255, Some(1)) => match number(2, 2)? {
            0 | 1 => 4,
            2 => 10,
            _ => return None,
        },
        _ => return None,
    })
}

/// Whether who only views may say this.
pub(super) fn is_harmless(message: &[u8]) -> bool {
    matches!(message.first(), Some(0 | 2 | 3 | 150 | 248))
}

/// What reaches a display: keys and buttons.
#[derive(Debug, Default)]
pub(super) struct Guest {
    /// As [`readings`] are.
    down: [KeySet; 2],
    buttons: u8,
}

impl Guest {
    /// Takes a message, and checks it against the rules.
    pub(super) fn takes(&mut self, message: &[u8], rules: &Rules) {
        match (message[0], message.len()) {
            (4, _) | (255, 12) => {
                let event = KeyEvent::read(message);
                for (down, keys) in self.down.iter_mut().zip(readings(event)) {
                    for key in keys {
                        down.set(key, event.down);
                    }
                    for refused in &rules.refused_keys {
                        assert!(!refused.is_down(down), "{refused} is down");
                    }
                }
            }
            (5, _) => self.buttons = message[1],
            _ => {}
        }
    }

    pub(super) fn let_go(&self) -> bool {
        self.down == <[KeySet; 2]>::default() && self.buttons == 0
    }
}

/// Takes the first byte for the rules, and the rest for what a client sends: all at once, and cut
/// in several ways, with the lease and without, and with the lease taken and given.
pub(crate) fn check(wire: &[u8]) {
    let Some((&choice, wire)) = wire.split_first() else {
        return;
    };
    let rules = rules(choice);
    for holds_lease in [false, true] {
        let whole = pass(&mut ClientFilter::new(rules.clone()), [(wire, holds_lease)]);
        let bytes = wire.chunks(1).map(|piece| (piece, holds_lease));
        let bytes = pass(&mut ClientFilter::new(rules.clone()), bytes);
        let (mut cut, mut other) = (whole, bytes);
        if cut.violation.is_some() {
            // What was counted before it in the same piece is not told.
            (cut.dropped, other.dropped) = Default::default();
        }
        assert_eq!(cut, other, "cut into single bytes");
        if holds_lease && !rules.need_looking() {
            continue;
        }
        let mut guest = Guest::default();
        for message in messages(&cut.output).0 {
            guest.takes(message, &rules);
            let may_write = holds_lease && !rules.view_only;
            assert!(may_write || is_harmless(message), "{message:?}");
        }
    }
    check_lease(&rules, wire);
}

/// The lease comes and goes as the input itself says.
fn check_lease(rules: &Rules, wire: &[u8]) {
    let mut filter = ClientFilter::new(rules.clone());
    let mut rest = wire;
    let pieces = std::iter::from_fn(|| {
        let first = *rest.first()?;
        let (piece, after) = rest.split_at(usize::from(first % 16 + 1).min(rest.len()));
        rest = after;
        Some((piece, first & 0x20 != 0))
    });
    let mut output = pass(&mut filter, pieces).output;
    let mut last = Vec::new();
    if filter.set_lease(false, &mut last).is_err() {
        return;
    }
    output.extend(last.into_iter().flatten());
    let (messages, cut) = messages(&output);
    assert_eq!(
        cut, [0; 0],
        "what was begun without the lease, or was not ended"
    );
    let mut guest = Guest::default();
    for message in messages {
        guest.takes(message, rules);
    }
    assert!(guest.let_go(), "{guest:?}");
}

fn rules(choice: u8) -> Rules {
    let keys: &[&str] = match choice >> 3 & 3 {
        0 => &[],
        1 => &["ctrl-alt-delete"],
        2 => &["sysrq", "ctrl-alt-f1"],
        _ => &["a", "alt-kp_enter", "meta"],
    };
    Rules {
        view_only: choice & 1 != 0,
        refuse_clipboard_to_guest: choice & 2 != 0,
        refuse_clipboard_from_guest: choice & 4 != 0,
        refused_keys: parse_refused_keys(keys).unwrap_or_default(),
    }
}
