//! The three ways from a client to a far side, each a server process of its own, and one
//! session through any of them.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Endpoint;
use vmconsole_proto::v1;
use vmconsole_proto::v1::Mode::WriteTakeover;
use vmconsole_tests::client::{Attached, Client, Windows, open};
use vmconsole_tests::pki::{Credentials, Pki};
use vmconsole_tests::process::{Process, tied};
use vmconsole_tests::standin::{Mode, Programs, StandinHost, socket, start, start_guests};
use vmconsole_tests::{setup, wait};

pub(crate) const PROGRAMS: Programs = Programs {
    agent: env!("CARGO_BIN_EXE_standin-agent"),
    guest: env!("CARGO_BIN_EXE_standin-guest"),
};

/// As much at once as the agent reads.
pub(crate) const BUFFER: usize = 64 * 1024;

/// How long a server may take to listen.
pub(crate) const LISTEN_BOUND: Duration = Duration::from_secs(10);

/// A limit for each session and each connection of the largest scenario.
pub(crate) const CONFIG: &str = "[limits]\nconnections = 2048\nviewers_per_console = 2048\n\n\
                      [log]\nlevel = \"warn\"\n";

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The agent: gRPC.
    Agent,
    /// A plain relay on the agent's own TLS stack.
    Relay,
    /// socat, a process a session.
    Socat,
    /// The agent as it was: the program that [`BEFORE`] names.
    Before,
}

/// The environment variable that names an earlier build of `standin-agent`, to be measured
/// in socat's place.
const BEFORE: &str = "VMCONSOLE_BENCH_BEFORE";

/// An earlier build, if one is to be measured.
pub(crate) fn before() -> Option<Programs> {
    let agent = std::env::var(BEFORE).ok()?;
    Some(Programs {
        agent: agent.leak(),
        ..PROGRAMS
    })
}

impl Kind {
    /// What runs, if it is an agent.
    fn programs(self) -> Option<Programs> {
        match self {
            Self::Agent => Some(PROGRAMS),
            Self::Before => before(),
            Self::Relay | Self::Socat => None,
        }
    }

    /// What is measured side by side.
    pub(crate) fn all() -> [Self; 3] {
        let third = if before().is_some() {
            Self::Before
        } else {
            Self::Socat
        };
        [Self::Agent, Self::Relay, third]
    }
}

/// A server in front of far sides.
pub(crate) struct Server {
    way: Way,
    names: Vec<String>,
}

enum Way {
    Agent(Box<StandinHost>, Box<Endpoint>),
    Plain(Plain),
}

struct Plain {
    process: Process,
    address: SocketAddr,
    tls: TlsConnector,
    _guests: Process,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Starts `kind` in front of one far side for each of `modes`. A plain server leads to
    /// the first of them only.
    pub(crate) fn start(kind: Kind, modes: &[Mode]) -> Self {
        let consoles: Vec<_> = modes
            .iter()
            .enumerate()
            .map(|(number, mode)| (format!("vm{number:04}"), *mode))
            .collect();
        let names = consoles.iter().map(|(name, _)| name.clone()).collect();
        let way = if let Some(programs) = kind.programs() {
            let host = Box::new(StandinHost::start(programs, &consoles, CONFIG));
            let endpoint = Box::new(host.endpoint(Windows::default()));
            Way::Agent(host, endpoint)
        } else {
            Way::Plain(Plain::start(kind, &consoles[..1]))
        };
        Self { way, names }
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> i32 {
        match &self.way {
            Way::Agent(host, _) => host.agent.pid().as_raw(),
            Way::Plain(plain) => plain.process.pid().as_raw(),
        }
    }

    /// A connection to the agent; none to a plain server, where each session is one.
    pub(crate) async fn connect(&self) -> Option<Client> {
        let Way::Agent(_, endpoint) = &self.way else {
            return None;
        };
        Some(Client::connect(endpoint).await.expect("it connects"))
    }

    /// A connection to the agent with other windows.
    pub(crate) async fn connect_with(&self, windows: Windows) -> Client {
        let Way::Agent(host, _) = &self.way else {
            panic!("a plain server has no windows");
        };
        host.connect(windows).await
    }

    /// A session at the far side `number`, on `client`'s connection if there is one.
    pub(crate) async fn open(&self, client: Option<&Client>, number: usize) -> Session {
        self.open_with(client, number, 0).await
    }

    /// The same with an output window.
    pub(crate) async fn open_with(
        &self,
        client: Option<&Client>,
        number: usize,
        output_window: u64,
    ) -> Session {
        match (&self.way, client) {
            (Way::Plain(plain), _) => Session::Tls(Box::new(plain.session().await)),
            (Way::Agent(..), Some(client)) => {
                let wanted = v1::Open {
                    output_window,
                    ..open(&self.names[number], WriteTakeover)
                };
                let attached = client.attach(wanted).await.expect("it attaches");
                Session::Grpc(Box::new(attached))
            }
            (Way::Agent(..), None) => panic!("a session at the agent needs a connection"),
        }
    }

    /// A session at the far side `number` on a connection of its own.
    pub(crate) async fn open_new(&self, number: usize) -> Session {
        let client = self.connect().await;
        self.open(client.as_ref(), number).await
    }
}

impl Plain {
    fn start(kind: Kind, consoles: &[(String, Mode)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let pki = Pki::new(dir.path());
        let guests = start_guests(PROGRAMS.guest, dir.path(), consoles);
        let far = socket(dir.path(), &consoles[0].0);
        let (process, address) = match kind {
            Kind::Socat => socat(&pki, &far),
            _ => relay(&pki, &far),
        };
        Self {
            process,
            address,
            tls: connector(&pki, &pki.proxy()),
            _guests: guests,
            _dir: dir,
        }
    }

    async fn session(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.expect("it connects");
        stream.set_nodelay(true).expect("a TCP option");
        let name = ServerName::try_from("localhost").expect("a name");
        self.tls.connect(name, stream).await.expect("a handshake")
    }
}

pub(crate) fn relay(pki: &Pki, far: &Path) -> (Process, SocketAddr) {
    let (certificate, key) = pki.agent_files();
    let mut command = tied(env!("CARGO_BIN_EXE_plain-relay"));
    command.args([certificate, key, pki.ca_file(), far]);
    let (process, ready) = start("plain-relay", command);
    (process, ready[0].parse().expect("it says its address"))
}

pub(crate) fn socat(pki: &Pki, far: &Path) -> (Process, SocketAddr) {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let address = free.expect("a free port");
    let (certificate, key) = pki.agent_files();
    let listen = format!(
        "OPENSSL-LISTEN:{},bind=127.0.0.1,reuseaddr,fork,backlog=1024,nodelay,verify=1,\
         openssl-min-proto-version=TLS1.3,cert={},key={},cafile={}",
        address.port(),
        certificate.display(),
        key.display(),
        pki.ca_file().display(),
    );
    let mut command = tied(setup::program("socat"));
    command.args(["-b", &BUFFER.to_string(), &listen]);
    command.arg(format!("UNIX-CONNECT:{}", far.display()));
    let process = Process::spawn("socat", command);
    wait::until("socat to listen", LISTEN_BOUND, || {
        std::net::TcpStream::connect(address).is_ok()
    });
    (process, address)
}

pub(crate) fn connector(pki: &Pki, proxy: &Credentials) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
    roots.add(certificate(&pki.ca_pem())).expect("a CA");
    let key = PrivateKeyDer::from_pem_slice(proxy.key.as_bytes()).expect("PEM");
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate(&proxy.certificate)], key)
        .expect("key and certificate match");
    // The agent resumes no TLS session: neither do the others here.
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// A session.
pub(crate) enum Session {
    /// Through the agent.
    Grpc(Box<Attached>),
    /// Through a plain server.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Session {
    /// Sends bytes to the far side.
    pub(crate) async fn type_bytes(&mut self, bytes: &'static [u8]) {
        match self {
            Self::Grpc(attached) => attached.send.type_bytes(Bytes::from_static(bytes)).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await.expect("it is open");
                stream.flush().await.expect("it is open");
            }
        }
    }

    /// How many bytes came next from the far side.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> usize {
        let count = match self {
            Self::Grpc(attached) => {
                let receive = &mut attached.receive;
                let output = receive.output().await.expect("it is open");
                assert!(receive.gaps.is_empty(), "lost: {:?}", receive.gaps);
                output.map_or(0, |bytes| bytes.len())
            }
            Self::Tls(stream) => stream.read(buffer).await.expect("it is open"),
        };
        assert!(count > 0, "the session ended");
        count
    }

    /// What [`Session::read`] needs.
    pub(crate) fn buffer() -> Vec<u8> {
        vec![0; BUFFER]
    }

    /// One byte there and back.
    pub(crate) async fn round_trip(&mut self) {
        self.type_bytes(b"k").await;
        assert_eq!(self.read(&mut [0; 1]).await, 1);
    }
}
