//! Handshakes with displays that play a part, on a clock that stands still.

mod hostile;
mod within_tls;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::core::reason::Reason;
use crate::core::rfb::password::VncPassword;
use crate::core::rfb::vencrypt::PlainCredentials;
use crate::graphics::tls::DisplayTls;

/// How long a handshake may take.
const TIME: Duration = Duration::from_secs(10);

/// Allows these, with all secrets.
fn terms(allowed: &[Security], tls: Option<DisplayTls>) -> Terms {
    let acceptable = Acceptable {
        allowed: BTreeSet::from_iter(allowed.iter().copied()),
        password: Some(VncPassword::new("secret12")),
        plain: Some(PlainCredentials::new("op", "secret").unwrap()),
    };
    Terms::new(acceptable, tls).unwrap()
}

fn server_init(name: &[u8]) -> Vec<u8> {
    let mut init = vec![4, 0, 3, 0];
    init.extend(1..=16);
    init.extend((name.len() as u32).to_be_bytes());
    init.extend(name);
    init
}

/// A display that says all of `says` whatever it hears, and tells what it heard.
async fn recite(mut line: DuplexStream, says: Vec<u8>) -> Vec<u8> {
    // Whoever refuses it does not listen to the end.
    let _ = line.write_all(&says).await;
    let mut heard = Vec::new();
    let _ = line.read_to_end(&mut heard).await;
    heard
}

/// Greets a display that says this, and then listens.
async fn greet_reciting(
    says: &[u8],
    access: &DisplayAccess,
    terms: &Terms,
) -> (Result<OpenDisplay, HandshakeError>, Vec<u8>) {
    let (ours, theirs) = duplex(1024);
    let display = recite(theirs, says.to_vec());
    let greeting = async {
        let opened = greet(ours, access, terms, true, Instant::now() + TIME).await;
        match opened {
            Ok(mut display) => {
                // Nothing more goes there.
                display.write.shutdown().await.unwrap();
                Ok(display)
            }
            Err(error) => Err(error),
        }
    };
    tokio::join!(greeting, display)
}

const AS_ASKED: DisplayAccess = DisplayAccess::AsAsked { host: None };

#[tokio::test(start_paused = true)]
async fn the_first_byte_after_the_handshake_is_the_displays_own() {
    let init = server_init(&[b'n'; 5000]);
    let mut says = [b"RFB 003.008\n\x01\x01\0\0\0\0".as_slice(), &init].concat();
    says.extend(b"\0\0\0\0 and pictures");
    let (opened, heard) = greet_reciting(&says, &DisplayAccess::Granted, &Terms::default()).await;
    let mut display = opened.unwrap();
    assert_eq!(heard, b"RFB 003.008\n\x01\x01");
    assert_eq!(
        (display.server_init.width, display.server_init.height),
        (1024, 768)
    );
    assert_eq!(display.server_init.raw, init);
    assert_eq!(display.security, Security::None);
    let mut rest = Vec::new();
    display.read.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"\0\0\0\0 and pictures");
}

#[tokio::test(start_paused = true)]
async fn a_password_is_proven() {
    let challenge: [u8; 16] = std::array::from_fn(|at| at as u8);
    let mut says = b"RFB 003.008\n\x02\x01\x02".to_vec();
    says.extend(challenge);
    says.extend([0; 4]);
    says.extend(server_init(b"QEMU"));
    let terms = terms(&[Security::Vnc, Security::None], None);
    let (opened, heard) = greet_reciting(&says, &AS_ASKED, &terms).await;
    assert_eq!(opened.unwrap().security, Security::Vnc);
    assert_eq!(heard[..13], *b"RFB 003.008\n\x02");
    assert_eq!(
        heard[13..29],
        VncPassword::new("secret12").respond(&challenge)
    );
    assert_eq!(heard[29..], [1]);
}

/// A display that was told to let us in is to offer None, and gets no secret.
#[tokio::test(start_paused = true)]
async fn a_granted_display_gets_no_secret() {
    let terms = terms(&[Security::Vnc, Security::None], None);
    let says = b"RFB 003.008\n\x02\x02\x01";
    let (_, heard) = greet_reciting(says, &DisplayAccess::Granted, &terms).await;
    // With None comes ClientInit at once.
    assert_eq!(heard, b"RFB 003.008\n\x01\x01");
    let says = b"RFB 003.008\n\x01\x02";
    let (opened, heard) = greet_reciting(says, &DisplayAccess::Granted, &terms).await;
    assert_eq!(opened.err().unwrap().reason(), Reason::Denied);
    assert_eq!(heard, b"RFB 003.008\n");
}

#[tokio::test(start_paused = true)]
async fn an_exclusive_client_says_so() {
    let (ours, theirs) = duplex(1024);
    let init = server_init(b"QEMU");
    let says = [b"RFB 003.003\n\0\0\0\x01".as_slice(), &init].concat();
    let (none, deadline) = (Terms::default(), Instant::now() + TIME);
    let greeting = async {
        drop(
            greet(ours, &DisplayAccess::Granted, &none, false, deadline)
                .await
                .unwrap(),
        );
    };
    let ((), heard) = tokio::join!(greeting, recite(theirs, says));
    assert_eq!(heard, b"RFB 003.003\n\0");
}

#[test]
fn terms_that_cannot_be_met_are_refused() {
    use crate::graphics::TermsError;
    let of = |security| {
        let acceptable = Acceptable {
            allowed: BTreeSet::from([security]),
            ..Acceptable::default()
        };
        Terms::new(acceptable, None).map(|_| ())
    };
    assert_eq!(of(Security::None), Ok(()));
    assert_eq!(
        of(Security::Vnc),
        Err(TermsError::NoPassword(Security::Vnc))
    );
    for kind in [Security::X509None, Security::X509Vnc, Security::X509Plain] {
        assert_eq!(of(kind), Err(TermsError::NoTls(kind)));
    }
    let authority = crate::graphics::tls::testing::Authority::new();
    let with_tls = |security| {
        let acceptable = Acceptable {
            allowed: BTreeSet::from([security]),
            ..Acceptable::default()
        };
        Terms::new(acceptable, Some(authority.trust(None, false))).map(|_| ())
    };
    assert_eq!(with_tls(Security::X509None), Ok(()));
    let x509_vnc = Security::X509Vnc;
    assert_eq!(with_tls(x509_vnc), Err(TermsError::NoPassword(x509_vnc)));
    let x509_plain = Security::X509Plain;
    assert_eq!(
        with_tls(x509_plain),
        Err(TermsError::NoCredentials(x509_plain))
    );
}
