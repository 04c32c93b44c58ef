//! Which certificates of displays are taken.

use std::error::Error as _;
use std::os::unix::fs::PermissionsExt as _;

use rcgen::ExtendedKeyUsagePurpose;
use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use super::testing::{Authority, HOST, Leaf};
use super::*;
use crate::core::reason::Reason;

/// Connects to a display with such a certificate.
async fn connect_with(
    tls: &DisplayTls,
    server: Arc<rustls::ServerConfig>,
    host: Option<&str>,
) -> Result<ProtocolVersion, HandshakeError> {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let accepting = TlsAcceptor::from(server).accept(theirs);
    let (connected, _) = tokio::join!(tls.connect(ours, host), accepting);
    connected.map(|stream| stream.get_ref().1.protocol_version().unwrap())
}

async fn connect(
    authority: &Authority,
    tls: &DisplayTls,
    leaf: &Leaf<'_>,
    host: Option<&str>,
) -> Result<(), HandshakeError> {
    let server = authority.server(leaf, &TLS13, false);
    connect_with(tls, server, host).await.map(|_| ())
}

async fn refusal(authority: &Authority, tls: &DisplayTls, leaf: &Leaf<'_>) -> HandshakeError {
    let error = connect(authority, tls, leaf, Some(HOST)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Denied, "{error}");
    if let Some(source) = error.source() {
        assert!(
            !error.to_string().contains(&source.to_string()),
            "said once"
        );
    }
    error
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken() {
    let authority = Authority::new();
    let tls = authority.trust(None, false);
    let versions: [&'static SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
    for version in versions {
        let server = authority.server(&Leaf::default(), version, false);
        let spoken = connect_with(&tls, server, Some(HOST)).await.unwrap();
        assert_eq!(spoken, version.version);
    }
}

#[tokio::test]
async fn a_name_is_that_of_the_host_or_the_expected_one() {
    let authority = Authority::new();
    let leaf = Leaf {
        sans: &[HOST, "192.0.2.7", "2001:db8::7"],
        ..Leaf::default()
    };
    let by_host = authority.trust(None, false);
    for host in [
        HOST,
        "HOST1.example.org",
        "192.0.2.7",
        "2001:db8::7",
        "[2001:db8::7]",
    ] {
        connect(&authority, &by_host, &leaf, Some(host))
            .await
            .unwrap();
    }
    for host in ["host2.example.org", "192.0.2.8", "example.org"] {
        let error = connect(&authority, &by_host, &leaf, Some(host))
            .await
            .unwrap_err();
        let message = error.to_string();
        assert!(
            matches!(error, HandshakeError::WrongName { .. }),
            "{message}"
        );
        assert!(
            message.contains(HOST) && message.contains(host),
            "{message}"
        );
    }
    // The expected name takes the host's place, and a unix socket has no host.
    let by_name = authority.trust(Some(HOST), false);
    connect(&authority, &by_name, &leaf, Some("192.0.2.9"))
        .await
        .unwrap();
    connect(&authority, &by_name, &leaf, None).await.unwrap();
    for host in [None, Some("no host")] {
        let error = connect(&authority, &by_host, &leaf, host)
            .await
            .unwrap_err();
        assert!(matches!(error, HandshakeError::NoName), "{error}");
    }
    let by_another = authority.trust(Some("displays.example.org"), false);
    let error = refusal(&authority, &by_another, &leaf).await;
    assert!(matches!(error, HandshakeError::WrongName { .. }), "{error}");
}

#[tokio::test]
async fn a_common_name_counts_where_it_is_allowed_and_nothing_else_is_there() {
    let authority = Authority::new();
    let (strict, lax) = (authority.trust(None, false), authority.trust(None, true));
    let old = Leaf {
        common_names: &[HOST],
        sans: &[],
        ..Leaf::default()
    };
    let error = refusal(&authority, &strict, &old).await;
    assert!(error.to_string().contains("is for no name"), "{error}");
    connect(&authority, &lax, &old, Some(HOST)).await.unwrap();
    connect(&authority, &lax, &Leaf::default(), Some(HOST))
        .await
        .unwrap();

    let cases: [(&[&str], &[&str]); 6] = [
        (&["host2.example.org"], &[]),
        (&[HOST], &["host2.example.org"]),
        (&[HOST], &["192.0.2.7"]),
        (&[HOST, "host2.example.org"], &[]),
        (&["*.example.org"], &[]),
        (&[], &[]),
    ];
    for (common_names, sans) in cases {
        let leaf = Leaf {
            common_names,
            sans,
            ..Leaf::default()
        };
        let error = refusal(&authority, &lax, &leaf).await;
        assert!(
            matches!(error, HandshakeError::WrongName { .. }),
            "{common_names:?} {error}"
        );
    }
}

/// Also where the common name counts: nothing else is less strict.
#[tokio::test]
async fn authority_time_and_usage_are_always_checked() {
    let (authority, another) = (Authority::new(), Authority::new());
    for allow_common_name in [false, true] {
        let tls = authority.trust(None, allow_common_name);
        let common_names: &[&str] = &[HOST];
        let sans: &[&str] = if allow_common_name { &[] } else { &[HOST] };
        let good = || Leaf {
            common_names,
            sans,
            ..Leaf::default()
        };
        connect(&authority, &tls, &good(), Some(HOST))
            .await
            .unwrap();
        let expired = Leaf {
            until: 2020,
            ..good()
        };
        let for_clients = Leaf {
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            ..good()
        };
        for (issuer, leaf) in [
            (&another, good()),
            (&authority, expired),
            (&authority, for_clients),
        ] {
            let error = refusal(issuer, &tls, &leaf).await;
            assert!(matches!(error, HandshakeError::Certificate(_)), "{error}");
        }
    }
}

/// Writes a certificate for clients with its key.
fn client_files(authority: &Authority) -> (PathBuf, PathBuf) {
    let (certificate, key) = authority.issue(&Leaf {
        sans: &[],
        usage: ExtendedKeyUsagePurpose::ClientAuth,
        ..Leaf::default()
    });
    let at = |name: &str| authority.directory.path().join(name);
    std::fs::write(at("client.crt"), certificate.pem()).unwrap();
    std::fs::write(at("client.key"), key.serialize_pem()).unwrap();
    let owner_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(at("client.key"), owner_only).unwrap();
    (at("client.crt"), at("client.key"))
}

#[tokio::test]
async fn a_display_that_wants_a_certificate_gets_ours() {
    let authority = Authority::new();
    let (certificate, key) = client_files(&authority);
    let options = |client| DisplayTlsOptions {
        ca: &*Box::leak(Box::new(authority.ca())),
        client,
        expected_name: None,
        allow_common_name: false,
    };
    let with = DisplayTls::load(&options(Some((&certificate, &key)))).unwrap();
    let without = DisplayTls::load(&options(None)).unwrap();
    let server = authority.server(&Leaf::default(), &TLS12, true);
    connect_with(&with, Arc::clone(&server), Some(HOST))
        .await
        .unwrap();
    // In 1.3 it shows after the handshake only.
    let error = connect_with(&without, server, Some(HOST))
        .await
        .unwrap_err();
    assert!(
        matches!(error, HandshakeError::ClientCertificate(_)),
        "{error:?}"
    );
    assert_eq!(error.reason(), Reason::Denied);

    let another = authority.issue(&Leaf::default()).1;
    std::fs::write(&key, another.serialize_pem()).unwrap();
    let error = DisplayTls::load(&options(Some((&certificate, &key)))).unwrap_err();
    assert!(matches!(error, DisplayTlsError::Mismatch { .. }), "{error}");
}

#[test]
fn files_and_names_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let load = |ca: &Path, expected_name| {
        DisplayTls::load(&DisplayTlsOptions {
            ca,
            client: None,
            expected_name,
            allow_common_name: false,
        })
        .unwrap_err()
        .to_string()
    };
    let message = load(Path::new("/nonexistent/ca.pem"), None);
    assert!(
        message.starts_with("/nonexistent/ca.pem: cannot be read"),
        "{message}"
    );
    let message = load(&authority.ca(), Some("not a name"));
    assert!(
        message.starts_with("\"not a name\" is neither"),
        "{message}"
    );
    assert!(!format!("{:?}", authority.trust(None, false)).contains("ClientConfig"));
}
