//! Displays that are silent, stop, lie, or never end.

use super::*;
use crate::core::rfb::display::{DisplayError, MAX_BYTES};

/// A display that says this and then nothing, without closing.
async fn greet_silent(says: &[u8], access: &DisplayAccess) -> (HandshakeError, Duration) {
    let (ours, mut theirs) = duplex(1024);
    theirs.write_all(says).await.unwrap();
    let begun = Instant::now();
    let opened = greet(ours, access, &Terms::default(), true, begun + TIME).await;
    (opened.err().expect("it is silent"), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn silence_ends_with_the_time() {
    let init = server_init(b"QEMU");
    let start = b"RFB 003.008\n\x01\x01\0\0\0\0".as_slice();
    let (half, no_name) = ([start, &init[..11]].concat(), [start, &init[..24]].concat());
    let cases: [(&[u8], &str); 6] = [
        (b"", "its version"),
        (b"RFB 003.", "its version"),
        (b"RFB 003.008\n", "its security types"),
        (b"RFB 003.008\n\x01\x01", "the result of the authentication"),
        (&half, "the size of its screen"),
        (&no_name, "the size of its screen"),
    ];
    for (says, missing) in cases {
        let (error, took) = greet_silent(says, &DisplayAccess::Granted).await;
        assert_eq!((took, error.reason()), (TIME, Reason::EndpointLost));
        let message = error.to_string();
        assert!(
            message.contains(&format!("silent instead of sending {missing}")),
            "{message}"
        );
    }
}

/// Time does not begin anew with each byte.
#[tokio::test(start_paused = true)]
async fn a_drip_of_bytes_ends_with_the_time() {
    let (ours, mut theirs) = duplex(1);
    let says = [
        b"RFB 003.008\n\x01\x01\0\0\0\0".as_slice(),
        &server_init(&[b'n'; 9000]),
    ]
    .concat();
    let dripping = async {
        for byte in says {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if theirs.write_all(&[byte]).await.is_err() {
                return;
            }
        }
        panic!("it listened to the end");
    };
    let (begun, none) = (Instant::now(), Terms::default());
    let greeting = async {
        let opened = greet(ours, &DisplayAccess::Granted, &none, true, begun + TIME).await;
        (opened.err().unwrap(), begun.elapsed())
    };
    // The answers do not get through a pipe of one byte, and wait for their time to be over.
    let ((error, took), ()) = tokio::join!(greeting, dripping);
    assert!(matches!(error, HandshakeError::Silent(_)), "{error}");
    assert_eq!(took, TIME);
}

#[tokio::test(start_paused = true)]
async fn a_display_that_closes_is_not_waited_for() {
    for says in [
        b"".as_slice(),
        b"RFB 003.008\n\x01\x01",
        b"RFB 003.008\n\x01\x01\0\0\0\0\x04",
    ] {
        let (ours, mut theirs) = duplex(1024);
        theirs.write_all(says).await.unwrap();
        drop(theirs);
        let begun = Instant::now();
        let opened = greet(
            ours,
            &DisplayAccess::Granted,
            &Terms::default(),
            true,
            begun + TIME,
        )
        .await;
        let error = opened.err().unwrap();
        assert!(
            matches!(error, HandshakeError::Rfb(DisplayError::Closed { .. })),
            "{error}"
        );
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}

/// It had said why before it closed.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_heard_though_the_display_does_not_listen() {
    let (ours, mut theirs) = duplex(1024);
    theirs
        .write_all(b"RFB 003.008\n\0\0\0\0\x04busy")
        .await
        .unwrap();
    drop(theirs);
    let deadline = Instant::now() + TIME;
    let opened = greet(
        ours,
        &DisplayAccess::Granted,
        &Terms::default(),
        true,
        deadline,
    )
    .await;
    let message = opened.err().unwrap().to_string();
    assert!(
        message.contains("refused the connection: it says \"busy\""),
        "{message}"
    );
}

/// Says `start` and then this byte for ever, and tells how much was taken of it.
async fn endless(
    start: &[u8],
    byte: u8,
    terms: &Terms,
    access: &DisplayAccess,
) -> (HandshakeError, u64) {
    let (ours, mut theirs) = duplex(64);
    let start = start.to_vec();
    let talking = async move {
        theirs.write_all(&start).await.unwrap();
        let mut taken = start.len() as u64;
        while theirs.write_all(&[byte; 64]).await.is_ok() {
            taken += 64;
        }
        taken
    };
    let greeting = async {
        let opened = greet(ours, access, terms, true, Instant::now() + TIME).await;
        opened.err().expect("it never ends")
    };
    tokio::join!(greeting, talking)
}

#[tokio::test(start_paused = true)]
async fn what_never_ends_is_bounded() {
    let none = Terms::default();
    let cases: [(&[u8], u8, &str, u64); 5] = [
        (b"", b'x', "does not speak RFB", 12),
        (b"RFB 003.008\n\xff", 99, "offers type 99, type 99", 268),
        (
            b"RFB 003.008\n\0\xff\xff\xff\xff",
            b'x',
            "it says \"xxxx",
            17 + 1024,
        ),
        (
            b"RFB 003.008\n\x01\x01\0\0\0\x01\xff\xff\xff\xff",
            b'x',
            "it says \"xxxx",
            22 + 1024,
        ),
        (
            b"RFB 003.008\n\x01\x01\0\0\0\0",
            0xff,
            "name is longer than 65536 bytes",
            42,
        ),
    ];
    for (start, byte, says, most) in cases {
        let (error, taken) = endless(start, byte, &none, &DisplayAccess::Granted).await;
        let message = error.to_string();
        assert!(message.contains(says), "{message}");
        assert!(message.len() < 2048);
        // What was in the pipe between was taken by nobody.
        assert!(
            taken <= most + 128 && most < MAX_BYTES as u64,
            "{says}: {taken}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_downgrade_is_refused_and_nothing_secret_is_sent() {
    let authority = crate::graphics::tls::testing::Authority::new();
    let kinds = [Security::X509None, Security::X509Vnc, Security::X509Plain];
    let demanded = terms(&kinds, Some(authority.trust(Some("host1"), false)));
    let offers: [(&[u8], &[u8], &str); 4] = [
        (
            b"RFB 003.008\n\x02\x01\x02",
            b"RFB 003.008\n",
            "None, VNC password",
        ),
        (b"RFB 003.003\n\0\0\0\x02", b"RFB 003.003\n", "VNC password"),
        (b"RFB 003.889\n\0\0\0\x01", b"RFB 003.003\n", "None"),
        (
            b"RFB 003.008\n\x02\x01\x13\0\x02\0\x02\0\0\x01\x01\0\0\x01\0",
            b"RFB 003.008\n\x13\0\x02",
            "VeNCrypt TLSNone, VeNCrypt Plain",
        ),
    ];
    for (says, hears, names) in offers {
        let (opened, heard) = greet_reciting(says, &AS_ASKED, &demanded).await;
        let error = opened.err().unwrap();
        assert_eq!((error.reason(), heard.as_slice()), (Reason::Denied, hears));
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("the display offers {names}, and")),
            "{message}"
        );
    }
}
