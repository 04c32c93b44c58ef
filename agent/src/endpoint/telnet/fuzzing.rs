//! What must hold of telnet whatever a server sends. For fuzzers and tests only.

use super::{MAX_NEGOTIATIONS, OPENING, Telnet, TelnetError};

/// All that a connection made of what came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) output: Vec<u8>,
    pub(super) reply: Vec<u8>,
    pub(super) error: Option<TelnetError>,
}

/// Hears pieces, one after the other.
pub(super) fn hear<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Heard {
    let (mut telnet, mut heard) = (Telnet::new(), Heard::default());
    for piece in pieces {
        let before = heard.output.len();
        let answer = telnet.receive(piece, &mut heard.output, &mut heard.reply);
        if heard.error.is_some() {
            assert_eq!(answer.err(), heard.error, "an error stays");
            assert_eq!(heard.output.len(), before, "nothing after an error");
        }
        heard.error = answer.err();
        assert!(heard.output.len() - before <= piece.len());
        assert!(heard.reply.len() <= 3 * MAX_NEGOTIATIONS as usize);
        assert!(telnet.held.len() <= OPENING.len());
    }
    heard
}

/// Takes `wire` for what a server sends, for what a guest of QEMU writes, and for input.
pub(crate) fn check(wire: &[u8]) {
    let whole = hear([wire]);
    assert_eq!(whole, hear(wire.chunks(1)), "cut into single bytes");
    // Into pieces of 1 to 8 bytes, as the input itself says.
    let mut rest = wire;
    let pieces = std::iter::from_fn(|| {
        let len = usize::from(rest.first()? % 8 + 1).min(rest.len());
        let (piece, after) = rest.split_at(len);
        rest = after;
        Some(piece)
    });
    assert_eq!(whole, hear(pieces), "cut into pieces");

    let from_qemu = hear([OPENING.as_slice(), wire]);
    assert_eq!(from_qemu.output, wire, "QEMU's guest is not decoded");
    assert_eq!((from_qemu.reply.len(), from_qemu.error), (0, None));

    let mut sent = Vec::new();
    Telnet::send(wire, &mut sent);
    assert!(sent.len() <= 2 * wire.len());
    let back = hear([sent.as_slice()]);
    assert_eq!(
        back.output, wire,
        "a server that decodes gets what was sent"
    );
    assert_eq!((back.reply.len(), back.error), (0, None));
}
