//! The agent's configuration: one TOML file, read once, checked whole.
//!
//! What leaves this module is valid: every number is in its range, every address parses.
//! A file with a key that is not known is refused, and each error says which file, key
//! and line it is about and what to do. It reads no other file: whether the certificates
//! are any good, `tls` finds out.

mod error;
mod graphics;
mod raw;
#[cfg(test)]
mod tests;
mod validate;

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::id::Alias;
use crate::core::selector::VmSelector;

pub use error::{ConfigError, Place};
pub use graphics::{
    DisplayTls, DisplayWay, Graphics, GraphicsRule, GraphicsTerms, MAX_GRAPHICS_RULES, OPEN_SECONDS,
};

/// The longest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Where gRPC is served if `grpc.listen` is unset: every address, IPv6 and IPv4.
pub const DEFAULT_GRPC_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 2223);
/// The most addresses that `grpc.listen` may have.
pub const MAX_LISTEN: usize = 16;
/// The most names that `access.allowed_clients` may have.
pub const MAX_ALLOWED_CLIENTS: usize = 1024;
/// Where metrics and health are served if `http.listen` is unset.
pub const DEFAULT_HTTP_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9223);
/// The most entries of each list of `[libvirt]`, `[qemu]` and `[endpoints]`, save
/// `qemu.sockets`.
pub const MAX_ENTRIES: usize = 64;
/// The most paths that `qemu.sockets` may have.
pub const MAX_QEMU_SOCKETS: usize = 1024;
/// Where QMP sockets are looked for if `qemu.directory` is unset.
pub const DEFAULT_QMP_DIRECTORY: &str = "/run/vmconsole/qmp";
/// Below which directories a VM's sockets may lie if `endpoints.directories` is unset.
pub const DEFAULT_DIRECTORIES: [&str; 3] = [
    "/run/libvirt/qemu",
    "/var/lib/libvirt/qemu",
    "/run/vmconsole",
];
/// Whose sockets are trusted if `endpoints.owners` is unset: those under which Debian and Red
/// Hat run QEMU, and root, as which libvirtd listens for it.
pub const DEFAULT_OWNERS: [&str; 3] = ["root", "libvirt-qemu", "qemu"];
/// The most rules that `capture.rule` may have.
pub const MAX_CAPTURE_RULES: usize = 256;
/// Which libvirt is spoken to if `libvirt.uri` is unset.
pub const DEFAULT_LIBVIRT_URI: &str = "qemu:///system";

/// A whole number's key: its default and its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// What holds if the key is unset.
    pub default: u64,
    /// What may be written.
    pub range: RangeInclusive<u64>,
}

const fn number(default: u64, lowest: u64, highest: u64) -> Number {
    Number {
        default,
        range: lowest..=highest,
    }
}

/// `grpc.drain_seconds`.
pub const DRAIN_SECONDS: Number = number(10, 0, 300);
/// `libvirt.call_timeout_seconds`.
pub const CALL_TIMEOUT_SECONDS: Number = number(10, 1, 60);
/// `console.ring_bytes`.
pub const RING_BYTES: Number = number(1024 * 1024, 64 * 1024, 64 * 1024 * 1024);
/// `capture.linger_seconds`, and the same of a rule.
pub const LINGER_SECONDS: Number = number(300, 0, 86_400);
/// `capture.budget_bytes`.
pub const BUDGET_BYTES: Number = number(256 * 1024 * 1024, 1024 * 1024, 64 * 1024 * 1024 * 1024);
/// `limits.connections`.
pub const CONNECTIONS: Number = number(1024, 1, 65_536);
/// `limits.streams_per_connection`.
pub const STREAMS_PER_CONNECTION: Number = number(1024, 1, 65_536);
/// `limits.handshakes`.
pub const HANDSHAKES: Number = number(512, 1, 65_536);
/// `limits.handshake_seconds`.
pub const HANDSHAKE_SECONDS: Number = number(10, 1, 60);
/// `limits.first_message_seconds`.
pub const FIRST_MESSAGE_SECONDS: Number = number(10, 1, 60);
/// `limits.resume_grace_seconds`.
pub const RESUME_GRACE_SECONDS: Number = number(30, 0, 30);
/// `limits.viewers_per_console`.
pub const VIEWERS_PER_CONSOLE: Number = number(256, 1, 65_536);
/// `limits.sessions`.
pub const SESSIONS: Number = number(8192, 1, 1_048_576);
/// `limits.idle_timeout_seconds`; 0 for none.
pub const IDLE_TIMEOUT_SECONDS: Number = number(0, 0, 604_800);
/// `limits.max_duration_seconds`; 0 for none.
pub const MAX_DURATION_SECONDS: Number = number(0, 0, 2_592_000);
/// `limits.watchers`.
pub const WATCHERS: Number = number(64, 1, 65_536);

/// The whole configuration, valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[grpc]`: the service itself.
    pub grpc: Grpc,
    /// `[access]`: who may call it.
    pub access: Access,
    /// `[http]`: metrics and health.
    pub http: Http,
    /// `[libvirt]`: where the VMs come from.
    pub libvirt: Libvirt,
    /// `[qemu]`: the VMs that libvirt does not manage.
    pub qemu: Qemu,
    /// `[endpoints]`: which sockets and terminals of a VM are opened.
    pub endpoints: Endpoints,
    /// `[console]`: what is kept of each console.
    pub console: Console,
    /// `[capture]`: when consoles are held, and how much is kept of all of them.
    pub capture: Capture,
    /// `[graphics]`: how displays are reached, and by which rules.
    pub graphics: Graphics,
    /// `[limits]`: how much at once.
    pub limits: Limits,
    /// `[log]`: what is written to stderr.
    pub log: Log,
}

/// `[grpc]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grpc {
    /// Where to listen: 1 to [`MAX_LISTEN`] addresses, each once.
    pub listen: Vec<SocketAddr>,
    /// The agent's certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, PEM.
    pub private_key: PathBuf,
    /// The certificates that clients' certificates are issued by, PEM.
    pub client_ca: PathBuf,
    /// How long a stop waits for streams to end.
    pub drain: Duration,
}

/// `[access]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Names of clients: one of a certificate's URI or DNS names must be among them. 1 to
    /// [`MAX_ALLOWED_CLIENTS`]. One with `://` is a URI, any other a DNS name.
    pub allowed_clients: Vec<String>,
}

/// `[http]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where to listen.
    pub listen: SocketAddr,
}

/// `[libvirt]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libvirt {
    /// Whether libvirt is asked at all.
    pub enabled: bool,
    /// The connection URI, of the QEMU driver.
    pub uri: String,
    /// How long one call may take.
    pub call_timeout: Duration,
    /// Which channels are served as consoles: names, or their beginnings with `*` after them.
    pub channels: Vec<String>,
}

/// `[qemu]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    /// Whether QEMUs without libvirt are looked for at all.
    pub enabled: bool,
    /// The directory whose sockets are QMP monitors, each of one QEMU. It need not exist.
    pub directory: PathBuf,
    /// Further QMP sockets, at most [`MAX_QEMU_SOCKETS`].
    pub sockets: Vec<PathBuf>,
}

/// `[endpoints]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Below which directories a socket that a VM's definition names must lie.
    pub directories: Vec<PathBuf>,
    /// The users that such a socket, and the process behind it, may belong to, beside the
    /// agent's own. A name that the host does not know is nobody.
    pub owners: Vec<String>,
    /// Which TCP addresses of consoles are connected to.
    pub tcp: TcpConsoles,
}

/// Which TCP addresses of consoles are connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpConsoles {
    /// None.
    Off,
    /// Those of this host itself.
    Loopback,
    /// All.
    Any,
}

/// `[console]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// The most output that is kept in memory of each console, in bytes.
    pub ring_bytes: usize,
}

/// `[capture]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// When a console is held that no rule is about.
    pub mode: CaptureMode,
    /// How long it is held after its last viewer, if on demand.
    pub linger: Duration,
    /// The most output that is kept in memory of all consoles together, in bytes.
    pub budget_bytes: usize,
    /// What is otherwise for some VMs: the first rule that is about a console counts. At most
    /// [`MAX_CAPTURE_RULES`].
    pub rules: Vec<CaptureRule>,
}

/// When a console is held open, so that its output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureMode {
    /// While somebody views it, and a while after.
    OnDemand,
    /// Whenever it can be.
    Always,
    /// Only while somebody views it. What came meanwhile is there for all who view it in that
    /// time, and is forgotten when the last of them leaves.
    Off,
}

/// One of `[[capture.rule]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureRule {
    /// The VMs that it is about: 1 to [`MAX_ENTRIES`].
    pub vms: Vec<VmSelector>,
    /// Which of their consoles; empty for all. At most [`MAX_ENTRIES`].
    pub aliases: Vec<Alias>,
    /// When they are held, if not as `[capture]` says.
    pub mode: Option<CaptureMode>,
    /// How long after the last viewer, if not as `[capture]` says.
    pub linger: Option<Duration>,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of clients at once.
    pub connections: usize,
    /// Calls at once on one connection.
    pub streams_per_connection: u32,
    /// TLS handshakes under way at once; the oldest yields to a newer one.
    pub handshakes: usize,
    /// How long a TLS handshake, with the HTTP/2 preface, may take.
    pub handshake: Duration,
    /// How long a new stream may take to say what it wants.
    pub first_message: Duration,
    /// How long a session whose stream broke may be taken up again, counted from when its
    /// client was last heard.
    pub resume_grace: Duration,
    /// Sessions on one console at once.
    pub viewers_per_console: usize,
    /// Sessions at once in all.
    pub sessions: usize,
    /// `WatchConsoles` calls at once in all.
    pub watchers: usize,
    /// How long a session may go without input.
    pub idle_timeout: Option<Duration>,
    /// How long a session may last.
    pub max_duration: Option<Duration>,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// The least severe events that are written.
    pub level: LogLevel,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: one line of text.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// How severe a logged event is, the most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// A promise was broken, or the agent cannot go on.
    Error,
    /// Something failed that the agent gets over, or an operator should look at.
    Warn,
    /// What callers and consoles did: opened, refused, ended.
    Info,
    /// What led to it.
    Debug,
    /// Each step.
    Trace,
}

impl Config {
    /// Reads and checks the file at `path`. The file is at most [`MAX_FILE_BYTES`] long.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing that is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read(path)?, path)
    }

    /// Checks a configuration that was read already; `path` is only for error messages.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing that is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let source = error::Source { path, text };
        let file = toml::Deserializer::parse(text).map_err(|error| source.syntax(&error))?;
        let file = serde_path_to_error::deserialize(file).map_err(|error| {
            let key = error.path().to_string();
            source.shape(&key, error.inner())
        })?;
        validate::config(file, &source)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.into(),
        source,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLong { path: path.into() });
    }
    String::from_utf8(bytes).map_err(|_| ConfigError::NotText { path: path.into() })
}
