//! The real agent, as its own process, run by the unprivileged user: never as root, since
//! what only works for root does not work.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::chown;
use tempfile::TempDir;

use crate::process::Process;
use crate::qemu::QemuDir;
use crate::{user, wait};

/// How long the agent may take to listen, and to stop.
const BOUND: Duration = Duration::from_secs(30);

/// What is needed to start an agent.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// Which libvirt, if any.
    pub libvirt_uri: Option<String>,
    /// Which channels of its VMs are served.
    pub channels: Vec<String>,
    /// Where the QMP sockets of QEMUs without libvirt are, if those are served.
    pub qemu_directory: Option<PathBuf>,
    /// Below which directories sockets of consoles are opened.
    pub console_directories: Vec<PathBuf>,
    /// A directory with `agent.crt`, `agent.key` and `ca.crt`.
    pub pki: PathBuf,
    /// The clients that are let in.
    pub allowed_clients: Vec<String>,
    /// Where gRPC is served; port 0 for any that is free.
    pub listen: String,
    /// Where metrics are served.
    pub http: String,
    /// When its consoles are held, in the words of its configuration; `None` for its default.
    /// Most tests want to see what a guest wrote before they looked.
    pub capture: Option<&'static str>,
    /// The least severe events that it logs.
    pub log_level: String,
    /// Further lines of configuration: whole tables, save those that are written by what is
    /// above.
    pub more: String,
}

impl AgentOptions {
    /// An agent of this libvirt with these certificates, on free ports of the loopback, that
    /// lets `allowed` in.
    pub fn new(libvirt_uri: impl Into<String>, pki: &Path, allowed: &[&str]) -> Self {
        Self {
            libvirt_uri: Some(libvirt_uri.into()),
            ..Self::without_libvirt(pki, allowed)
        }
    }

    /// As [`AgentOptions::new`], and of no VM at all as yet.
    pub fn without_libvirt(pki: &Path, allowed: &[&str]) -> Self {
        Self {
            libvirt_uri: None,
            channels: Vec::new(),
            qemu_directory: None,
            console_directories: Vec::new(),
            pki: pki.to_owned(),
            allowed_clients: allowed.iter().map(|name| (*name).to_owned()).collect(),
            listen: "127.0.0.1:0".to_owned(),
            http: "127.0.0.1:0".to_owned(),
            capture: Some("always"),
            log_level: "debug".to_owned(),
            more: String::new(),
        }
    }

    /// Has the agent serve the QEMUs of this directory.
    pub fn serve_qemus(&mut self, dir: &QemuDir) {
        self.qemu_directory = Some(dir.qmp());
        self.console_directories.push(dir.consoles());
    }

    /// The tables that say where VMs and their consoles are, and when they are held. What is not
    /// asked for is off: the machine's own VMs are none of a test's.
    fn sources(&self) -> String {
        let libvirt = match &self.libvirt_uri {
            Some(uri) => format!("uri = {uri:?}\nchannels = {:?}", self.channels),
            None => "enabled = false".to_owned(),
        };
        let qemu = match &self.qemu_directory {
            Some(directory) => format!("directory = {directory:?}"),
            None => "enabled = false".to_owned(),
        };
        let capture = self
            .capture
            .map(|mode| format!("[capture]\nmode = {mode:?}\n"));
        format!(
            "[libvirt]\n{libvirt}\n[qemu]\n{qemu}\n[endpoints]\ndirectories = {:?}\n{}",
            self.console_directories,
            capture.unwrap_or_default(),
        )
    }
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    grpc: SocketAddr,
    http: SocketAddr,
    dir: TempDir,
}

impl Agent {
    /// Starts an agent and waits until it listens.
    ///
    /// # Panics
    /// When it does not, with what it logged.
    pub fn start(options: &AgentOptions) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("vmconsole-agent-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a temporary directory");
        let config = configure(dir.path(), options);
        let program = user::reachable(&program("vmconsole-agent"), dir.path());
        let mut command = user::command_as(program);
        command.arg("--config").arg(config);
        let mut process = Process::spawn("vmconsole-agent", command);
        let addresses = wait::try_value(BOUND, || {
            assert!(
                process.try_wait().is_none(),
                "the agent ended: {}",
                process.stderr()
            );
            let log = process.stderr();
            let at = |message| logged_address(&log, message);
            Some((at("serving gRPC")?, at("serving metrics and health")?))
        });
        let (grpc, http) =
            addresses.unwrap_or_else(|| panic!("the agent did not start: {}", process.stderr()));
        Self {
            process,
            grpc,
            http,
            dir,
        }
    }

    /// Where it serves gRPC.
    pub const fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where it serves metrics.
    pub const fn http(&self) -> SocketAddr {
        self.http
    }

    /// A directory of its own, which its user can read.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Its process.
    pub fn pid(&self) -> nix::unistd::Pid {
        self.process.pid()
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait(BOUND)
    }
}

/// A program that the workspace builds.
///
/// # Panics
/// When it is not built.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    let built = own
        .ancestors()
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    built.unwrap_or_else(|| panic!("{name} is not built; run: cargo build --workspace"))
}

fn configure(dir: &Path, options: &AgentOptions) -> PathBuf {
    for file in ["agent.crt", "agent.key", "ca.crt"] {
        let to = dir.join(file);
        std::fs::copy(options.pki.join(file), &to).expect("the certificates can be copied");
        let user = user::lookup();
        chown(&to, Some(user.uid), Some(user.gid)).expect("the certificates can be handed over");
    }
    let mut text = String::new();
    let at = |file: &str| dir.join(file).display().to_string();
    let written = write!(
        text,
        "[grpc]\nlisten = [{:?}]\ncertificate = {:?}\nprivate_key = {:?}\nclient_ca = {:?}\n\
         [access]\nallowed_clients = {:?}\n[http]\nlisten = {:?}\n{}\
         [log]\nformat = \"json\"\nlevel = {:?}\n{}\n",
        options.listen,
        at("agent.crt"),
        at("agent.key"),
        at("ca.crt"),
        options.allowed_clients,
        options.http,
        options.sources(),
        options.log_level,
        options.more,
    );
    written.expect("a string takes what is written to it");
    let path = dir.join("config.toml");
    std::fs::write(&path, text).expect("the configuration can be written");
    path
}

/// The address that a JSON log line of this message tells.
fn logged_address(log: &str, message: &str) -> Option<SocketAddr> {
    log.lines()
        .filter(|line| line.contains(message))
        .find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            find_text(&line, "address")?.parse().ok()
        })
}

fn find_text<'a>(value: &'a serde_json::Value, key: &str) -> Option<&'a str> {
    let object = value.as_object()?;
    let own = object.get(key).and_then(serde_json::Value::as_str);
    own.or_else(|| object.values().find_map(|inner| find_text(inner, key)))
}
