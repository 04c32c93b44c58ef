//! What must hold of the handshake with a caller whatever it sends. For fuzzers and tests only.

use super::{Caller, CallerError, MAX_BYTES, MAX_REPLY_BYTES, Step};

/// All that a handshake made of what came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) outcome: Result<Step, CallerError>,
    pub(super) reply: Vec<u8>,
    /// How many bytes were taken.
    pub(super) taken: usize,
}

/// Hears pieces, one after the other.
pub(super) fn hear<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Heard {
    let mut caller = Caller::new();
    let mut heard = Heard {
        outcome: Ok(Step::More),
        reply: Vec::new(),
        taken: 0,
    };
    for piece in pieces {
        let (mut rest, replied) = (piece, heard.reply.len());
        let outcome = caller.take(&mut rest, &mut heard.reply);
        if outcome == Ok(Step::More) {
            assert!(rest.is_empty(), "all is taken as long as more must come");
        }
        if heard.outcome != Ok(Step::More) {
            assert_eq!(outcome, heard.outcome, "an end stays");
            assert_eq!((rest, replied), (piece, heard.reply.len()), "nothing after");
        }
        heard.taken += piece.len() - rest.len();
        heard.outcome = outcome;
        assert!(heard.taken <= MAX_BYTES);
        assert!(heard.reply.len() <= MAX_REPLY_BYTES);
    }
    heard
}

/// Takes `wire` for what a caller sends.
pub(crate) fn check(wire: &[u8]) {
    let whole = hear([wire]);
    assert_eq!(whole, hear(wire.chunks(1)), "cut into single bytes");
    for at in 0..wire.len().min(MAX_BYTES + 1) {
        let (first, second) = wire.split_at(at);
        assert_eq!(whole, hear([first, second]), "cut at {at}");
    }
    if let Ok(Step::Done { .. }) = whole.outcome {
        let mut longer = wire.to_vec();
        longer.extend_from_slice(b"RFB 003.008\n");
        assert_eq!(whole, hear([longer.as_slice()]), "what follows is left");
    }
}
