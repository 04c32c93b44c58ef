//! The guest's kernel and initramfs, built by `tests/guest/build.sh` when the
//! cache has none. It refuses to boot anything else.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where built guests, and what was learnt about booting them, are kept: in cargo's target
/// directory, as the environment or else the workspace has it.
pub fn cache_dir() -> PathBuf {
    cache_within(std::env::var_os("CARGO_TARGET_DIR"))
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

/// What the guest's kernel and its first process are told.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Whether the kernel writes its messages to the first serial port.
    pub serial_console: bool,
    /// Where there is a login.
    pub logins: Logins,
    /// Further arguments, separated by spaces.
    pub more: String,
}

/// Which of the guest's terminals have a login.
#[derive(Debug, Clone, Copy)]
pub enum Logins {
    /// All that the guest has.
    Everywhere,
    /// These alone, separated by commas, by the guest's names: `ttyS0,hvc0`. The channel's is
    /// `channel`.
    On(&'static str),
    /// None: nothing answers.
    Nowhere,
}

impl Default for Kernel {
    /// Messages on the serial port, and a login wherever there can be one.
    fn default() -> Self {
        Self {
            serial_console: true,
            logins: Logins::Everywhere,
            more: String::new(),
        }
    }
}

/// The name of the channel that the guests with a channel have.
pub const CHANNEL_NAME: &str = "org.example.shell.0";

impl Kernel {
    /// The command line of a guest with or without a screen, on which it then writes too, and
    /// a channel of this name, on which there then is a shell.
    pub fn command_line(&self, screen: bool, channel: Option<&str>) -> String {
        let path = directory().join("cmdline");
        let usual = std::fs::read_to_string(path).expect("a built guest has a command line");
        let mut words = Vec::new();
        // What is named last becomes /dev/console.
        if screen {
            words.push("console=tty0");
        }
        let is_kept = |word: &&str| self.serial_console || !word.starts_with("console=");
        words.extend(usual.split_whitespace().filter(is_kept));
        let channel = channel.map(|name| format!("vmc.channel={name}"));
        words.extend(channel.as_deref());
        let logins = match self.logins {
            Logins::Everywhere => String::new(),
            Logins::On(terminals) => format!("vmc.getty={terminals}"),
            Logins::Nowhere => "vmc.getty=none".to_owned(),
        };
        words.extend(logins.split_whitespace());
        words.extend(self.more.split_whitespace());
        words.join(" ")
    }
}

/// A relative target directory is meant from the workspace, where cargo was started: a test
/// runs in its own crate's directory.
fn cache_within(target: Option<OsString>) -> PathBuf {
    let target = target.unwrap_or_else(|| "target".into());
    workspace().join(target).join("guest")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_lies_in_the_target_directory_that_cargo_was_given() {
        let given = |target: &str| cache_within(Some(target.into()));
        assert_eq!(given("/srv/built"), Path::new("/srv/built/guest"));
        assert_eq!(given("built"), workspace().join("built/guest"));
        assert_eq!(cache_within(None), workspace().join("target/guest"));
    }
}
