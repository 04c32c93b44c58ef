//! A provider on a directory of its own, and real QEMUs with monitors there. They have no disk,
//! no network and are not started: `-S`, so that they cost next to nothing.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test ends by panicking"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vmconsole_agent::core::id::VmUuid;
use vmconsole_agent::endpoint::{DirectEndpoints, DirectRules, Reach, TcpRule};
use vmconsole_agent::hypervisor::qemu::{QemuConfig, QemuHypervisor};
use vmconsole_agent::hypervisor::{Hypervisor, Inventory};
use vmconsole_agent::shutdown::Tasks;

/// How long anything may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The UUID that tests give a VM.
pub(crate) const UUID: &str = "11111111-2222-4333-8444-555555555555";

/// A provider.
pub(crate) struct Host {
    pub(crate) hypervisor: Arc<QemuHypervisor>,
    pub(crate) root: tempfile::TempDir,
    tasks: Tasks,
}

impl Host {
    /// Watches a directory, and the socket `listed` beside it.
    pub(crate) fn start() -> Self {
        Self::reaching(&Reach::ALL)
    }

    /// The same, and displays are reached by these ways alone.
    pub(crate) fn reaching(reach: &[Reach]) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("qmp")).unwrap();
        let tasks = Tasks::new();
        let hypervisor = provider(root.path(), &tasks, reach);
        Self {
            hypervisor,
            root,
            tasks,
        }
    }

    /// Ends the provider and starts another.
    pub(crate) async fn restart(&mut self) {
        self.tasks.close();
        assert!(self.tasks.drained(SOON).await);
        self.tasks = Tasks::new();
        self.hypervisor = provider(self.root.path(), &self.tasks, &Reach::ALL);
    }

    /// Where a socket of this name in the directory is.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.root.path().join("qmp").join(name)
    }

    /// Where the listed socket is.
    pub(crate) fn listed(&self) -> PathBuf {
        self.root.path().join("listed")
    }

    /// Waits until the inventory is as `wanted`.
    pub(crate) async fn until(&self, wanted: impl Fn(&Inventory) -> bool) -> Arc<Inventory> {
        let mut inventory = self.hypervisor.inventory();
        match tokio::time::timeout(SOON, inventory.wait_for(|now| wanted(now))).await {
            Ok(found) => Arc::clone(&found.unwrap()),
            Err(_) => panic!(
                "not within {SOON:?}: {:?}",
                self.hypervisor.inventory().borrow()
            ),
        }
    }
}

fn provider(root: &Path, tasks: &Tasks, reach: &[Reach]) -> Arc<QemuHypervisor> {
    let config = QemuConfig {
        directory: root.join("qmp"),
        sockets: vec![root.join("listed")],
        owners: Vec::new(),
        greeting_timeout: Duration::from_millis(500),
        command_timeout: Duration::from_secs(10),
        reach: reach.to_vec(),
    };
    let rules = DirectRules {
        directories: vec![root.to_owned()],
        owners: Vec::new(),
        tcp: TcpRule::Loopback,
    };
    let direct = DirectEndpoints::new(rules, tasks.clone());
    let (hypervisor, task) = QemuHypervisor::new(config, direct, tasks.clone());
    tasks.spawn("qemu", task.run(tasks.token()));
    hypervisor
}

/// A real QEMU, which is killed when this is dropped.
pub(crate) struct Qemu(Child);

impl Qemu {
    /// Starts one with its monitor at `monitor`.
    pub(crate) fn start(monitor: &Path, more: &[&str]) -> Self {
        let monitor = format!("unix:{},server=on,wait=off", monitor.display());
        let child = Command::new("qemu-system-x86_64")
            .args(["-machine", "pc,accel=tcg", "-m", "16", "-nodefaults", "-S"])
            .args(["-display", "none", "-qmp", &monitor])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("qemu-system-x86_64 is installed");
        Self(child)
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        kill(process, signal).unwrap();
    }

    /// Kills it as nothing can be caught, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Connects to a QEMU's socket as soon as it listens.
pub(crate) fn connect(socket: &Path) -> UnixStream {
    let deadline = Instant::now() + SOON;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::yield_now();
    }
}

/// Has a QEMU do `command` by a monitor that is not the provider's.
pub(crate) fn qmp(socket: &Path, command: &str) {
    let mut stream = BufReader::new(connect(socket));
    let mut line = String::new();
    for command in ["qmp_capabilities", command] {
        writeln!(stream.get_mut(), "{{\"execute\": \"{command}\"}}").unwrap();
    }
    let mut answers = 0;
    while answers < 2 {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "QEMU answers");
        answers += usize::from(line.contains("\"return\""));
    }
}

/// The UUID that tests give a VM.
pub(crate) fn uuid() -> VmUuid {
    UUID.parse().unwrap()
}
