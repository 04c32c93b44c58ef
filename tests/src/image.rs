//! The guest's kernel and initramfs, built by `tests/guest/build.sh` when the
//! cache has none. It refuses to boot anything else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where built guests, and what was learnt about booting them, are kept.
pub fn cache_dir() -> PathBuf {
    workspace().join("target/guest")
}

/// The directory that holds `vmlinuz`, `initrd.img` and `cmdline`, built on the
/// first call of a process if need be.
///
/// # Panics
/// When the build fails, with what it said.
pub fn directory() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build)
}

/// The kernel's command line.
pub fn command_line() -> String {
    let path = directory().join("cmdline");
    std::fs::read_to_string(path)
        .expect("a built guest has a command line")
        .trim()
        .to_owned()
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
}

fn build() -> PathBuf {
    let script = workspace().join("tests/guest/build.sh");
    let output = Command::new(&script)
        .arg(cache_dir())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", script.display()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} failed:\n{said}",
        script.display()
    );
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}
