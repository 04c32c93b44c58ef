//! The ways to a display, each a server of its own: the agent, a plain TLS relay, socat,
//! haproxy, websockify, and sshd, all with the settings that they are fastest and safe with.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vmconsole_proto::v1;
use vmconsole_tests::client::{Client, Relay, Windows, relay_open};
use vmconsole_tests::pki::Pki;
use vmconsole_tests::process::{Process, tied};
use vmconsole_tests::standin::{Mode, StandinHost, display, start_guests};
use vmconsole_tests::{setup, wait};

use super::link::{Link, Viewer, WebSocket};
use crate::server::{self, BUFFER, CONFIG, LISTEN_BOUND, PROGRAMS};

/// How often it is looked whether ssh listens.
const LOOKS: Duration = Duration::from_millis(1);

/// How long ssh may take.
const SSH_BOUND: Duration = Duration::from_secs(20);

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The agent.
    Agent,
    /// A plain relay on the agent's own TLS stack.
    Relay,
    /// socat with TLS.
    Socat,
    /// haproxy, TCP with TLS.
    Haproxy,
    /// websockify with TLS.
    Websockify,
    /// sshd, which forwards to the socket.
    Sshd,
}

impl Way {
    /// All of them, in the order of the table's columns.
    pub(super) const ALL: [Self; 6] = [
        Self::Agent,
        Self::Relay,
        Self::Socat,
        Self::Haproxy,
        Self::Websockify,
        Self::Sshd,
    ];

    /// Whether it starts a process for each session.
    pub(super) const fn forks(self) -> bool {
        matches!(self, Self::Socat | Self::Websockify | Self::Sshd)
    }
}

/// A server that listens on TCP.
type Listening = (Process, SocketAddr);

/// All servers: the agent's in front of many displays, the others' in front of one.
pub(super) struct Ways {
    host: StandinHost,
    /// The agent as it was, in socat's place.
    before: Option<StandinHost>,
    names: Vec<String>,
    tls: TlsConnector,
    /// In the order of [`Way::ALL`], without the agent.
    others: Vec<Listening>,
    display: PathBuf,
    forwarded: AtomicUsize,
    _guest: Process,
    dir: tempfile::TempDir,
}

impl Ways {
    /// Starts them, with so many displays for the agent.
    pub(super) fn start(displays: usize) -> Self {
        let consoles: Vec<_> = (0..displays)
            .map(|number| (format!("vm{number:04}"), Mode::Display))
            .collect();
        let dir = tempfile::tempdir().expect("a directory can be made");
        let pki = Pki::new(dir.path());
        let guest = start_guests(PROGRAMS.guest, dir.path(), &consoles[..1]);
        let display = display(dir.path(), &consoles[0].0);
        let others = vec![
            server::relay(&pki, &display),
            server::socat(&pki, &display),
            haproxy(&pki, dir.path(), &display),
            websockify(&pki, &display),
            sshd(dir.path()),
        ];
        let before = server::before();
        let before = before.map(|programs| StandinHost::start(programs, &consoles, CONFIG));
        Self {
            host: StandinHost::start(PROGRAMS, &consoles, CONFIG),
            before,
            names: consoles.into_iter().map(|(name, _)| name).collect(),
            tls: server::connector(&pki, &pki.proxy()),
            others,
            display,
            forwarded: AtomicUsize::new(0),
            _guest: guest,
            dir,
        }
    }

    /// The server's process; all that it does for sessions is done by it and its children.
    pub(super) fn pid(&self, way: Way) -> i32 {
        if let (Way::Socat, Some(before)) = (way, &self.before) {
            return before.agent.pid().as_raw();
        }
        match self.others.get((way as usize).wrapping_sub(1)) {
            None => self.host.agent.pid().as_raw(),
            Some((process, _)) => process.pid().as_raw(),
        }
    }

    /// A connection to the agent.
    pub(super) async fn connect(&self) -> Client {
        self.host.connect(Windows::default()).await
    }

    /// A relay of the display `number` on that connection, with an output window if not 0.
    pub(super) async fn relay(
        &self,
        client: &Client,
        number: usize,
        mode: v1::Mode,
        output_window: u64,
    ) -> Relay {
        let wanted = v1::RelayOpen {
            output_window,
            ..relay_open(&self.names[number], mode)
        };
        client.relay(wanted).await.expect("it opens")
    }

    /// A viewer on a connection of its own. `number` and `mode` are for the agent.
    pub(super) async fn open(&self, way: Way, number: usize, mode: v1::Mode) -> Viewer {
        let before = self.before.as_ref().filter(|_| way == Way::Socat);
        let link = match (way, before) {
            (_, Some(before)) => {
                let client = before.connect(Windows::default()).await;
                self.relay(&client, number, mode, 0).await.into()
            }
            (Way::Agent, _) => {
                let client = self.connect().await;
                self.relay(&client, number, mode, 0).await.into()
            }
            (Way::Relay | Way::Socat | Way::Haproxy, _) => Link::Tls(Box::new(self.tls(way).await)),
            (Way::Websockify, _) => {
                let socket = WebSocket::open(self.tls(way).await).await;
                Link::Web(Box::new(socket))
            }
            (Way::Sshd, _) => self.ssh().await,
        };
        Viewer::greet(link).await
    }

    /// No way at all: the display's own socket.
    pub(super) async fn direct(&self) -> Link {
        let stream = UnixStream::connect(&self.display).await;
        Link::Unix {
            stream: stream.expect("it connects"),
            _forwards: None,
        }
    }

    async fn tls(&self, way: Way) -> TlsStream<TcpStream> {
        let (_, address) = &self.others[way as usize - 1];
        let stream = TcpStream::connect(address).await.expect("it connects");
        stream.set_nodelay(true).expect("a TCP option");
        let name = ServerName::try_from("localhost").expect("a name");
        self.tls.connect(name, stream).await.expect("a handshake")
    }

    async fn ssh(&self) -> Link {
        let (_, address) = &self.others[Way::Sshd as usize - 1];
        let number = self.forwarded.fetch_add(1, Ordering::Relaxed);
        let near = self.dir.path().join(format!("ssh{number}.sock"));
        let mut command = tied(setup::program("ssh"));
        command.args(["-N", "-F", "none", "-o", "BatchMode=yes"]);
        command.args(["-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"]);
        command.args(["-o", "UserKnownHostsFile=/dev/null"]);
        command.args(["-o", "IdentitiesOnly=yes"]);
        command.args(["-o", "ExitOnForwardFailure=yes", "-i"]);
        command.arg(self.dir.path().join("key"));
        command.args(["-p", &address.port().to_string(), "-L"]);
        command.arg(format!("{}:{}", near.display(), self.display.display()));
        command.arg("127.0.0.1");
        let mut process = Process::spawn("ssh", command);
        let begun = std::time::Instant::now();
        loop {
            if let Ok(stream) = UnixStream::connect(&near).await {
                return Link::Unix {
                    stream,
                    _forwards: Some(Box::new(process)),
                };
            }
            assert!(
                process.try_wait().is_none() && begun.elapsed() < SSH_BOUND,
                "ssh forwards nothing: {}",
                process.stderr()
            );
            tokio::time::sleep(LOOKS).await;
        }
    }
}

fn free() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    free.expect("a free port")
}

fn listening(name: &str, command: std::process::Command, address: SocketAddr) -> Listening {
    let mut process = Process::spawn(name, command);
    wait::until(&format!("{name} to listen"), LISTEN_BOUND, || {
        let ended = process.try_wait().is_some();
        assert!(!ended, "{name} ended: {}", process.stderr());
        StdStream::connect(address).is_ok()
    });
    (process, address)
}

fn haproxy(pki: &Pki, dir: &Path, display: &Path) -> Listening {
    let address = free();
    let (certificate, key) = pki.agent_files();
    let read = |path: &Path| std::fs::read_to_string(path).expect("it was written");
    let both = dir.join("haproxy.pem");
    std::fs::write(&both, read(certificate) + &read(key)).expect("the directory takes files");
    let mut config = String::new();
    let _ = write!(
        config,
        "global\n tune.bufsize {BUFFER}\n maxconn 2000\n\
         defaults\n mode tcp\n timeout connect 10s\n timeout client 1h\n timeout server 1h\n\
         listen display\n bind {address} ssl crt {} ca-file {} verify required \
         ssl-min-ver TLSv1.3\n server display unix@{}\n",
        both.display(),
        pki.ca_file().display(),
        display.display(),
    );
    let file = dir.join("haproxy.cfg");
    std::fs::write(&file, config).expect("the directory takes files");
    let mut command = tied(setup::program("haproxy"));
    command.args(["-db", "-f"]).arg(file);
    listening("haproxy", command, address)
}

fn websockify(pki: &Pki, display: &Path) -> Listening {
    let address = free();
    let (certificate, key) = pki.agent_files();
    let mut command = tied(setup::program("websockify"));
    command.args(["--ssl-only", "--ssl-version=tlsv1_3", "--verify-client"]);
    let file = |option: &str, path: &Path| format!("--{option}={}", path.display());
    command.arg(file("cert", certificate)).arg(file("key", key));
    command.arg(file("cafile", pki.ca_file()));
    command.arg(file("unix-target", display));
    command.arg(address.to_string());
    listening("websockify", command, address)
}

/// Its own keys, no passwords, no terminal: nothing but forwarding.
fn sshd(dir: &Path) -> Listening {
    let address = free();
    let key = |name: &str| {
        let path = dir.join(name);
        let mut keygen = tied(setup::program("ssh-keygen"));
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
        keygen.arg(&path);
        let made = Process::spawn("ssh-keygen", keygen).wait(LISTEN_BOUND);
        assert!(made.success(), "ssh-keygen: {made}");
        path
    };
    let (host_key, _) = (key("host_key"), key("key"));
    let config = format!(
        "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n\
         MaxStartups 1000\nLogLevel ERROR\n",
        host_key.display(),
        dir.join("key.pub").display(),
    );
    let file = dir.join("sshd_config");
    std::fs::write(&file, config).expect("the directory takes files");
    // It insists on its whole path.
    let mut command = tied(setup::program("sshd"));
    command.args(["-D", "-e", "-f"]).arg(file);
    listening("sshd", command, address)
}
