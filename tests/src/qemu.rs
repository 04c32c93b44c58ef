//! A real Linux guest in a plain QEMU, with no libvirt anywhere near: what an embedded host
//! runs. Each of its consoles may be any of the endpoints that the agent opens itself.
//!
//! It needs no root. Where the tests run as root anyway, QEMU does not.

mod chardev;
mod dir;
mod monitor;
mod options;

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};

pub use chardev::{Chardev, Far};
pub use dir::QemuDir;
pub use monitor::{Monitor, MonitorError};
pub use options::{Boot, CHANNEL, CONSOLE0, QemuOptions, SERIAL0, SERIAL1, Vnc};

use crate::process::Process;
use crate::{setup, user, wait};

/// How long a QEMU may take to begin, to end, to stop and to go on.
const BOUND: Duration = Duration::from_secs(30);

/// A guest in a QEMU of its own, which ends with this value.
#[derive(Debug)]
pub struct Qemu {
    options: QemuOptions,
    paths: Paths,
    process: Process,
    monitor: Monitor,
}

/// Where a guest's sockets and files are.
#[derive(Debug, Clone)]
struct Paths {
    qmp: PathBuf,
    consoles: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
}

impl Qemu {
    /// Starts a guest, which then takes a few seconds to boot. Its sockets lie in `dir`.
    ///
    /// # Panics
    /// When QEMU does not start, with what it said.
    pub fn start(dir: &QemuDir, options: QemuOptions) -> Self {
        let paths = dir.paths(&options.name);
        let (process, monitor) = launch(&options, &paths);
        Self {
            options,
            paths,
            process,
            monitor,
        }
    }

    /// The guest's name.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// The UUID that QEMU was told, if it was told one.
    pub fn uuid(&self) -> Option<&str> {
        self.options.uuid.as_deref()
    }

    /// QEMU's process id.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// The QMP socket that is there for the agent, if QEMU was told to have one.
    pub fn qmp(&self) -> &Path {
        &self.paths.qmp
    }

    /// The socket on which its screen is served, if it is on one.
    pub fn vnc_socket(&self) -> PathBuf {
        self.options.vnc_socket(&self.paths.consoles)
    }

    /// The monitor that the test has for itself.
    pub const fn monitor(&mut self) -> &mut Monitor {
        &mut self.monitor
    }

    /// Where the far end of this console is: [`SERIAL0`], [`SERIAL1`], [`CONSOLE0`] or
    /// [`CHANNEL`].
    ///
    /// # Panics
    /// When the guest has no such console.
    pub fn far(&mut self, label: &str) -> Far {
        let chardev = self.chardev(label);
        let filename = chardev["filename"].as_str().expect("QEMU names it");
        Far::parse(filename).unwrap_or_else(|| panic!("{filename:?} is no endpoint"))
    }

    /// What QEMU's `query-chardev` says of this console.
    ///
    /// # Panics
    /// When the guest has no such console.
    pub fn chardev(&mut self, label: &str) -> Value {
        let all = self.monitor.run("query-chardev", &json!({}));
        let found = all
            .as_array()
            .into_iter()
            .flatten()
            .find(|chardev| chardev["label"] == label);
        found
            .cloned()
            .unwrap_or_else(|| panic!("no {label} among {all}"))
    }

    /// Stops all of QEMU with SIGSTOP: neither guest nor monitor answers.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop(&mut self) {
        self.process.signal(Signal::SIGSTOP);
        wait::until("QEMU to stop", BOUND, || self.is_stopped());
    }

    /// Lets a stopped QEMU go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn cont(&mut self) {
        self.process.signal(Signal::SIGCONT);
        wait::until("QEMU to go on", BOUND, || !self.is_stopped());
    }

    /// Kills QEMU with SIGKILL.
    pub fn kill(&mut self) -> ExitStatus {
        self.process.kill()
    }

    /// Waits until QEMU has ended by itself, as it does when the guest powers off.
    ///
    /// # Panics
    /// When it does not within `bound`.
    #[track_caller]
    pub fn wait(&mut self, bound: Duration) -> ExitStatus {
        self.process.wait(bound)
    }

    /// Ends QEMU, if it still runs, and starts another in its place: the same guest with the
    /// same sockets. Terminals and TCP ports may be others.
    ///
    /// # Panics
    /// As [`Qemu::start`].
    pub fn restart(&mut self) {
        self.process.kill();
        (self.process, self.monitor) = launch(&self.options, &self.paths);
    }

    /// What QEMU wrote to standard error.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        stat.expect("QEMU runs")
            .rsplit_once(") ")
            .is_some_and(|(_, after_name)| after_name.starts_with('T'))
    }
}

fn launch(options: &QemuOptions, paths: &Paths) -> (Process, Monitor) {
    let mut command = user::command_as(setup::program("qemu-system-x86_64"));
    command
        .args(options.arguments(paths))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut process = Process::spawn(format!("QEMU of {}", options.name), command);
    let input = process.take_stdin().expect("a pipe was asked for");
    let output = process.take_stdout().expect("a pipe was asked for");
    match Monitor::greet(input, output) {
        Ok(monitor) => (process, monitor),
        Err(error) => panic!("QEMU did not start: {error}: {}", process.stderr()),
    }
}
