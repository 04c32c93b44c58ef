//! What must hold of the handshake with a display whatever it sends. For fuzzers and tests only.

use super::super::password::VncPassword;
use super::super::security::{Acceptable, Security};
use super::super::vencrypt::PlainCredentials;
use super::{Display, DisplayError, MAX_BYTES, MAX_NAME_BYTES, MAX_REPLY_BYTES, Step};

/// All that a handshake made of what came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) outcome: Result<Step, DisplayError>,
    /// What an end of the connection would have meant.
    pub(super) closed: DisplayError,
    pub(super) security: Option<Security>,
    pub(super) reply: Vec<u8>,
    /// How much of `reply` was sent before TLS was begun, if it was.
    pub(super) before_tls: Option<usize>,
    /// How many bytes were taken.
    pub(super) taken: usize,
}

/// Hears the pieces that `cut` makes of what is left, given how much is wanted. TLS is taken to
/// succeed at once.
pub(super) fn hear(
    acceptable: &Acceptable,
    shared: bool,
    wire: &[u8],
    mut cut: impl FnMut(&[u8], usize) -> usize,
) -> Heard {
    let mut display = Display::new(acceptable, shared);
    let (mut reply, mut before_tls, mut rest) = (Vec::new(), None, wire);
    let mut outcome = Ok(Step::More);
    while !rest.is_empty() || outcome == Ok(Step::StartTls) {
        if outcome == Ok(Step::StartTls) {
            assert_eq!((before_tls, display.wants()), (None, 0), "TLS begins once");
            before_tls = Some(reply.len());
            display.secured(&mut reply);
            outcome = Ok(Step::More);
            continue;
        }
        let wanted = display.wants();
        let (piece, after) = rest.split_at(cut(rest, wanted).clamp(1, rest.len()));
        let mut left = piece;
        outcome = display.take(&mut left, &mut reply);
        assert!(
            piece.len() > wanted || left.is_empty(),
            "what is wanted is taken"
        );
        if !matches!(outcome, Ok(Step::More)) {
            assert_eq!(display.wants(), 0);
        }
        // What was not taken comes again, and after an end it is not taken either.
        rest = &rest[piece.len() - left.len()..];
        if matches!(outcome, Ok(Step::Done(_)) | Err(_)) {
            let (mut more, replied) = (after, reply.len());
            assert_eq!(display.take(&mut more, &mut reply), outcome, "an end stays");
            assert_eq!(
                (more, reply.len()),
                (after, replied),
                "nothing after an end"
            );
            break;
        }
    }
    let taken = wire.len() - rest.len();
    assert!(taken <= MAX_BYTES && reply.len() <= MAX_REPLY_BYTES);
    Heard {
        closed: display.closed(),
        security: display.security(),
        outcome,
        reply,
        before_tls,
        taken,
    }
}

/// What the low bits of `choice` allow: each type, then whether the secrets are there.
pub(super) fn acceptable(choice: u8) -> Acceptable {
    let bit = |at: usize| choice >> at & 1 == 1;
    let all = Security::STRONGEST_FIRST;
    Acceptable {
        allowed: (0..all.len())
            .filter(|at| bit(*at))
            .map(|at| all[at])
            .collect(),
        password: bit(5).then(|| VncPassword::new("secret12")),
        plain: bit(6)
            .then(|| PlainCredentials::new("op", "secret"))
            .and_then(Result::ok),
    }
}

/// Takes the first byte for what is allowed and whether ClientInit says shared, the rest for
/// what a display sends.
pub(crate) fn check(input: &[u8]) {
    let Some((choice, wire)) = input.split_first() else {
        return;
    };
    let (acceptable, shared) = (acceptable(*choice), choice >> 7 == 1);
    let whole = hear(&acceptable, shared, wire, |rest, _| rest.len());
    let by = |cut: &mut dyn FnMut(&[u8], usize) -> usize| {
        assert_eq!(whole, hear(&acceptable, shared, wire, cut));
    };
    by(&mut |_, _| 1);
    by(&mut |_, wanted| wanted);
    // Into pieces of 1 to 16 bytes, as the input itself says.
    by(&mut |rest, _| usize::from(rest[0] % 16 + 1));

    if let Some(security) = whole.security {
        assert!(acceptable.takes(security), "only what is allowed is taken");
        let tls = whole.before_tls.is_some();
        assert!(security.is_vencrypt() || !tls);
    }
    if let Ok(Step::Done(init)) = &whole.outcome {
        let tls = whole.security.map(Security::is_vencrypt);
        assert_eq!(tls, Some(whole.before_tls.is_some()), "no way around TLS");
        assert_eq!(whole.reply.last(), Some(&u8::from(shared)));
        assert!(init.raw.len() <= 24 + MAX_NAME_BYTES);
        assert_eq!(init.raw, wire[whole.taken - init.raw.len()..whole.taken]);
        assert_eq!(init.raw[..2], init.width.to_be_bytes());
        assert_eq!(init.raw[2..4], init.height.to_be_bytes());
        assert_eq!(init.raw[4..20], init.pixel_format);
    }
    let shown = whole.closed.to_string();
    assert!(shown.len() < 2048 && shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
}
