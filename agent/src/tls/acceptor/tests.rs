use std::future::Future;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tokio::io::{DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

use super::super::testing::{Authority, Files, Leaf};
use super::super::{PREFACE, server_config};
use super::*;
use crate::metrics::Metrics;

const DEADLINE: Duration = Duration::from_secs(10);
const NAMES: [&str; 2] = ["URI:spiffe://example.org/proxy", "DNS:proxy.example.org"];

/// An agent's side and what its clients need to know.
struct Site {
    files: Files,
    config: Arc<ServerConfig>,
    handshakes: Handshakes,
    metrics: Metrics,
}

impl Site {
    fn new() -> Self {
        Self::with_limit(8)
    }

    fn with_limit(limit: usize) -> Self {
        let files = Files::new();
        let config = server_config(&files.certificate, &files.private_key, &files.client_ca)
            .expect("all is well");
        let metrics = Metrics::new().expect("registers");
        let handles = HandshakeMetrics::register(metrics.registry()).expect("registers");
        Self {
            files,
            config,
            handshakes: Handshakes::new(limit, DEADLINE, handles),
            metrics,
        }
    }

    async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Result<Secured<S>, HandshakeError> {
        let addr = ([192, 0, 2, 1], 4711).into();
        self.handshakes
            .secure(stream, addr, Arc::clone(&self.config))
            .await
    }

    /// How many handshakes ended so; checks that no other one did, and that none is left.
    fn ended(&self, expected: &[(&str, u64)]) {
        let text = String::from_utf8(self.metrics.render().expect("renders")).expect("UTF-8");
        let prefix = "vmconsole_tls_handshakes_total{result=\"";
        let mut seen: Vec<(&str, u64)> = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix(prefix)) {
            let (label, count) = line.split_once("\"} ").expect("label and count");
            seen.push((label, count.parse().expect("a number")));
        }
        assert_eq!(
            seen.len(),
            HandshakeFailure::ALL.len() + 2,
            "all are there from the start"
        );
        seen.retain(|(_, count)| *count > 0);
        assert_eq!(seen, expected);
        assert!(text.contains("vmconsole_tls_handshakes_pending 0\n"));
    }

    fn client(&self) -> ClientConfig {
        self.client_with(
            &[&rustls::version::TLS13],
            Some(self.files.authority.issue(&NAMES)),
        )
    }

    fn client_with(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        leaf: Option<Leaf>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.files.authority.certificate()).expect("a CA");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("there are such versions")
            .with_root_certificates(roots);
        let mut config = match leaf {
            Some(leaf) => builder
                .with_client_auth_cert(vec![leaf.certificate.clone()], leaf.key())
                .expect("they match"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// What a client sees that sends the preface and reads on: bytes, or an error.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    config: ClientConfig,
    preface: &[u8],
) -> io::Result<Vec<u8>> {
    let name = ServerName::try_from("agent.example.org").expect("a name");
    let mut tls = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    tls.write_all(preface).await?;
    tls.flush().await?;
    let mut seen = Vec::new();
    tls.read_to_end(&mut seen).await?;
    Ok(seen)
}

/// The alert that `error` is about.
fn alert(error: &io::Error) -> Option<AlertDescription> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    match inner {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// Runs a client that must fail, over a loopback connection, and gives both ends' view.
async fn refused(
    site: &Site,
    config: ClientConfig,
    preface: &[u8],
) -> (HandshakeFailure, Option<AlertDescription>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let to = listener.local_addr().expect("bound");
    let serve = async {
        let (stream, addr) = listener.accept().await.expect("accepts");
        site.handshakes
            .handshake(stream, addr, Arc::clone(&site.config))
            .await
    };
    let call = async {
        let stream = TcpStream::connect(to).await.expect("connects");
        converse(stream, config, preface).await
    };
    let (served, called) = within(async { tokio::join!(serve, call) }).await;
    let failure = served
        .map(|_| ())
        .expect_err("the agent refuses it")
        .failure;
    (failure, called.err().as_ref().and_then(alert))
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    let bound = Duration::from_secs(30);
    tokio::time::timeout(bound, future)
        .await
        .expect("within the bound")
}

#[tokio::test]
async fn a_client_with_a_certificate_gets_through_with_its_names() {
    let site = Site::new();
    let leaf = site.files.authority.issue_until(&NAMES, 2035);
    let fingerprint = Fingerprint::of(&leaf.certificate);
    let config = site.client_with(&[&rustls::version::TLS13], Some(leaf));
    let (ours, theirs) = duplex(64 * 1024);
    let sent = [&PREFACE[..], b"more"].concat();
    let serve = async {
        let Secured { mut io, peer } = site.secure(ours).await.expect("secured");
        let mut seen = [0; 28];
        io.read_exact(&mut seen).await.expect("preface and more");
        io.write_all(b"answer").await.expect("writes");
        io.shutdown().await.expect("closes");
        (seen, peer)
    };
    let ((seen, peer), answer) =
        within(async { tokio::join!(serve, converse(theirs, config, &sent)) }).await;
    assert_eq!(&seen[..], sent);
    assert_eq!(answer.expect("TLS was closed in order"), b"answer");
    let names: Vec<&str> = peer.identities.iter().map(PeerIdentity::as_str).collect();
    assert_eq!(names, ["spiffe://example.org/proxy", "proxy.example.org"]);
    assert_eq!(peer.fingerprint, fingerprint);
    assert_eq!(peer.addr, ([192, 0, 2, 1], 4711).into());
    assert!(peer.certificate_expires > SystemTime::now());
    site.ended(&[("ok", 1)]);
}

#[tokio::test]
async fn a_client_without_a_certificate_gets_an_alert() {
    let site = Site::new();
    let config = site.client_with(&[&rustls::version::TLS13], None);
    let seen = refused(&site, config, PREFACE).await;
    let alert = AlertDescription::CertificateRequired;
    assert_eq!(seen, (HandshakeFailure::NoCertificate, Some(alert)));
    site.ended(&[("no_certificate", 1)]);
}

/// The connection takes no more than 1 KiB in flight: if it were closed before the client
/// is done writing, the client would see a broken pipe and never read the alert.
#[tokio::test]
async fn the_alert_arrives_although_the_client_sends_on() {
    let site = Site::new();
    let config = site.client_with(&[&rustls::version::TLS13], None);
    let (ours, theirs) = duplex(1024);
    let client = converse(theirs, config, &[b'x'; 100_000]);
    let (served, called) = within(async { tokio::join!(site.secure(ours), client) }).await;
    let error = served.map(|_| ()).expect_err("no certificate");
    assert_eq!(error.failure, HandshakeFailure::NoCertificate);
    let seen = called.expect_err("the alert");
    assert_eq!(
        alert(&seen),
        Some(AlertDescription::CertificateRequired),
        "{seen}"
    );
}

/// Nor does a client that never closes hold what it has lost.
#[tokio::test(start_paused = true)]
async fn a_refused_client_is_lingered_for_only_so_long() {
    let site = Site::new();
    let start = Instant::now();
    let (ours, mut theirs) = duplex(1024);
    theirs.write_all(b"not TLS").await.expect("fits");
    let error = site.secure(ours).await.map(|_| ()).expect_err("not TLS");
    assert_eq!(error.failure, HandshakeFailure::NotTls);
    assert_eq!(start.elapsed(), LINGER);

    let (ours, mut theirs) = duplex(1024);
    let flood = async { while theirs.write_all(&[0; 512]).await.is_ok() {} };
    let (served, ()) = tokio::join!(site.secure(ours), flood);
    assert_eq!(
        served.map(|_| ()).expect_err("not TLS").failure,
        HandshakeFailure::NotTls
    );
    assert_eq!(start.elapsed(), LINGER, "a flood ends by its length");
}

#[tokio::test]
async fn another_authoritys_certificate_gets_an_alert() {
    let site = Site::new();
    let leaf = Authority::new("other").issue(&NAMES);
    let config = site.client_with(&[&rustls::version::TLS13], Some(leaf));
    let seen = refused(&site, config, PREFACE).await;
    assert_eq!(
        seen,
        (
            HandshakeFailure::UnknownCa,
            Some(AlertDescription::UnknownCA)
        )
    );
    site.ended(&[("unknown_ca", 1)]);
}

#[tokio::test]
async fn an_expired_certificate_gets_an_alert() {
    let site = Site::new();
    let leaf = site.files.authority.issue_until(&NAMES, 2020);
    let config = site.client_with(&[&rustls::version::TLS13], Some(leaf));
    let seen = refused(&site, config, PREFACE).await;
    assert_eq!(
        seen,
        (
            HandshakeFailure::Expired,
            Some(AlertDescription::CertificateExpired)
        )
    );
    site.ended(&[("expired", 1)]);
}

#[tokio::test]
async fn a_certificate_with_too_many_names_is_refused() {
    let site = Site::new();
    let names: Vec<String> = (0..33).map(|n| format!("DNS:n{n}.example.org")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let leaf = site.files.authority.issue(&names);
    let config = site.client_with(&[&rustls::version::TLS13], Some(leaf));
    assert_eq!(
        refused(&site, config, PREFACE).await,
        (HandshakeFailure::BadCertificate, None)
    );
    site.ended(&[("bad_certificate", 1)]);
}

#[tokio::test]
async fn tls_1_2_gets_an_alert() {
    let site = Site::new();
    let leaf = site.files.authority.issue(&NAMES);
    let config = site.client_with(&[&rustls::version::TLS12], Some(leaf));
    let seen = refused(&site, config, PREFACE).await;
    assert_eq!(
        seen,
        (
            HandshakeFailure::TlsVersion,
            Some(AlertDescription::ProtocolVersion)
        )
    );
    site.ended(&[("tls_version", 1)]);
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_agent_is_told_apart() {
    let site = Site::new();
    let mut roots = RootCertStore::empty();
    roots
        .add(Authority::new("other").certificate())
        .expect("a CA");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("there is such a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    assert_eq!(
        refused(&site, config, PREFACE).await.0,
        HandshakeFailure::ClientAlert
    );
    site.ended(&[("client_alert", 1)]);
}

#[tokio::test]
async fn http2_must_be_asked_for_and_spoken() {
    let site = Site::new();
    let mut config = site.client();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let seen = refused(&site, config, PREFACE).await;
    let alert = AlertDescription::NoApplicationProtocol;
    assert_eq!(seen, (HandshakeFailure::NoAlpn, Some(alert)));

    let mut config = site.client();
    config.alpn_protocols.clear();
    assert_eq!(
        refused(&site, config, PREFACE).await,
        (HandshakeFailure::NoAlpn, None)
    );

    let request = b"GET / HTTP/1.1\r\n\r\n";
    let seen = refused(&site, site.client(), request).await;
    assert_eq!(seen, (HandshakeFailure::BadPreface, None));
    site.ended(&[("bad_preface", 1), ("no_alpn", 2)]);
}

#[tokio::test]
async fn bytes_that_are_not_tls_are_refused_with_an_alert() {
    let site = Site::new();
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        PREFACE,
        &[0; 64],
        &[0xff; 64],
    ] {
        let (ours, mut theirs) = duplex(1024);
        theirs.write_all(garbage).await.expect("fits");
        let client = async move {
            let mut answer = Vec::new();
            theirs.read_to_end(&mut answer).await.map(|_| answer)
        };
        let (served, answer) = within(async { tokio::join!(site.secure(ours), client) }).await;
        let error = served.map(|_| ()).expect_err("not TLS");
        assert_eq!(error.failure, HandshakeFailure::NotTls);
        let answer = answer.expect("closed in order");
        // An alert record (RFC 8446, section 5.1): type 21, and a fatal level.
        assert_eq!(
            (answer.first(), answer.get(5)),
            (Some(&21), Some(&2)),
            "{garbage:?}"
        );
    }
    site.ended(&[("not_tls", 4)]);
}

#[tokio::test]
async fn a_client_that_closes_early_is_told_apart() {
    let site = Site::new();
    let (ours, theirs) = duplex(1024);
    drop(theirs);
    let error = within(site.secure(ours))
        .await
        .map(|_| ())
        .expect_err("closed");
    assert_eq!(error.failure, HandshakeFailure::Closed);
    site.ended(&[("closed", 1)]);
}

/// Half-open before TLS, inside of TLS and before the preface.
#[tokio::test(start_paused = true)]
async fn one_deadline_covers_tls_and_preface() {
    let site = Site::new();
    let start = Instant::now();
    let (ours, _theirs) = duplex(1024);
    let silent = site.secure(ours).await.map(|_| ()).expect_err("silent");

    let (ours, mut theirs) = duplex(1024);
    theirs.write_all(&[22, 3, 1, 2, 0, 1]).await.expect("fits");
    let stuck = site
        .secure(ours)
        .await
        .map(|_| ())
        .expect_err("stuck in the first message");

    let (ours, theirs) = duplex(64 * 1024);
    let client = converse(theirs, site.client(), &PREFACE[..23]);
    let (served, _) = tokio::join!(site.secure(ours), client);
    let no_preface = served.map(|_| ()).expect_err("one byte is missing");

    for error in [silent, stuck, no_preface] {
        assert_eq!(error.failure, HandshakeFailure::Timeout);
    }
    assert_eq!(start.elapsed().as_secs(), 3 * DEADLINE.as_secs());
    site.ended(&[("timeout", 3)]);
}

#[tokio::test(start_paused = true)]
async fn half_open_connections_lock_nobody_out() {
    const LIMIT: usize = 16;
    let site = Site::with_limit(LIMIT);
    let start = Instant::now();
    let mut kept: Vec<DuplexStream> = Vec::new();
    let mut half_open = Vec::new();
    for _ in 0..200 {
        let (ours, theirs) = duplex(1024);
        kept.push(theirs);
        half_open.push(site.secure(ours));
    }
    let flood = futures_util::future::join_all(half_open);
    let caller = async {
        let (ours, theirs) = duplex(64 * 1024);
        let serve = async {
            let secured = site
                .secure(ours)
                .await
                .expect("the real caller gets through");
            assert_eq!(start.elapsed(), Duration::ZERO, "at once");
            drop(secured);
        };
        tokio::join!(serve, converse(theirs, site.client(), PREFACE)).0
    };
    let (ended, ()) = tokio::join!(flood, caller);
    let evicted = ended
        .iter()
        .filter(|result| {
            result
                .as_ref()
                .is_err_and(|error| error.failure == HandshakeFailure::Evicted)
        })
        .count();
    assert_eq!(evicted, 200 - LIMIT + 1);
    assert_eq!(start.elapsed().as_secs(), DEADLINE.as_secs());
    site.ended(&[("evicted", 185), ("ok", 1), ("timeout", 15)]);
}

#[tokio::test]
async fn a_handshake_that_is_given_up_is_counted() {
    let site = Site::new();
    let (ours, _theirs) = duplex(1024);
    let mut handshake = Box::pin(site.secure(ours));
    assert!(futures_util::poll!(&mut handshake).is_pending());
    drop(handshake);
    site.ended(&[("cancelled", 1)]);
}

/// A client that kept what it got at its first connection does the whole handshake again.
#[tokio::test]
async fn sessions_are_never_resumed() {
    let site = Site::new();
    let config = site.client();
    for _ in 0..2 {
        let (ours, theirs) = duplex(64 * 1024);
        let serve = async {
            let mut secured = site.secure(ours).await.expect("secured");
            let kind = secured.io.get_ref().get_ref().get_ref().1.handshake_kind();
            assert_eq!(kind, Some(rustls::HandshakeKind::Full));
            secured.io.shutdown().await.expect("closes");
        };
        let ((), called) =
            within(async { tokio::join!(serve, converse(theirs, config.clone(), PREFACE)) }).await;
        called.expect("closed in order");
    }
}

#[tokio::test]
async fn an_accepted_socket_is_prepared_to_notice_a_dead_peer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let client = TcpStream::connect(listener.local_addr().expect("bound"));
    let (accepted, _client) = tokio::join!(listener.accept(), client);
    let (stream, _) = accepted.expect("accepts");
    prepare(&stream).expect("a live socket");
    let socket = SockRef::from(&stream);
    assert!(stream.nodelay().expect("readable"));
    assert!(socket.keepalive().expect("readable"));
    assert_eq!(
        socket.tcp_keepalive_time().expect("readable"),
        KEEPALIVE_IDLE
    );
    assert_eq!(
        socket.tcp_user_timeout().expect("readable"),
        Some(USER_TIMEOUT)
    );
}
