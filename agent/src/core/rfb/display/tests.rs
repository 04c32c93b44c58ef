//! Displays, good and bad.

mod hostile;

use proptest::prelude::*;

use super::super::password::VncPassword;
use super::super::security::{Acceptable, Security};
use super::super::version::Version;
use super::fuzzing::{Heard, acceptable, check, hear};
use super::*;

const VERSIONS: [Version; 3] = [Version::V3_3, Version::V3_7, Version::V3_8];
/// Everything is allowed, and all secrets are there.
const ANYTHING: u8 = 0x7f;
const CHALLENGE: [u8; CHALLENGE_BYTES] = *b"0123456789abcdef";

/// What allows these alone, with all secrets.
fn allowing(allowed: &[Security]) -> Acceptable {
    Acceptable {
        allowed: allowed.iter().copied().collect(),
        ..acceptable(ANYTHING)
    }
}

fn server_init(name: &[u8]) -> Vec<u8> {
    let mut init = vec![0x02, 0x80, 0x01, 0xe0];
    init.extend(1..=16);
    init.extend((name.len() as u32).to_be_bytes());
    init.extend(name);
    init
}

/// A good server of one type: what it says up to ServerInit, and what it is to hear.
fn good(version: Version, security: Security) -> (Vec<u8>, Vec<u8>) {
    let (mut says, mut hears) = (version.bytes().to_vec(), version.bytes().to_vec());
    let number = security.number() as u8;
    if version == Version::V3_3 {
        says.extend([0, 0, 0, number]);
    } else {
        // One that nobody knows is offered too.
        says.extend([2, 77, number]);
        hears.push(number);
    }
    if let Some(kind) = security.subtype() {
        says.extend([0, 2, 0, 2]);
        says.extend(257_u32.to_be_bytes());
        says.extend(kind.to_be_bytes());
        says.push(1);
        hears.extend([0, 2]);
        hears.extend(kind.to_be_bytes());
    }
    match security {
        Security::Vnc | Security::X509Vnc => {
            says.extend(CHALLENGE);
            hears.extend(VncPassword::new("secret12").respond(&CHALLENGE));
        }
        Security::X509Plain => hears.extend(b"\0\0\0\x02\0\0\0\x06opsecret"),
        Security::None | Security::X509None => {}
    }
    if security != Security::None || version == Version::V3_8 {
        says.extend([0; 4]);
    }
    (says, hears)
}

fn hear_whole(acceptable: &Acceptable, shared: bool, wire: &[u8]) -> Heard {
    hear(acceptable, shared, wire, |rest, _| rest.len())
}

/// The message of a handshake that failed.
fn error(acceptable: &Acceptable, wire: &[u8]) -> DisplayError {
    hear_whole(acceptable, true, wire)
        .outcome
        .expect_err("it fails")
}

#[test]
fn each_version_and_type_gets_through() {
    for version in VERSIONS {
        for security in Security::STRONGEST_FIRST {
            if version == Version::V3_3 && security.is_vencrypt() {
                continue;
            }
            for shared in [true, false] {
                let (mut says, mut hears) = good(version, security);
                let init = server_init(b"QEMU (web)");
                says.extend(&init);
                hears.push(u8::from(shared));
                let heard = hear_whole(&allowing(&[security]), shared, &says);
                let Ok(Step::Done(done)) = heard.outcome else {
                    panic!("{version:?} {security}: {heard:?}");
                };
                assert_eq!((done.width, done.height), (640, 480));
                assert_eq!(done.pixel_format[..], init[4..20]);
                assert_eq!(done.raw, init);
                assert_eq!(heard.reply, hears, "{version:?} {security}");
                assert_eq!(heard.security, Some(security));
                assert_eq!(heard.taken, says.len());
                assert_eq!(heard.before_tls.is_some(), security.is_vencrypt());
            }
        }
    }
}

/// What is secret goes into TLS, and nothing that came before TLS is taken for what is in it.
#[test]
fn credentials_are_sent_within_tls_alone() {
    for security in [Security::X509Vnc, Security::X509Plain] {
        let (says, hears) = good(Version::V3_8, security);
        let heard = hear_whole(&allowing(&[security]), true, &says);
        let before = heard.before_tls.expect("TLS was begun");
        let plain = 12 + 1 + 2 + 4;
        assert_eq!((before, &heard.reply[..before]), (plain, &hears[..plain]));
    }
}

#[test]
fn the_strongest_of_what_is_allowed_is_taken() {
    let offers = b"RFB 003.008\n\x03\x01\x02\x13";
    let cases: [(&[Security], u8); 4] = [
        (&Security::STRONGEST_FIRST, 19),
        (&[Security::None, Security::Vnc], 2),
        (&[Security::None], 1),
        (&[Security::None, Security::X509None], 19),
    ];
    for (allowed, chosen) in cases {
        let heard = hear_whole(&allowing(allowed), true, offers);
        assert_eq!(heard.outcome, Ok(Step::More));
        assert_eq!(heard.reply.last(), Some(&chosen), "{allowed:?}");
    }
    // Of the kinds of VeNCrypt too.
    let kinds = [256_u32, 260, 261, 262, 264].map(u32::to_be_bytes).concat();
    let wire = [b"RFB 003.008\n\x01\x13\0\x02\0\x05".as_slice(), &kinds].concat();
    for security in [Security::X509None, Security::X509Vnc, Security::X509Plain] {
        let weaker: Vec<_> = Security::STRONGEST_FIRST
            .into_iter()
            .filter(|it| *it <= security)
            .collect();
        let heard = hear_whole(&allowing(&weaker), true, &wire);
        assert_eq!(heard.security, Some(security));
    }
}

#[test]
fn who_ends_other_viewers_waits_until_it_is_let_in() {
    let none = Acceptable::none();
    let said = |shared, says: &[u8]| {
        let (mut display, mut said) = (Display::new(&none, shared), Vec::new());
        let step = display.take(&mut &says[..], &mut said);
        assert_eq!(step, Ok(Step::More));
        said
    };
    let chosen = b"RFB 003.008\n\x01\x01".as_slice();
    let let_in = [chosen, &[0; 4]].concat();
    for (shared, says, answer) in [
        (true, chosen, b"RFB 003.008\n\x01\x01".as_slice()),
        (true, &let_in, b"RFB 003.008\n\x01\x01"),
        (false, chosen, b"RFB 003.008\n\x01"),
        (false, &let_in, b"RFB 003.008\n\x01\0"),
    ] {
        assert_eq!(said(shared, says), answer, "{shared} {says:?}");
    }
}

#[test]
fn a_reader_that_asks_what_is_wanted_has_nothing_left_over() {
    for security in Security::STRONGEST_FIRST {
        let (mut says, _) = good(Version::V3_8, security);
        says.extend(server_init(b"QEMU"));
        let whole = says.len();
        says.extend(b"\0\0\0\x01 an update follows");
        let allowed = allowing(&[security]);
        let mut display = Display::new(&allowed, true);
        let (mut at, mut reply) = (0, Vec::new());
        loop {
            let mut piece = &says[at..at + display.wants()];
            at += piece.len();
            match display.take(&mut piece, &mut reply).unwrap() {
                Step::Done(_) => break,
                Step::StartTls => display.secured(&mut reply),
                Step::More => {}
            }
            assert_eq!(piece, b"");
        }
        assert_eq!(at, whole, "{security}");
    }
}

proptest! {
    #[test]
    fn any_cut_of_any_bytes_comes_to_the_same(
        choice: u8,
        version in prop::sample::select(VERSIONS.to_vec()),
        security in prop::sample::select(Security::STRONGEST_FIRST.to_vec()),
        keep in 0_usize..60,
        more in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let (mut says, _) = good(version, security);
        says.extend(server_init(b"name"));
        says.truncate(keep);
        says.extend(more);
        says.insert(0, choice);
        check(&says);
    }

    #[test]
    fn good_servers_hold_what_is_promised(
        choice: u8,
        version in prop::sample::select(VERSIONS.to_vec()),
        security in prop::sample::select(Security::STRONGEST_FIRST.to_vec()),
        name in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let (says, _) = good(version, security);
        check(&[&[choice], says.as_slice(), &server_init(&name)].concat());
    }
}
