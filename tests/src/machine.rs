//! A machine with systemd as its first process, in a container that shares the network with
//! the tests: what a package does to a host, it does there.
//!
//! It refuses to touch the tree that it starts from: each machine has a copy.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nix::unistd::Pid;
use tempfile::TempDir;

use crate::process::{Process, tied};
use crate::{setup, wait};

/// How long it may take to boot. Some seconds on an idle machine.
const BOOT_BOUND: Duration = Duration::from_secs(120);

/// A running machine. It is killed, and its tree removed, when this is dropped.
#[derive(Debug)]
pub struct Machine {
    container: Process,
    init: Pid,
    tree: TempDir,
}

impl Machine {
    /// Boots a copy of the tree, with `shared`, read-only, at the same path.
    ///
    /// # Panics
    /// When something is missing, naming what installs it, or it does not boot.
    pub fn boot(shared: &[&Path]) -> Self {
        setup::require(&["systemd-nspawn", "debootstrap", "nsenter"]);
        let base = built_tree();
        let tree = tempfile::Builder::new()
            .prefix("vmconsole-machine-")
            .tempdir()
            .expect("a temporary directory");
        let root = tree.path().join("root");
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto"]).arg(base).arg(&root);
        let copied = copy.status().expect("cp can be run");
        assert!(copied.success(), "the machine's tree cannot be copied");

        let mut nspawn = tied("systemd-nspawn");
        nspawn
            .args(["--register=no", "--keep-unit", "--quiet", "--boot"])
            .args(["--console=read-only", "--link-journal=no"])
            .arg("--directory")
            .arg(&root);
        for path in shared {
            nspawn.arg(format!("--bind-ro={}", path.display()));
        }
        // The host's console may be no terminal; systemd's own log says what matters.
        let mut container = Process::spawn("systemd-nspawn", nspawn);
        let init = wait::value("the machine's first process", BOOT_BOUND, || {
            assert!(
                container.try_wait().is_none(),
                "no machine: {}",
                container.stderr()
            );
            first_process(&container, &root)
        });
        let machine = Self {
            container,
            init,
            tree,
        };
        wait::until("the machine to have booted", BOOT_BOUND, || {
            let state = machine.run(&["systemctl", "is-system-running"]);
            matches!(stdout(&state).trim(), "running" | "degraded")
        });
        machine
    }

    /// Where its root is, as seen from the tests.
    pub fn root(&self) -> PathBuf {
        self.tree.path().join("root")
    }

    /// Runs a program within, as root.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, command: &[&str]) -> Output {
        Command::new("nsenter")
            .arg(format!("--target={}", self.init))
            .args([
                "--mount", "--pid", "--uts", "--ipc", "--net", "--root", "--wd", "--",
            ])
            .args([
                "env",
                "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL=C",
            ])
            .args(command)
            .output()
            .expect("nsenter can be run")
    }

    /// Runs a program within, as root, and returns what it printed.
    ///
    /// # Panics
    /// When it fails, with what it said and the machine's journal.
    pub fn must(&self, command: &[&str]) -> String {
        let output = self.run(command);
        assert!(
            output.status.success(),
            "{command:?} failed: {}{}\n--- journal:\n{}",
            stdout(&output),
            String::from_utf8_lossy(&output.stderr),
            self.journal(),
        );
        stdout(&output)
    }

    /// The newest lines of its journal.
    pub fn journal(&self) -> String {
        stdout(&self.run(&["journalctl", "--no-pager", "--lines=200"]))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With its first process, the kernel ends all others.
        let _gone = nix::sys::signal::kill(self.init, nix::sys::signal::Signal::SIGKILL);
        self.container.kill();
    }
}

/// nspawn's child, once systemd runs in it.
fn first_process(container: &Process, root: &Path) -> Option<Pid> {
    let children = format!("/proc/{0}/task/{0}/children", container.pid());
    let children = std::fs::read_to_string(children).ok()?;
    children.split_whitespace().find_map(|child| {
        let exe = std::fs::read_link(format!("/proc/{child}/exe")).ok()?;
        let its_root = std::fs::read_link(format!("/proc/{child}/root")).ok()?;
        let booted = exe.ends_with("systemd") && its_root != root;
        booted
            .then(|| child.parse().ok().map(Pid::from_raw))
            .flatten()
    })
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn built_tree() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("machine/build.sh");
    let output = Command::new(&script)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", script.display()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} failed:\n{said}",
        script.display()
    );
    PathBuf::from(stdout(&output).trim())
}
