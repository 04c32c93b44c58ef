//! Whether KVM runs a Linux guest on this machine, found out by running one.
//! The presence of `/dev/kvm` is not believed: nested it may start a guest that
//! never says a word.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crate::process::{Captured, Process};
use crate::{image, user, wait};

/// The user that libvirt runs QEMU as on Debian: what KVM refuses it does not count.
pub(crate) const QEMU_USER: &str = "libvirt-qemu";

/// QEMU's program for the guests.
pub(crate) const QEMU: &str = "/usr/bin/qemu-system-x86_64";

/// Where KVM works the first line takes well under a second.
const FIRST_LINE_BOUND: Duration = Duration::from_secs(10);

/// The first line of a Linux kernel's console says this.
const FIRST_LINE: &str = "Linux version";

/// What executes a guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor, through KVM.
    Kvm,
    /// QEMU's own translator.
    Tcg,
}

impl Accelerator {
    /// The `type` attribute of a libvirt domain.
    pub fn domain_type(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "qemu",
        }
    }
}

/// The accelerator that runs guests here. The first call on a booted machine may
/// take 10 s; the answer is then kept in the guest cache until the next boot.
pub fn accelerator() -> Accelerator {
    static KNOWN: OnceLock<Accelerator> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        if Path::new("/dev/kvm").exists() {
            cached()
        } else {
            Accelerator::Tcg
        }
    })
}

/// One process of several that start together probes; the others read its answer.
fn cached() -> Accelerator {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    let kernel = image::directory().join("vmlinuz");
    let path = image::cache_dir().join("kvm-probe");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
    file.lock().expect("the probe's answer can be locked");
    let mut answer = String::new();
    file.read_to_string(&mut answer)
        .expect("the probe's answer is readable");
    match answer.strip_prefix(&boot) {
        Some("kvm\n") => return Accelerator::Kvm,
        Some("tcg\n") => return Accelerator::Tcg,
        Some(_) | None => {}
    }
    let (accelerator, word) = match kvm_boots(&kernel) {
        true => (Accelerator::Kvm, "kvm"),
        false => (Accelerator::Tcg, "tcg"),
    };
    file.set_len(0).expect("the old answer can be removed");
    file.rewind().expect("the file can be rewound");
    writeln!(file, "{boot}{word}").expect("the probe's answer can be written");
    accelerator
}

/// Boots the kernel with KVM, as libvirt's user would, until its first line.
fn kvm_boots(kernel: &Path) -> bool {
    let dir = tempfile::Builder::new()
        .prefix("vmconsole-probe-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("a temporary directory");
    let staged = dir.path().join("vmlinuz");
    std::fs::copy(kernel, &staged).expect("the kernel can be copied");
    let (serial, stdout) = Captured::new();
    let mut qemu = user::command_as_user(QEMU_USER, QEMU);
    qemu.args([
        "-accel",
        "kvm",
        "-m",
        "128",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
    ])
    .args([
        "-display",
        "none",
        "-serial",
        "stdio",
        "-append",
        "console=ttyS0,115200",
    ])
    .arg("-kernel")
    .arg(&staged)
    .stdout(stdout);
    let mut qemu = Process::spawn("QEMU probing KVM", qemu);
    wait::try_value(FIRST_LINE_BOUND, || {
        // Whether it has ended is asked first, so that its last words are read.
        let ended = qemu.try_wait().is_some();
        let booted = serial.text().contains(FIRST_LINE);
        (booted || ended).then_some(booted)
    })
    .unwrap_or(false)
}
