//! Callers, good and bad.

use proptest::prelude::*;

use super::fuzzing::{check, hear};
use super::*;

/// What a good caller of this version sends after it heard `GREETING`, and what it gets.
fn good(version: Version, shared: u8) -> (Vec<u8>, &'static [u8]) {
    let mut says = version.bytes().to_vec();
    let gets: &[u8] = match version {
        Version::V3_3 => &[0, 0, 0, 1],
        Version::V3_7 => &[1, 1],
        Version::V3_8 => &[1, 1, 0, 0, 0, 0],
    };
    if version != Version::V3_3 {
        says.push(TYPE_NONE);
    }
    says.push(shared);
    (says, gets)
}

#[test]
fn each_version_gets_through_and_its_shared_flag_is_told() {
    for version in [Version::V3_3, Version::V3_7, Version::V3_8] {
        for (flag, shared) in [(0, false), (1, true), (255, true)] {
            let (says, gets) = good(version, flag);
            let heard = hear([says.as_slice()]);
            assert_eq!(heard.outcome, Ok(Step::Done { shared }), "{version:?}");
            assert_eq!((heard.reply.as_slice(), heard.taken), (gets, says.len()));
        }
    }
}

#[test]
fn what_a_caller_sends_ahead_stays() {
    let (mut says, _) = good(Version::V3_8, 1);
    let whole = says.len();
    says.extend_from_slice(&[2, 0, 0, 0, 3]);
    let mut bytes = says.as_slice();
    let (mut caller, mut reply) = (Caller::new(), Vec::new());
    let done = Ok(Step::Done { shared: true });
    assert_eq!(caller.take(&mut bytes, &mut reply), done);
    assert_eq!(bytes, &says[whole..]);
    assert_eq!(caller.take(&mut bytes, &mut reply), done);
    assert_eq!(bytes, &says[whole..]);
}

#[test]
fn another_type_is_refused_with_a_reason_in_3_8_alone() {
    for wrong in [0, 2, 16, 19, 255] {
        let mut says = Version::V3_8.bytes().to_vec();
        says.push(wrong);
        let heard = hear([says.as_slice()]);
        assert_eq!(heard.outcome, Err(CallerError::Choice(wrong)));
        let (numbers, reason) = heard.reply.split_at(10);
        assert_eq!(numbers[..9], [1, 1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(reason, ONLY_NONE.as_bytes());
        assert_eq!(usize::from(numbers[9]), reason.len());

        let mut says = Version::V3_7.bytes().to_vec();
        says.push(wrong);
        let heard = hear([says.as_slice()]);
        assert_eq!(heard.outcome, Err(CallerError::Choice(wrong)));
        assert_eq!(heard.reply, [1, 1]);
    }
}

#[test]
fn who_does_not_speak_rfb_is_refused() {
    let heard = hear([b"GET / HTTP/1.1\r\n".as_slice()]);
    assert_eq!((heard.reply.len(), heard.taken), (0, VERSION_BYTES));
    let message = heard.outcome.unwrap_err().to_string();
    assert_eq!(
        message,
        "the caller does not speak RFB: \"GET / HTTP/1\" is no version of RFB; \
         connect a VNC viewer"
    );

    let heard = hear([b"RFB 003.002\n\0".as_slice()]);
    assert!(matches!(heard.outcome, Err(CallerError::Version(_))));
    assert_eq!(heard.reply[..4], [0, 0, 0, 0]);
    assert!(heard.reply.ends_with(TOO_OLD.as_bytes()));
}

proptest! {
    #[test]
    fn any_cut_of_any_bytes_comes_to_the_same(
        start in prop::sample::select(vec![
            b"".as_slice(), b"RFB 003.003\n", b"RFB 003.007\n", b"RFB 003.008\n",
            b"RFB 003.008\n\x01", b"RFB 003.889\n", b"RFB 003.",
        ]),
        more in prop::collection::vec(0u8..4, 0..20),
    ) {
        check(&[start, &more].concat());
    }
}
