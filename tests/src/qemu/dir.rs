//! The directory of a host without libvirt: its QEMUs' QMP sockets in one place, their
//! consoles' sockets in another, both the unprivileged user's.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::chown;
use tempfile::TempDir;

use super::Paths;
use crate::{image, user};

/// Where the QEMUs of one host have their sockets. It goes with the value.
#[derive(Debug)]
pub struct QemuDir(TempDir);

impl QemuDir {
    /// A new one, which every user may enter.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("vmconsole-qemu-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a temporary directory");
        let dir = Self(dir);
        let user = user::lookup();
        for part in [dir.qmp(), dir.consoles()] {
            std::fs::create_dir(&part).expect("a directory can be made");
            chown(&part, Some(user.uid), Some(user.gid)).expect("it can be handed over");
        }
        dir
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Where the QMP sockets are, and nothing else.
    pub fn qmp(&self) -> PathBuf {
        self.0.path().join("qmp")
    }

    /// Where the consoles' sockets are.
    pub fn consoles(&self) -> PathBuf {
        self.0.path().join("consoles")
    }

    /// The tables of an agent's configuration that make it serve these QEMUs.
    pub fn agent_config(&self) -> String {
        format!(
            "[qemu]\ndirectory = {:?}\n[endpoints]\ndirectories = [{:?}]\n",
            self.qmp().display().to_string(),
            self.consoles().display().to_string()
        )
    }

    pub(super) fn paths(&self, name: &str) -> Paths {
        let image = |file: &str| user::readable(&image::directory().join(file), self.path());
        Paths {
            qmp: self.qmp().join(format!("{name}.qmp")),
            consoles: self.consoles(),
            kernel: image("vmlinuz"),
            initrd: image("initrd.img"),
        }
    }
}

impl Default for QemuDir {
    fn default() -> Self {
        Self::new()
    }
}
