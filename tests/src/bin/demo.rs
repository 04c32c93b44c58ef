//! `make demo`: a guest, an agent, and a terminal on the guest's console. The guest runs in a
//! plain QEMU, as on an embedded host; with `libvirt` as its only argument, under a libvirtd.
//!
//! At a terminal it hands the terminal over. Without one it logs in, runs `uname -a`, prints
//! what was said, and fails if the guest did not answer.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a demonstration speaks to a person, and ends by saying what went wrong"
)]

use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use vmconsole_tests::agent::{Agent, AgentOptions, program};
use vmconsole_tests::guest::{self, GuestOptions};
use vmconsole_tests::libvirtd::Libvirtd;
use vmconsole_tests::qemu::{Qemu, QemuDir, QemuOptions};
use vmconsole_tests::{image, probe, user, wait};

/// The identity of the proxy that `vmconsolectl pki init` makes.
const PROXY: &str = "spiffe://vmconsole.local/proxy/dev";

/// The guest's name.
const NAME: &str = "demo";

/// How long the guest may take to answer.
const BOUND: Duration = Duration::from_secs(180);

/// How long to wait for a login prompt before Enter is pressed.
const PROMPT_BOUND: Duration = Duration::from_secs(10);

/// How long the agent may take to find the console.
const ATTACH_BOUND: Duration = Duration::from_secs(30);

fn step(text: &str) {
    eprintln!("==> {text}");
}

/// The guest of the demonstration, and what it runs under. It ends with this value.
enum Guest {
    Qemu { dir: QemuDir, _qemu: Box<Qemu> },
    Libvirt { libvirtd: Libvirtd },
}

impl Guest {
    fn in_qemu() -> Self {
        let dir = QemuDir::new();
        step("starting the guest \"demo\" in a QEMU of its own, without libvirt");
        let qemu = Qemu::start(&dir, QemuOptions::named(NAME));
        Self::Qemu {
            dir,
            _qemu: Box::new(qemu),
        }
    }

    fn under_libvirt() -> Self {
        step("a libvirtd of the demo's own; one that runs on this machine is not touched");
        let libvirtd = Libvirtd::start();
        step(&format!(
            "starting the guest \"demo\" (domain type {})",
            probe::accelerator().domain_type()
        ));
        guest::Guest::define_and_start(&libvirtd, GuestOptions::named(NAME));
        Self::Libvirt { libvirtd }
    }

    /// A directory that goes with it.
    fn dir(&self) -> &Path {
        match self {
            Self::Qemu { dir, .. } => dir.path(),
            Self::Libvirt { libvirtd } => libvirtd.dir(),
        }
    }

    /// An agent that serves it.
    fn agent_options(&self, pki: &Path) -> AgentOptions {
        match self {
            Self::Qemu { dir, .. } => {
                let mut options = AgentOptions::without_libvirt(pki, &[PROXY]);
                options.serve_qemus(dir);
                options
            }
            Self::Libvirt { libvirtd } => AgentOptions::new(libvirtd.uri(), pki, &[PROXY]),
        }
    }
}

fn main() -> ExitCode {
    let under_libvirt = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("libvirt") => true,
        Some(other) => panic!("{other:?} is no demonstration; write \"libvirt\", or nothing"),
    };
    step("a Linux guest: Debian's cloud kernel and busybox (built once, then kept)");
    let image = image::directory();
    step(&format!("the guest is in {}", image.display()));
    let guest = if under_libvirt {
        Guest::under_libvirt()
    } else {
        Guest::in_qemu()
    };

    let pki = guest.dir().join("pki");
    step("fresh development certificates: vmconsolectl pki init");
    let made = Command::new(program("vmconsolectl"))
        .args(["pki", "init"])
        .arg(&pki)
        .output();
    let made = made.expect("vmconsolectl runs");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );

    step(&format!("the agent, as user {}", user::lookup().name));
    let mut options = guest.agent_options(&pki);
    options.capture = None;
    options.listen = preferred("[::1]:2223");
    options.http = preferred("127.0.0.1:9223");
    let agent = Agent::start(&options);
    step(&format!(
        "gRPC on {}, metrics on http://{}/metrics",
        agent.grpc(),
        agent.http()
    ));

    if let Err(trouble) = ready(&agent, &pki) {
        eprintln!("demo: the agent does not have the console: {trouble}");
        eprintln!("{}", agent.log());
        return ExitCode::FAILURE;
    }
    let done = if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        by_hand(&agent, &pki)
    } else {
        by_itself(&agent, &pki)
    };
    step("taking down what was started");
    done
}

/// The address itself where nobody listens, else any free port beside it.
fn preferred(address: &str) -> String {
    match std::net::TcpListener::bind(address) {
        Ok(_) => address.to_owned(),
        Err(_) => {
            let (host, _) = address.rsplit_once(':').expect("an address has a port");
            format!("{host}:0")
        }
    }
}

fn vmconsolectl(agent: &Agent, pki: &Path) -> Command {
    let mut command = Command::new(program("vmconsolectl"));
    command.env("VMCONSOLE_PKI", pki);
    command.args([
        "--agent",
        &agent.grpc().to_string(),
        "--server-name",
        "localhost",
    ]);
    command
}

/// Waits until the guest's console can be attached; the last list of consoles if it cannot.
fn ready(agent: &Agent, pki: &Path) -> Result<(), String> {
    let mut last = String::new();
    let shown = wait::try_value(ATTACH_BOUND, || {
        let mut list = vmconsolectl(agent, pki);
        let listed = list.arg("list").output().expect("vmconsolectl runs");
        last = String::from_utf8_lossy(&[listed.stdout, listed.stderr].concat()).into_owned();
        let can = |line: &str| line.contains(NAME) && line.contains("ready");
        last.lines().any(can).then_some(())
    });
    shown.ok_or(last)
}

fn attach(agent: &Agent, pki: &Path) -> Command {
    let mut command = vmconsolectl(agent, pki);
    command.args(["attach", NAME, "--tail", "65536"]);
    command
}

fn by_hand(agent: &Agent, pki: &Path) -> ExitCode {
    step("attaching: log in as root, password \"console\"; ^] leaves, Enter ~ ? helps");
    let status = attach(agent, pki).status().expect("vmconsolectl runs");
    ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
}

fn by_itself(agent: &Agent, pki: &Path) -> ExitCode {
    step("no terminal here: logging in and running uname -a");
    let mut attach = attach(agent, pki);
    let child = attach.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("vmconsolectl runs");
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut said = Heard::from(listen(output));
    // The prompt may have been written before anybody looked: Enter brings it again.
    let begun = Instant::now();
    let mut all = said.hears_within("login: ", PROMPT_BOUND);
    while !all && begun.elapsed() < BOUND && input.write_all(b"\n").is_ok() {
        all = said.hears_within("login: ", PROMPT_BOUND);
    }
    for (answer, wait) in [
        ("root\n", "Password: "),
        ("console\n", "# "),
        ("uname -a\n", "Linux guest"),
        ("", "# "),
    ] {
        all = all && input.write_all(answer.as_bytes()).is_ok();
        all = all && said.hears(wait);
    }
    drop(input);
    let left = child.wait().expect("vmconsolectl ends");
    println!("{}", conversation(&said.transcript));
    if all && left.success() {
        step("the guest answered");
        ExitCode::SUCCESS
    } else {
        eprintln!(
            "demo: the guest did not answer within {} s",
            BOUND.as_secs()
        );
        eprintln!("{}", agent.log());
        ExitCode::FAILURE
    }
}

/// What was said from the login prompt on, without what is meant for a terminal alone.
fn conversation(transcript: &[u8]) -> String {
    let text = String::from_utf8_lossy(transcript).replace(['\r', '\x1b'], "");
    let begin = text
        .find("login: ")
        .and_then(|at| text[..at].rfind('\n'))
        .unwrap_or(0);
    text[begin..].replace("[6n", "").trim().to_owned()
}

/// What is read from `output`, as it comes.
fn listen(mut output: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (send, receive) = sync_channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            if send.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receive
}

/// What the guest said, and how much of it has been waited for.
struct Heard {
    said: Receiver<Vec<u8>>,
    transcript: Vec<u8>,
    /// Where in the transcript the last text that was waited for ends.
    until: usize,
}

impl From<Receiver<Vec<u8>>> for Heard {
    fn from(said: Receiver<Vec<u8>>) -> Self {
        Self {
            said,
            transcript: Vec::new(),
            until: 0,
        }
    }
}

impl Heard {
    /// Waits until `text` comes after what was waited for before. Both may come in one piece:
    /// the agent joins small reads.
    fn hears(&mut self, text: &str) -> bool {
        self.hears_within(text, BOUND)
    }

    fn hears_within(&mut self, text: &str, bound: Duration) -> bool {
        let deadline = Instant::now() + bound;
        loop {
            let found = self.transcript[self.until..]
                .windows(text.len())
                .position(|window| window == text.as_bytes());
            if let Some(at) = found {
                self.until += at + text.len();
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(bytes) => self.transcript.extend(bytes),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_together_with_what_was_waited_for_is_heard_next() {
        let (send, said) = sync_channel(1);
        send.send(b"uname -a\r\nLinux guest 6.1\r\nroot@guest:~# ".to_vec())
            .unwrap();
        drop(send);
        let mut said = Heard::from(said);
        assert!(said.hears("Linux guest"));
        assert!(said.hears("# "));
        assert!(!said.hears("# "));
    }
}
