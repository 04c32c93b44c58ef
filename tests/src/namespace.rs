//! A mount and PID namespace of a test's own: what libvirtd keeps under `/run`,
//! `/var` and `/etc` is private to it, and killing its first process kills all
//! that ever started within. It shares network, `/dev` and `/tmp` with the
//! machine, so that PTYs and sockets are within reach of the agent under test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{Process, tied};
use crate::{setup, wait};

/// How long the namespace may take to stand, and to be gone.
const BOUND: Duration = Duration::from_secs(30);

/// Hides the machine's libvirt, control groups and system bus, then stays as the
/// first process. It ignores SIGCHLD, so that the kernel reaps orphans: to
/// libvirt an unreaped QEMU is one that will not die.
const HOLD: &str = r#"
set -eu
for dir in /run /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
    mkdir -p "$dir"
    mount -t tmpfs -o mode=0755 vmconsole-test "$dir"
done
umount --recursive --lazy /sys/fs/cgroup 2>/dev/null || true
# A console is claimed by a file in /var/lock, which is /run/lock.
mkdir -m 1777 /run/lock
mkdir /run/ready
exec env --ignore-signal=CHLD sleep infinity
"#;

/// A running namespace.
#[derive(Debug)]
pub struct Namespace {
    holder: Process,
    init: Pid,
}

/// A process in a namespace, as seen from outside.
#[derive(Debug, Clone)]
pub struct Inhabitant {
    /// Its process id, outside.
    pub pid: Pid,
    /// Its command line, arguments joined by a space; empty for a zombie.
    pub command_line: String,
}

/// A namespace's name in the kernel, by which its processes are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceId(PathBuf);

impl Namespace {
    /// Makes a namespace and waits until it stands.
    ///
    /// # Panics
    /// When the machine refuses.
    pub fn create() -> Self {
        setup::require(&["unshare", "nsenter", "setpriv"]);
        let mut unshare = tied("unshare");
        unshare
            .args([
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
                "--kill-child",
            ])
            .args(["--mount-proc", "sh", "-c", HOLD]);
        let mut holder = Process::spawn("the namespace's holder", unshare);
        let init = wait::value("the namespace", BOUND, || {
            assert!(
                holder.try_wait().is_none(),
                "no namespace: {}",
                holder.stderr()
            );
            let init = child_of(holder.pid())?;
            Path::new(&format!("/proc/{init}/root/run/ready"))
                .exists()
                .then_some(init)
        });
        Self { holder, init }
    }

    /// A command that runs `program` within, as a child process of the returned
    /// command's own process, and that dies with it.
    pub fn enter(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = tied("nsenter");
        command
            .arg(format!("--target={}", self.init))
            .args([
                "--mount",
                "--pid",
                "--",
                "setpriv",
                "--pdeathsig",
                "KILL",
                "--",
            ])
            .arg(program);
        command
    }

    /// Where the path of a file within is found from outside.
    ///
    /// # Panics
    /// When `path` is relative.
    pub fn outside(&self, path: &str) -> PathBuf {
        assert!(path.starts_with('/'), "{path} is not absolute");
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// Its name in the kernel.
    pub fn id(&self) -> NamespaceId {
        NamespaceId::of(self.init).expect("a namespace with a first process has a name")
    }

    /// Kills every process within and waits until all are gone.
    pub fn kill(&mut self) {
        if self.holder.try_wait().is_none() {
            // The kernel kills the others with the first one, and lets it end last.
            let _ = kill(self.init, Signal::SIGKILL);
            let _ = wait::try_value(BOUND, || self.holder.try_wait());
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.kill();
    }
}

impl NamespaceId {
    fn of(pid: Pid) -> Option<Self> {
        std::fs::read_link(format!("/proc/{pid}/ns/pid"))
            .ok()
            .map(Self)
    }

    /// Every process that now runs within.
    pub fn inhabitants(&self) -> Vec<Inhabitant> {
        processes()
            .filter(|&pid| Self::of(pid).as_ref() == Some(self))
            .filter_map(|pid| {
                let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
                let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
                Some(Inhabitant {
                    pid,
                    command_line: text.trim_end().to_owned(),
                })
            })
            .collect()
    }
}

/// The first child of `parent`, if it has one.
pub(crate) fn child_of(parent: Pid) -> Option<Pid> {
    processes().find(|&pid| parent_of(pid) == Some(parent))
}

fn processes() -> impl Iterator<Item = Pid> {
    std::fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
}

/// The fourth field of `stat`; the second, a name in brackets, may hold anything.
fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
        .map(Pid::from_raw)
}
