//! A whole stand-in host: guests' far sides and the agent, each a process of its own, with
//! a CA for both ends.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tonic::transport::Endpoint;

use super::Mode;
use super::hypervisor::DISPLAY;
use crate::client::{self, Client, Windows};
use crate::pki::{Credentials, Pki};
use crate::process::{Process, tied};

/// How long a process may take to end when it is told to.
const STOP_BOUND: Duration = Duration::from_secs(30);

/// The programs that a host runs; cargo tells their paths to tests and benches.
#[derive(Clone, Copy, Debug)]
pub struct Programs {
    /// `standin-agent`.
    pub agent: &'static str,
    /// `standin-guest`.
    pub guest: &'static str,
}

/// Starts `command`, a program that says `ready WORDS`, and returns it with those words.
///
/// # Panics
/// When it ends without having said so.
pub fn start(name: &str, mut command: Command) -> (Process, Vec<String>) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = Process::spawn(name, command);
    let stdout = process.take_stdout().expect("it was piped");
    let mut line = String::new();
    let read = BufReader::new(stdout).read_line(&mut line);
    let words = line.strip_prefix("ready").map(str::split_whitespace);
    let Some(words) = words else {
        panic!("{name} did not start: {read:?}; {}", process.stderr());
    };
    (process, words.map(str::to_owned).collect())
}

/// Far sides in one process: `(name, mode)` each, their sockets in `dir`.
///
/// # Panics
/// When they do not start.
pub fn start_guests(program: &str, dir: &Path, consoles: &[(String, Mode)]) -> Process {
    let mut command = tied(program);
    for (name, mode) in consoles {
        let place = place(dir, name, *mode);
        let mode = match mode {
            Mode::Deaf => "deaf".to_owned(),
            Mode::Idle => "idle".to_owned(),
            Mode::Echo => "echo".to_owned(),
            Mode::Sell(unit) => format!("sell:{unit}"),
            Mode::Uart(rate) => format!("uart:{rate}"),
            Mode::Lines(rate) => format!("lines:{rate}"),
            Mode::Display => "display".to_owned(),
        };
        command.arg(format!("{}={mode}", place.display()));
    }
    start("standin-guest", command).0
}

/// Where the console `name` listens.
pub fn socket(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.sock"))
}

/// Where the display of the VM `name` listens.
pub fn display(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.{DISPLAY}"))
}

fn place(dir: &Path, name: &str, mode: Mode) -> PathBuf {
    match mode {
        Mode::Display => display(dir, name),
        _ => socket(dir, name),
    }
}

/// `config`, and that sessions whose streams a test just drops end within a second.
fn impatient(config: &str) -> String {
    let grace = "resume_grace_seconds = 1\n";
    if config.contains("resume_grace_seconds") {
        config.to_owned()
    } else if config.contains("[limits]\n") {
        config.replacen("[limits]\n", &format!("[limits]\n{grace}"), 1)
    } else {
        format!("[limits]\n{grace}\n{config}")
    }
}

/// A stand-in host. Dropping it ends its processes.
pub struct StandinHost {
    /// The CA.
    pub pki: Pki,
    /// A good proxy's credentials.
    pub proxy: Credentials,
    /// Where gRPC is served.
    pub grpc: SocketAddr,
    /// Where metrics are served.
    pub http: SocketAddr,
    /// The agent.
    pub agent: Process,
    _guests: Process,
    dir: tempfile::TempDir,
}

impl StandinHost {
    /// Starts the far sides `(name, mode)` and an agent that serves them, and holds all of
    /// them from the start; `config` is added to its configuration.
    ///
    /// # Panics
    /// When something does not start.
    pub fn start(programs: Programs, consoles: &[(String, Mode)], config: &str) -> Self {
        let config = format!("{config}\n[capture]\nmode = \"always\"\n");
        Self::start_as_configured(programs, consoles, &config)
    }

    /// As [`StandinHost::start`], with consoles held as `config` says: by default on demand.
    /// Sessions wait one second to be resumed, unless it says otherwise.
    ///
    /// # Panics
    /// When something does not start.
    pub fn start_as_configured(
        programs: Programs,
        consoles: &[(String, Mode)],
        config: &str,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let pki = Pki::new(dir.path());
        let guests = start_guests(programs.guest, dir.path(), consoles);
        let mut text = pki.config_tables();
        let config = impatient(config);
        let _ = write!(text, "\n[http]\nlisten = \"127.0.0.1:0\"\n\n{config}\n");
        let file = dir.path().join("config.toml");
        std::fs::write(&file, text).expect("the directory takes files");
        let mut command = tied(programs.agent);
        command.arg(&file);
        let places = consoles.iter();
        command.args(places.map(|(name, mode)| place(dir.path(), name, *mode)));
        let (agent, ready) = start("standin-agent", command);
        let address = |index: usize| ready[index].parse().expect("it says its addresses");
        Self {
            proxy: pki.proxy(),
            grpc: address(0),
            http: address(1),
            pki,
            agent,
            _guests: guests,
            dir,
        }
    }

    /// Where certificates, configuration and sockets are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A new connection of the good proxy.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn connect(&self, windows: Windows) -> Client {
        let client = Client::connect(&self.endpoint(windows)).await;
        client.expect("a good proxy connects")
    }

    /// The good proxy's way to the agent.
    ///
    /// # Panics
    /// Never: the CA made good certificates.
    pub fn endpoint(&self, windows: Windows) -> Endpoint {
        let ca = self.pki.ca_pem();
        let endpoint = client::endpoint(self.grpc, &ca, Some(&self.proxy), windows);
        endpoint.expect("the certificates are good")
    }

    /// Asks the agent to stop.
    pub fn terminate(&mut self) {
        self.agent.signal(Signal::SIGTERM);
    }

    /// Waits until the agent has stopped, and returns whether in good order.
    ///
    /// # Panics
    /// When it has not within 30 s.
    pub fn stopped(&mut self) -> bool {
        self.agent.wait(STOP_BOUND).success()
    }
}
