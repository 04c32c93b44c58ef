//! Displays that lie, stop, or try for less than is demanded.

use super::*;
use crate::core::reason::Reason;

const WITHOUT_TLS: [Security; 2] = [Security::None, Security::Vnc];
const VENCRYPT: [Security; 3] = [Security::X509None, Security::X509Vnc, Security::X509Plain];

/// After this a server of 3.8 tells the result.
fn before_result() -> Vec<u8> {
    b"RFB 003.008\n\x01\x01".to_vec()
}

fn refusal(acceptable: &Acceptable, wire: &[u8]) -> (Reason, String) {
    let error = error(acceptable, wire);
    (error.reason(), error.to_string())
}

#[test]
fn there_is_no_way_down() {
    let demanded = allowing(&VENCRYPT);
    let offers: [(&[u8], &str); 5] = [
        (b"RFB 003.008\n\x02\x01\x02", "None, VNC password"),
        (b"RFB 003.007\n\x01\x12", "TLS"),
        (b"RFB 003.003\n\0\0\0\x01", "None"),
        (b"RFB 003.889\n\0\0\0\x02", "VNC password"),
        (
            b"RFB 003.008\n\x03\x01\x02\x13\0\x02\0\x02\0\0\x01\x01\0\0\x01\0",
            "VeNCrypt TLSNone, VeNCrypt Plain",
        ),
    ];
    for (wire, names) in offers {
        let (reason, message) = refusal(&demanded, wire);
        assert_eq!(reason, Reason::Denied);
        let expected = format!("the display offers {names}, and none of that may be taken;");
        assert!(message.starts_with(&expected), "{message}");
    }
    // 3.3 has no VeNCrypt, and an unknown type is none either.
    let anything = acceptable(ANYTHING);
    for decided in [19, 99, u32::MAX] {
        let wire = [b"RFB 003.003\n".as_slice(), &decided.to_be_bytes()].concat();
        assert_eq!(refusal(&anything, &wire).0, Reason::Denied);
    }
}

#[test]
fn a_type_without_its_secret_is_not_taken() {
    let mut allowed = allowing(&Security::STRONGEST_FIRST);
    allowed.password = None;
    let wire = b"RFB 003.008\n\x01\x02";
    let message = refusal(&allowed, wire).1;
    assert!(
        message.starts_with("the display offers VNC password, "),
        "{message}"
    );
}

#[test]
fn an_endless_list_ends() {
    let mut wire = b"RFB 003.008\n\xff".to_vec();
    wire.extend([99; 100_000]);
    let heard = hear_whole(&acceptable(ANYTHING), true, &wire);
    assert_eq!(heard.taken, 12 + 1 + 255);
    let message = heard.outcome.unwrap_err().to_string();
    assert!(message.contains("type 99 and 239 more"), "{message}");
    assert!(message.len() < 500, "{message}");

    let mut wire = b"RFB 003.008\n\x01\x13\0\x02\0\xff".to_vec();
    wire.extend([99; 100_000]);
    let heard = hear_whole(&acceptable(ANYTHING), true, &wire);
    assert_eq!(heard.taken, 18 + 4 * 255);
    assert!(matches!(
        heard.outcome,
        Err(DisplayError::NoneAcceptable(_))
    ));
}

#[test]
fn a_reason_of_4_gib_is_cut_and_made_printable() {
    let refusals: [(&[u8], Reason); 4] = [
        (b"RFB 003.008\n\x01\x01\0\0\0\x01", Reason::Denied),
        (b"RFB 003.008\n\0", Reason::EndpointLost),
        (b"RFB 003.007\n\0", Reason::EndpointLost),
        (b"RFB 003.003\n\0\0\0\0", Reason::EndpointLost),
    ];
    for (start, expected) in refusals {
        let mut wire = [start, &[0xff; 4], b"no\x1b[2J!"].concat();
        let head = wire.len() - 7;
        wire.resize(head + 100_000, b'x');
        let heard = hear_whole(&Acceptable::none(), true, &wire);
        assert_eq!(heard.taken, head + MAX_REASON_BYTES);
        let error = heard.outcome.unwrap_err();
        assert_eq!(error.reason(), expected);
        let message = error.to_string();
        assert!(message.contains("it says \"no?[2J!xxx"), "{message}");
        assert!(message.len() < MAX_REASON_BYTES + 200);
    }
}

#[test]
fn a_reason_is_told_as_far_as_it_came() {
    let whole = [
        &before_result()[..],
        b"\0\0\0\x01\0\0\0\x16Authentication failed\0",
    ]
    .concat();
    let message = refusal(&Acceptable::none(), &whole).1;
    assert!(
        message.contains("it says \"Authentication failed\"; check"),
        "{message}"
    );

    let closed = |more: &[u8]| {
        let wire = [&before_result()[..], more].concat();
        hear_whole(&Acceptable::none(), true, &wire).closed
    };
    for (more, says) in [
        (b"\0\0\0\x01".as_slice(), "it gave no reason"),
        (b"\0\0\0\x01\0\0", "it gave no reason"),
        (b"\0\0\0\x01\0\0\0\x09too", "it says \"too\""),
    ] {
        let error = closed(more);
        assert_eq!(error.reason(), Reason::Denied);
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// The versions before 3.8 give no reason after a result.
#[test]
fn a_refused_password_is_a_refusal_in_every_version() {
    for version in VERSIONS {
        let (mut says, _) = good(version, Security::Vnc);
        let at = says.len() - 1;
        for result in [1, 2, 255] {
            says[at] = result;
            let mut wire = says.clone();
            if version == Version::V3_8 {
                wire.extend([0; 4]);
            }
            let (reason, message) = refusal(&allowing(&WITHOUT_TLS), &wire);
            assert_eq!(reason, Reason::Denied, "{version:?}");
            assert!(
                message.contains("it gave no reason; check the password"),
                "{message}"
            );
        }
    }
}

#[test]
fn a_name_is_bounded() {
    let none = Acceptable::none();
    let start = [&before_result()[..], &[0; 4]].concat();
    let mut longest = [&start[..], &server_init(&vec![b'n'; MAX_NAME_BYTES])].concat();
    let heard = hear_whole(&none, true, &longest);
    assert!(matches!(heard.outcome, Ok(Step::Done(_))));

    // One byte more is refused before the name is read.
    let length = start.len() + SERVER_INIT_BYTES;
    longest[length - 1] += 1;
    let heard = hear_whole(&none, true, &longest);
    assert_eq!(heard.outcome, Err(DisplayError::NameTooLong));
    assert_eq!(heard.taken, length);
}

#[test]
fn half_a_handshake_tells_what_is_missing() {
    let (mut says, _) = good(Version::V3_8, Security::X509Vnc);
    says.extend(server_init(b"QEMU"));
    let allowed = allowing(&[Security::X509Vnc]);
    let mut seen: Vec<(String, Reason)> = Vec::new();
    for at in 0..says.len() {
        let heard = hear_whole(&allowed, true, &says[..at]);
        assert!(matches!(heard.outcome, Ok(Step::More)), "{at}");
        let now = (heard.closed.to_string(), heard.closed.reason());
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    let told: Vec<_> = seen
        .iter()
        .map(|(message, reason)| {
            let (_, what) = message.split_once("sending ").unwrap();
            (what.split(';').next().unwrap(), *reason)
        })
        .collect();
    let expected = [
        ("its version", Reason::EndpointLost),
        ("its security types", Reason::EndpointLost),
        ("the version of VeNCrypt", Reason::EndpointLost),
        ("its kinds of VeNCrypt", Reason::EndpointLost),
        ("the challenge for the password", Reason::Denied),
        ("the result of the authentication", Reason::Denied),
        ("the size of its screen (ServerInit)", Reason::EndpointLost),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_wrong_version_is_refused() {
    let (reason, message) = refusal(&Acceptable::none(), b"SSH-2.0-OpenSSH_9.2\r\n");
    assert_eq!(reason, Reason::EndpointLost);
    assert!(
        message.contains("\"SSH-2.0-Open\" is no version of RFB"),
        "{message}"
    );
    let (_, message) = refusal(&Acceptable::none(), b"RFB 000.000\n");
    assert!(message.contains("its version is 0.0"), "{message}");
}

#[test]
fn vencrypt_that_is_not_0_2_is_refused() {
    let allowed = allowing(&VENCRYPT);
    let cases: [(&[u8], DisplayError); 4] = [
        (b"\0\x01", DisplayError::VencryptVersion),
        (b"\0\x02\x01", DisplayError::VencryptVersion),
        (b"\x01\0\xff", DisplayError::VencryptVersion),
        (b"\0\x02\0\x01\0\0\x01\x04\0", DisplayError::KindRefused),
    ];
    for (more, expected) in cases {
        let wire = [b"RFB 003.008\n\x01\x13", more].concat();
        let error = error(&allowed, &wire);
        assert_eq!((error.reason(), &error), (Reason::Denied, &expected));
    }
    // None of its kinds.
    let wire = b"RFB 003.008\n\x01\x13\0\x02\0\0";
    assert!(refusal(&allowed, wire).1.contains("offers nothing,"));
}

#[test]
fn nothing_is_secured_out_of_turn() {
    let none = Acceptable::none();
    let mut display = Display::new(&none, true);
    let mut reply = Vec::new();
    display.secured(&mut reply);
    assert_eq!((display.awaited(), reply.len()), (Awaited::Version, 0));
}
