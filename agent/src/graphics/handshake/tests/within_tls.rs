//! VeNCrypt with a display that plays its part within TLS. QEMU has no X509Plain, so that this
//! is where it is tried.

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::graphics::tls::testing::{Authority, HOST, Leaf};

fn hosted() -> DisplayAccess {
    let host = Some(HOST.to_owned());
    DisplayAccess::AsAsked { host }
}

/// What a display is told up to TLS, once it has said what goes before.
async fn up_to_tls(line: &mut DuplexStream, kind: u8) -> Vec<u8> {
    let says = [
        b"RFB 003.008\n\x02\x01\x13\0\x02\0\x01\0\0\x01".as_slice(),
        &[kind, 1],
    ]
    .concat();
    line.write_all(&says).await.unwrap();
    let mut heard = vec![0; 12 + 1 + 2 + 4];
    line.read_exact(&mut heard).await.unwrap();
    heard
}

async fn plain(version: &'static SupportedProtocolVersion) {
    let authority = Authority::new();
    let server = authority.server(&Leaf::default(), version, false);
    let kinds = [Security::None, Security::X509None, Security::X509Plain];
    let terms = terms(&kinds, Some(authority.trust(None, false)));
    let (ours, mut theirs) = duplex(4096);
    let display = async move {
        let heard = up_to_tls(&mut theirs, 6).await;
        assert_eq!(heard, b"RFB 003.008\n\x13\0\x02\0\0\x01\x06");
        let mut tls = TlsAcceptor::from(server).accept(theirs).await.unwrap();
        let mut credentials = [0; 16];
        tls.read_exact(&mut credentials).await.unwrap();
        assert_eq!(credentials, *b"\0\0\0\x02\0\0\0\x06opsecret");
        tls.write_all(&[0; 4]).await.unwrap();
        assert_eq!(tls.read_u8().await.unwrap(), 1);
        tls.write_all(&server_init(&[b'n'; 5000])).await.unwrap();
        tls.write_all(b"pictures").await.unwrap();
        tls.flush().await.unwrap();
        let mut input = Vec::new();
        tls.read_to_end(&mut input).await.unwrap();
        input
    };
    let greeting = async {
        let deadline = Instant::now() + TIME;
        let mut display = greet(ours, &hosted(), &terms, true, deadline)
            .await
            .unwrap();
        assert_eq!(display.security, Security::X509Plain);
        assert_eq!(display.server_init.raw.len(), 24 + 5000);
        let mut pictures = [0; 8];
        display.read.read_exact(&mut pictures).await.unwrap();
        assert_eq!(pictures, *b"pictures");
        display.write.write_all(b"a key").await.unwrap();
        display.write.shutdown().await.unwrap();
    };
    let ((), input) = tokio::join!(greeting, display);
    assert_eq!(input, b"a key");
}

#[tokio::test(start_paused = true)]
async fn credentials_of_plain_go_within_tls_1_3() {
    plain(&TLS13).await;
}

#[tokio::test(start_paused = true)]
async fn credentials_of_plain_go_within_tls_1_2() {
    plain(&TLS12).await;
}

/// The error of a display that plays `display` from where TLS is to begin.
async fn failed<F: Future<Output = ()>>(
    tls: DisplayTls,
    display: impl FnOnce(DuplexStream) -> F,
) -> (HandshakeError, Duration) {
    let terms = terms(&[Security::X509None], Some(tls));
    let (ours, mut theirs) = duplex(4096);
    let begun = Instant::now();
    let greeting = async {
        let opened = greet(ours, &hosted(), &terms, true, begun + TIME).await;
        (opened.err().expect("it fails"), begun.elapsed())
    };
    let display = async {
        up_to_tls(&mut theirs, 4).await;
        display(theirs).await;
    };
    tokio::join!(greeting, display).0
}

#[tokio::test(start_paused = true)]
async fn a_display_without_tls_behind_its_offer_is_refused() {
    let authority = Authority::new();
    let (error, _) = failed(
        authority.trust(None, false),
        async |mut line: DuplexStream| {
            line.write_all(&[0; 64]).await.unwrap();
        },
    )
    .await;
    assert!(matches!(error, HandshakeError::Tls(_)), "{error:?}");
    assert_eq!(error.reason(), Reason::EndpointLost);

    let (error, took) = failed(
        authority.trust(None, false),
        async |mut line: DuplexStream| {
            let mut hello = Vec::new();
            line.read_to_end(&mut hello).await.unwrap();
            assert!(!hello.is_empty());
        },
    )
    .await;
    assert!(error.to_string().contains("the TLS handshake"), "{error}");
    assert_eq!((took, error.reason()), (TIME, Reason::EndpointLost));

    let (error, took) = failed(authority.trust(None, false), async |line| drop(line)).await;
    assert!(
        error
            .to_string()
            .contains("where the TLS handshake was expected"),
        "{error}"
    );
    assert_eq!(
        (took, error.reason()),
        (Duration::ZERO, Reason::EndpointLost)
    );
}

#[tokio::test(start_paused = true)]
async fn a_display_of_another_authority_is_told_nothing() {
    let (authority, another) = (Authority::new(), Authority::new());
    let server = another.server(&Leaf::default(), &TLS13, false);
    let (error, _) = failed(authority.trust(None, false), async |line| {
        assert!(TlsAcceptor::from(server).accept(line).await.is_err());
    })
    .await;
    assert!(matches!(error, HandshakeError::Certificate(_)), "{error:?}");
    assert_eq!(error.reason(), Reason::Denied);
}

/// In TLS 1.3 our side is done before the display looks at our certificate: it shows as an alert,
/// or as an end without one.
#[tokio::test(start_paused = true)]
async fn a_display_that_wants_our_certificate_denies() {
    let authority = Authority::new();
    let server = authority.server(&Leaf::default(), &TLS13, true);
    let (error, _) = failed(authority.trust(None, false), async |line| {
        assert!(TlsAcceptor::from(server).accept(line).await.is_err());
    })
    .await;
    assert!(
        matches!(error, HandshakeError::ClientCertificate(_)),
        "{error:?}"
    );
    assert_eq!(error.reason(), Reason::Denied);

    let server = authority.server(&Leaf::default(), &TLS13, false);
    let (error, _) = failed(authority.trust(None, false), async |line| {
        drop(TlsAcceptor::from(server).accept(line).await.unwrap());
    })
    .await;
    assert!(
        error
            .to_string()
            .ends_with("client certificate for displays"),
        "{error}"
    );
    assert_eq!(error.reason(), Reason::Denied);
}
