//! A machine with systemd as its first process, in a container that shares the network with
//! the tests: what a package does to a host, it does there.
//!
//! It refuses to touch the tree that it starts from: each machine has a copy. One runs at a
//! time, whichever test asks: they would share control groups.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::namespace::child_of;
use crate::process::{Process, tied};
use crate::{image, setup, wait};

/// Runs nspawn with what it leaves in `/run` to itself.
const RUN: &str = "mount -t tmpfs vmconsole-test /run && exec systemd-nspawn \"$@\"";

/// How long it may take to boot. Some seconds on an idle machine.
const BOOT_BOUND: Duration = Duration::from_secs(120);

/// How long it may take to be gone once it is killed.
const END_BOUND: Duration = Duration::from_secs(30);

/// How much of a failed test's journal is printed.
const JOURNAL_LINES: u32 = 200;

/// Where control groups may be mounted: one hierarchy, or systemd's beside older ones.
const CGROUPS: [&str; 3] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/unified",
    "/sys/fs/cgroup/systemd",
];

/// A running machine. It is killed, and its tree removed, when this is dropped.
#[derive(Debug)]
pub struct Machine {
    container: Process,
    init: Pid,
    tree: TempDir,
    /// Held as long as the machine runs.
    _turn: File,
}

impl Machine {
    /// Boots a copy of the tree, with `shared`, read-only, at the same paths.
    ///
    /// # Panics
    /// When something is missing, naming what installs it, or it does not boot.
    pub fn boot(shared: &[&Path]) -> Self {
        setup::require(&["systemd-nspawn", "debootstrap", "nsenter", "unshare", "tar"]);
        let archive = built_archive();
        let turn = File::open(&archive).expect("the archive was built");
        turn.lock().expect("a file can be locked");
        let tree = tempfile::Builder::new()
            .prefix("vmconsole-machine-")
            .tempdir()
            .expect("a temporary directory");
        let mut unpack = Command::new("tar");
        unpack.args(["--extract", "--numeric-owner", "--preserve-permissions"]);
        unpack.arg("--xattrs").arg("--xattrs-include=*");
        unpack.arg("--file").arg(&archive);
        unpack.arg("--directory").arg(tree.path());
        let unpacked = unpack.status().expect("tar can be run");
        assert!(unpacked.success(), "the machine's tree cannot be unpacked");

        let mut container = Process::spawn("systemd-nspawn", nspawn(tree.path(), shared));
        let init = wait::value("the machine's first process", BOOT_BOUND, || {
            assert!(
                container.try_wait().is_none(),
                "no machine: {}",
                container.stderr()
            );
            first_process(&container)
        });
        let machine = Self {
            container,
            init,
            tree,
            _turn: turn,
        };
        wait::until("the machine to have booted", BOOT_BOUND, || {
            let state = machine.run(&["systemctl", "is-system-running"]);
            matches!(stdout(&state).trim(), "running" | "degraded")
        });
        machine
    }

    /// Where a path within is found from outside. What the machine mounts (`/run`, `/tmp`,
    /// `/proc`) is not.
    ///
    /// # Panics
    /// When `path` is relative.
    pub fn outside(&self, path: &str) -> PathBuf {
        let below = path.strip_prefix('/');
        self.tree
            .path()
            .join(below.unwrap_or_else(|| panic!("{path} is not absolute")))
    }

    /// Runs a program within, as root.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, command: &[&str]) -> Output {
        tied("nsenter")
            .arg(format!("--target={}", self.init))
            .args(["--mount", "--pid", "--uts", "--ipc", "--root", "--wd", "--"])
            .args(["setpriv", "--pdeathsig", "KILL", "--", "env", "-i"])
            .args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"])
            .args(command)
            .stdout(std::process::Stdio::piped())
            .output()
            .expect("nsenter can be run")
    }

    /// Runs a program within, as root, and returns what it printed.
    ///
    /// # Panics
    /// When it fails, with what it said.
    #[track_caller]
    pub fn must(&self, command: &[&str]) -> String {
        let output = self.run(command);
        assert!(
            output.status.success(),
            "{command:?} failed: {}{}",
            stdout(&output),
            String::from_utf8_lossy(&output.stderr),
        );
        stdout(&output)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let newest = format!("--lines={JOURNAL_LINES}");
            let journal = self.run(&["journalctl", "--no-pager", "--quiet", &newest]);
            eprintln!("--- the machine's journal:\n{}", stdout(&journal));
        }
        // With its first process, the kernel ends all others within, and nspawn follows.
        let _gone = kill(self.init, Signal::SIGKILL);
        if wait::try_value(END_BOUND, || self.container.try_wait()).is_none() {
            self.container.kill();
        }
        for hierarchy in CGROUPS {
            remove_cgroups(Path::new(hierarchy));
        }
    }
}

/// nspawn, in namespaces whose end, whatever its cause, is the end of all that runs within:
/// nspawn alone would leave the machine running when it is killed.
fn nspawn(root: &Path, shared: &[&Path]) -> Command {
    let mut command = tied("unshare");
    command
        .args(["--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-euc", RUN, "sh"])
        .args(["--register=no", "--keep-unit", "--quiet"])
        .args(["--boot", "--console=read-only", "--link-journal=no"])
        .arg("--directory")
        .arg(root);
    for path in shared {
        command.arg(format!("--bind-ro={}", path.display()));
    }
    command
}

/// nspawn's child, once systemd runs in it.
fn first_process(container: &Process) -> Option<Pid> {
    let init = child_of(child_of(container.pid())?)?;
    let exe = std::fs::read_link(format!("/proc/{init}/exe")).ok()?;
    exe.ends_with("systemd").then_some(init)
}

/// Removes the empty control groups that nspawn makes below its own and leaves behind. Those
/// that somebody uses cannot be removed, and stay.
fn remove_cgroups(hierarchy: &Path) {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for line in own.lines() {
        let path = line.splitn(3, ':').nth(2).unwrap_or("/");
        let own = hierarchy.join(path.trim_start_matches('/'));
        for made in ["payload", "supervisor"] {
            remove_empty(&own.join(made));
        }
    }
}

fn remove_empty(cgroup: &Path) {
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _absent_or_used = std::fs::remove_dir(cgroup);
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn built_archive() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("machine/build.sh");
    let target = image::cache_dir();
    let target = target
        .parent()
        .expect("the cache lies in the target directory");
    let output = Command::new(&script)
        .arg(target.join("machine"))
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
