//! A real libvirtd of the test's own, in a namespace where it neither sees nor
//! disturbs a libvirtd of the machine. Any number run side by side. Dropping it
//! ends its QEMUs too; [`Libvirtd::kill`] does not.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::namespace::{Namespace, NamespaceId, child_of};
use crate::probe::{self, Accelerator};
use crate::process::Process;
use crate::virsh::{Virsh, VirshError};
use crate::{image, setup, user, wait};

/// How long libvirtd may take to answer; well under a second on an idle machine.
const START_BOUND: Duration = Duration::from_secs(60);

/// Where the guest's kernel and initramfs are seen in the namespace: by its user
/// too, wherever the checkout lies.
pub(crate) const IMAGES: &str = "/run/guest";

/// Where libvirt keeps what it learnt about QEMU.
const CAPABILITIES: &str = "/var/cache/libvirt/qemu/capabilities";

const QEMU_CONF: &str = r#"
stdio_handler = "file"
security_driver = "none"
namespaces = []
cgroup_controllers = []
"#;

/// A KVM that root alone can open, or that runs no guest, makes libvirt throw
/// away what it learnt and ask QEMU anew, a second each time, several times a
/// definition. So where KVM is of no use it is not there.
const HIDE_KVM: &str = "[ ! -e /dev/kvm ] || {
    touch /run/no-kvm
    chmod 0 /run/no-kvm
    mount --bind /run/no-kvm /dev/kvm
}";

/// A libvirtd and all that runs under it.
#[derive(Debug)]
pub struct Libvirtd {
    namespace: Namespace,
    daemon: Mutex<Option<Daemon>>,
    capabilities_kept: Once,
    dir: TempDir,
}

#[derive(Debug)]
struct Daemon {
    entered: Process,
    libvirtd: Pid,
}

impl Libvirtd {
    /// Starts a libvirtd and waits until it answers.
    ///
    /// # Panics
    /// When something is missing, naming what installs it, or it does not answer.
    pub fn start() -> Self {
        setup::require(&["libvirtd", "virsh", "qemu-system-x86_64"]);
        user::libvirt_group();
        let dir = tempfile::Builder::new()
            .prefix("vmconsole-libvirtd-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a temporary directory");
        std::fs::write(dir.path().join("libvirtd.conf"), libvirtd_conf(dir.path()))
            .expect("libvirtd's configuration can be written");
        let namespace = Namespace::create();
        furnish(&namespace);
        let started = Self {
            namespace,
            daemon: Mutex::new(None),
            capabilities_kept: Once::new(),
            dir,
        };
        started.restart();
        started
    }

    /// The URI by which any user in group `libvirt` reaches it.
    pub fn uri(&self) -> String {
        format!("qemu:///system?socket={}", self.socket().display())
    }

    /// The path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("libvirt-sock")
    }

    /// A directory of its own that every user may enter, seen at the same path
    /// by its QEMUs: for sockets, configuration and programs of a test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Kills libvirtd, and only it, with SIGKILL. Its QEMUs live on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&self) {
        let mut daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = daemon.take().expect("libvirtd runs");
        kill(running.libvirtd, Signal::SIGKILL).expect("libvirtd can be killed");
        running.entered.wait(START_BOUND);
    }

    /// Starts libvirtd again after [`Self::kill`] and waits until it answers.
    ///
    /// # Panics
    /// When it runs already, or does not answer.
    pub fn restart(&self) {
        let mut daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(daemon.is_none(), "libvirtd runs already");
        let mut command = self.namespace.enter(setup::program("libvirtd"));
        command
            .arg("--config")
            .arg(self.dir.path().join("libvirtd.conf"));
        command.args(["--pid-file", "/run/libvirtd.pid"]);
        let mut entered = Process::spawn("libvirtd", command);
        wait::until("libvirtd to answer", START_BOUND, || {
            assert!(
                entered.try_wait().is_none(),
                "libvirtd ended: {}",
                entered.stderr()
            );
            UnixStream::connect(self.socket()).is_ok() && self.virsh(&["list"]).is_ok()
        });
        let libvirtd = child_of(entered.pid()).expect("libvirtd is nsenter's child");
        *daemon = Some(Daemon { entered, libvirtd });
    }

    /// Runs virsh against it and returns its standard output.
    ///
    /// # Errors
    /// When virsh fails or takes longer than two minutes, with what it said.
    pub fn virsh(&self, args: &[&str]) -> Result<String, VirshError> {
        self.virsh_handle().run(args)
    }

    /// A virsh that can be kept apart from this value.
    pub fn virsh_handle(&self) -> Virsh {
        Virsh::new(self.uri())
    }

    /// The namespace that its processes live in.
    pub fn namespace_id(&self) -> NamespaceId {
        self.namespace.id()
    }

    /// Keeps what libvirt has learnt about QEMU for the next libvirtd, which
    /// checks itself whether it still holds.
    pub(crate) fn keep_capabilities(&self) {
        self.capabilities_kept.call_once(|| {
            let kept = kept_capabilities();
            for (name, learnt) in xml_files(&self.namespace.outside(CAPABILITIES)) {
                if std::fs::read(kept.join(&name)).ok().as_ref() != Some(&learnt) {
                    let file = tempfile::NamedTempFile::new_in(&kept).expect("a temporary file");
                    std::fs::write(file.path(), learnt).expect("the cache can be written");
                    file.persist(kept.join(&name))
                        .expect("the cache can be written");
                }
            }
        });
    }

    fn print_guest_logs(&self) {
        let dir = self.namespace.outside("/var/log/libvirt/qemu");
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
            eprintln!("--- QEMU log {}:\n{log}", entry.file_name().display());
        }
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_guest_logs();
        }
        // libvirtd, its QEMUs, stopped ones too, and what they started.
        self.namespace.kill();
    }
}

fn libvirtd_conf(dir: &Path) -> String {
    format!(
        "unix_sock_dir = \"{}\"\n\
         unix_sock_group = \"{}\"\n\
         unix_sock_ro_perms = \"0770\"\n\
         unix_sock_rw_perms = \"0770\"\n\
         auth_unix_ro = \"none\"\n\
         auth_unix_rw = \"none\"\n",
        dir.display(),
        user::GROUP
    )
}

/// Puts QEMU's configuration, the guest's images and what an earlier libvirtd
/// learnt about QEMU into the namespace.
fn furnish(namespace: &Namespace) {
    std::fs::write(namespace.outside("/etc/libvirt/qemu.conf"), QEMU_CONF)
        .expect("QEMU's configuration can be written");
    let mount =
        format!("mkdir {IMAGES}; mount --bind \"$1\" {IMAGES}; mount -o remount,bind,ro {IMAGES}");
    within(namespace, &mount, &[image::directory()]);
    if probe::accelerator() == Accelerator::Tcg {
        within(namespace, HIDE_KVM, &[]);
    }

    let cache = namespace.outside(CAPABILITIES);
    std::fs::create_dir_all(&cache).expect("libvirt's cache can be created");
    std::fs::create_dir_all(kept_capabilities()).expect("the guest cache is writable");
    for (name, learnt) in xml_files(&kept_capabilities()) {
        std::fs::write(cache.join(name), learnt).expect("libvirt's cache can be filled");
    }
}

/// Runs a shell script within, as root; its arguments are `$1` and so on.
fn within(namespace: &Namespace, script: &str, args: &[&Path]) {
    let output = namespace
        .enter("sh")
        .args(["-euc", script, "sh"])
        .args(args)
        .output();
    let output = output.expect("the namespace can be entered");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
}

fn kept_capabilities() -> PathBuf {
    image::cache_dir().join("libvirt-capabilities")
}

fn xml_files(dir: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "xml")
        })
        .filter_map(|entry| Some((entry.file_name(), std::fs::read(entry.path()).ok()?)))
        .collect()
}
