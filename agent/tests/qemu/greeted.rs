//! Opening the VNC displays of real QEMUs: the handshake, passwords, and VeNCrypt with
//! certificates. What QEMU has no way to do (X509Plain) is tried on a scripted display in the
//! agent itself.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test ends by panicking"
)]

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use vmconsole_agent::core::reason::Reason;
use vmconsole_agent::core::rfb::password::VncPassword;
use vmconsole_agent::core::rfb::security::{Acceptable, Security};
use vmconsole_agent::endpoint::{DisplayAccess, DisplayStream};
use vmconsole_agent::graphics::{
    DisplayTls, DisplayTlsOptions, HandshakeError, OpenDisplay, Terms, greet,
};

use super::host::{Qemu, SOON, connect};

const HOST: &str = "localhost";
const ON_SOCKET: DisplayAccess = DisplayAccess::AsAsked { host: None };

fn on_host(host: &str) -> DisplayAccess {
    let host = Some(host.to_owned());
    DisplayAccess::AsAsked { host }
}

/// A QEMU with a screen at a unix socket, or at a port of this host.
struct Display {
    directory: tempfile::TempDir,
    _qemu: Qemu,
}

impl Display {
    /// `vnc` is its `-vnc` without the address; `more` goes before it.
    fn start(vnc: &str, more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = format!("unix:{}{vnc}", directory.path().join("vnc").display());
        Self::run(directory, &at, more)
    }

    fn run(directory: tempfile::TempDir, vnc: &str, more: &[&str]) -> Self {
        let arguments = [&["-vga", "std"], more, &["-vnc", vnc]].concat();
        let _qemu = Qemu::start(&directory.path().join("qmp"), &arguments);
        Self { directory, _qemu }
    }

    async fn connect(&self) -> DisplayStream {
        let stream = connect(&self.directory.path().join("vnc"));
        stream.set_nonblocking(true).unwrap();
        DisplayStream::Unix(UnixStream::from_std(stream).unwrap())
    }

    async fn greet(&self, terms: &Terms) -> Result<OpenDisplay, HandshakeError> {
        open(self.connect().await, &ON_SOCKET, terms).await
    }
}

async fn open(
    stream: DisplayStream,
    access: &DisplayAccess,
    terms: &Terms,
) -> Result<OpenDisplay, HandshakeError> {
    greet(stream, access, terms, true, Instant::now() + SOON).await
}

fn terms(allowed: &[Security], password: &str, tls: Option<DisplayTls>) -> Terms {
    let acceptable = Acceptable {
        allowed: allowed.iter().copied().collect(),
        password: Some(VncPassword::new(password)),
        plain: None,
    };
    Terms::new(acceptable, tls).unwrap()
}

/// Asks for a corner of the screen, and checks that an update comes: the stream stands exactly
/// behind the handshake, in both directions.
async fn shows_a_screen(mut display: OpenDisplay) {
    assert!(display.server_init.width >= 640 && display.server_init.height >= 400);
    let (head, name) = display.server_init.raw.split_at(24);
    assert_eq!(head[20..], (name.len() as u32).to_be_bytes());
    assert!(name.starts_with(b"QEMU"), "{name:?}");
    let request = [3, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    display.write.write_all(&request).await.unwrap();
    display.write.flush().await.unwrap();
    let mut update = [0; 4 + 12];
    let reading = display.read.read_exact(&mut update);
    tokio::time::timeout(SOON, reading).await.unwrap().unwrap();
    // An update, of the rectangles that QEMU thinks fit; the first is raw.
    assert!(update[0] == 0 && update[2..4] != [0; 2], "{update:?}");
    assert_eq!(update[12..], [0; 4], "{update:?}");
}

#[tokio::test]
async fn a_display_without_authentication() {
    let qemu = Display::start("", &["-name", "web"]);
    let terms = terms(&[Security::None], "", None);
    let display = qemu.greet(&terms).await.unwrap();
    assert_eq!(display.security, Security::None);
    assert_eq!(display.server_init.raw[24..], *b"QEMU (web)");
    shows_a_screen(display).await;
    // Where it was told to let us in, no terms are needed.
    let stream = qemu.connect().await;
    let display = open(stream, &DisplayAccess::Granted, &Terms::default())
        .await
        .unwrap();
    shows_a_screen(display).await;
    let error = qemu.greet(&Terms::default()).await.err().unwrap();
    assert_eq!(error.reason(), Reason::Denied);
    assert!(
        error.to_string().starts_with("the display offers None, "),
        "{error}"
    );
}

#[tokio::test]
async fn a_display_with_a_password() {
    let secret = ["-object", "secret,id=pw,data=secret12"];
    let qemu = Display::start(",password-secret=pw", &secret);
    let allowed = [Security::Vnc, Security::None];
    // What is beyond eight bytes does not count.
    for right in ["secret12", "secret123"] {
        let display = qemu.greet(&terms(&allowed, right, None)).await.unwrap();
        assert_eq!(display.security, Security::Vnc);
        shows_a_screen(display).await;
    }
    for wrong in ["secret1", "Secret12", ""] {
        let error = qemu
            .greet(&terms(&allowed, wrong, None))
            .await
            .err()
            .unwrap();
        assert_eq!(error.reason(), Reason::Denied);
        let message = error.to_string();
        assert!(
            message.contains("it says \"Authentication failed\"; check"),
            "{message}"
        );
    }
    let error = open(
        qemu.connect().await,
        &DisplayAccess::Granted,
        &Terms::default(),
    )
    .await;
    let message = error.err().unwrap().to_string();
    assert!(
        message.starts_with("the display offers VNC password, "),
        "{message}"
    );
}

/// Certificates in a directory as QEMU wants it.
struct Certificates {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Certificates {
    fn new(names: &[&str]) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca-cert.pem"), issuer.pem()).unwrap();
        let certificates = Self { issuer, directory };
        certificates.issue("server", names);
        certificates.issue("client", &[]);
        certificates
    }

    fn issue(&self, kind: &str, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, HOST);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.at(&format!("{kind}-cert.pem")), certificate.pem()).unwrap();
        let key_file = self.at(&format!("{kind}-key.pem"));
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&key_file, owner_only).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// QEMU's side of them.
    fn object(&self, more: &str) -> String {
        let directory = self.directory.path().display();
        format!("tls-creds-x509,id=tls,endpoint=server,dir={directory}{more}")
    }

    /// Our side of them.
    fn ours(&self, with_client: bool, allow_common_name: bool) -> DisplayTls {
        let (certificate, key) = (self.at("client-cert.pem"), self.at("client-key.pem"));
        DisplayTls::load(&DisplayTlsOptions {
            ca: &self.at("ca-cert.pem"),
            client: with_client.then_some((certificate.as_path(), key.as_path())),
            expected_name: None,
            allow_common_name,
        })
        .unwrap()
    }
}

/// A display at a port, which nobody has at this moment.
fn start_at_port(vnc: &str, more: &[&str]) -> (Display, u16) {
    // The range that the kernel chooses from is all above VNC's first port.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let at = format!("127.0.0.1:{}{vnc}", port - 5900);
    (Display::run(tempfile::tempdir().unwrap(), &at, more), port)
}

async fn connect_port(port: u16) -> DisplayStream {
    let deadline = Instant::now() + SOON;
    loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(stream) => return DisplayStream::Tcp(stream),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

const KINDS: [Security; 3] = [Security::X509None, Security::X509Vnc, Security::Vnc];

#[tokio::test]
async fn a_display_with_vencrypt_at_a_port() {
    let certificates = Certificates::new(&[HOST]);
    let object = certificates.object(",verify-peer=off");
    let (_qemu, port) = start_at_port(",tls-creds=tls", &["-object", &object]);
    let ours = terms(&KINDS, "", Some(certificates.ours(false, false)));
    let display = open(connect_port(port).await, &on_host(HOST), &ours)
        .await
        .unwrap();
    assert_eq!(display.security, Security::X509None);
    shows_a_screen(display).await;

    let error = open(connect_port(port).await, &on_host("127.0.0.1"), &ours)
        .await
        .err()
        .unwrap();
    assert!(matches!(error, HandshakeError::WrongName { .. }), "{error}");

    let others = Certificates::new(&[HOST]).ours(false, true);
    let ours = terms(&KINDS, "", Some(others));
    let error = open(connect_port(port).await, &on_host(HOST), &ours)
        .await
        .err()
        .unwrap();
    assert!(matches!(error, HandshakeError::Certificate(_)), "{error}");

    // It has no other type, and is not opened without TLS.
    let ours = terms(&[Security::None, Security::Vnc], "", None);
    let error = open(connect_port(port).await, &on_host(HOST), &ours)
        .await
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .starts_with("the display offers VeNCrypt, "),
        "{error}"
    );
}

/// And with a password within TLS, in both of its versions.
#[tokio::test]
async fn a_display_with_vencrypt_and_a_password() {
    let certificates = Certificates::new(&[HOST]);
    let versions = [
        "NORMAL:-VERS-TLS-ALL:+VERS-TLS1.2",
        "NORMAL:-VERS-TLS-ALL:+VERS-TLS1.3",
    ];
    for version in versions {
        let object = certificates.object(&format!(",verify-peer=off,priority={version}"));
        let secret = "secret,id=pw,data=secret12";
        let vnc = ",tls-creds=tls,password-secret=pw";
        let qemu = Display::start(vnc, &["-object", &object, "-object", secret]);
        let ours = terms(&KINDS, "secret12", Some(certificates.ours(false, false)));
        let display = open(qemu.connect().await, &on_host(HOST), &ours)
            .await
            .unwrap();
        assert_eq!(display.security, Security::X509Vnc);
        shows_a_screen(display).await;

        let ours = terms(&KINDS, "wrong", Some(certificates.ours(false, false)));
        let error = open(qemu.connect().await, &on_host(HOST), &ours)
            .await
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("\"Authentication failed\""),
            "{error}"
        );

        let no_password = terms(
            &[Security::X509None],
            "",
            Some(certificates.ours(false, false)),
        );
        let error = open(qemu.connect().await, &on_host(HOST), &no_password)
            .await
            .err()
            .unwrap();
        let message = error.to_string();
        assert!(
            message.starts_with("the display offers VeNCrypt X509Vnc, "),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_display_that_wants_a_certificate() {
    let certificates = Certificates::new(&[HOST]);
    let object = certificates.object(",verify-peer=on");
    let qemu = Display::start(",tls-creds=tls", &["-object", &object]);
    let ours = terms(&KINDS, "", Some(certificates.ours(true, false)));
    shows_a_screen(
        open(qemu.connect().await, &on_host(HOST), &ours)
            .await
            .unwrap(),
    )
    .await;

    let ours = terms(&KINDS, "", Some(certificates.ours(false, false)));
    let error = open(qemu.connect().await, &on_host(HOST), &ours)
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason(), Reason::Denied, "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

/// As nova's documentation has made them.
#[tokio::test]
async fn a_display_with_an_old_certificate() {
    let certificates = Certificates::new(&[]);
    let object = certificates.object(",verify-peer=off");
    let qemu = Display::start(",tls-creds=tls", &["-object", &object]);
    let lax = terms(&KINDS, "", Some(certificates.ours(false, true)));
    shows_a_screen(
        open(qemu.connect().await, &on_host(HOST), &lax)
            .await
            .unwrap(),
    )
    .await;
    let strict = terms(&KINDS, "", Some(certificates.ours(false, false)));
    let error = open(qemu.connect().await, &on_host(HOST), &strict)
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("for no name"), "{error}");
}
