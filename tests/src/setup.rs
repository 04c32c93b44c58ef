//! What a test needs of the machine, checked before it starts anything, with
//! the command that provides it. It installs nothing and skips nothing.

use std::path::PathBuf;

use nix::unistd::Uid;

/// What brings a machine to where every test runs.
pub const INSTALL: &str = "sudo tests/setup.sh test";

/// The same for what the agent is measured beside.
pub const INSTALL_BENCH: &str = "sudo tests/setup.sh bench";

/// Where Debian keeps daemons that an ordinary user's PATH leaves out.
const SYSTEM_DIRS: &[&str] = &["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Checks that this is root, and that each program can be found.
///
/// # Panics
/// When not, naming what is missing and what to do.
pub fn require(programs: &[&str]) {
    assert!(
        Uid::effective().is_root(),
        "these tests start a libvirtd of their own and so need root: run `make test` as root or with sudo"
    );
    let missing: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|program| find(program).is_none())
        .collect();
    assert!(
        missing.is_empty(),
        "not installed: {}; run: {INSTALL}",
        missing.join(", ")
    );
}

/// The path of `program`.
///
/// # Panics
/// When it is not installed, naming the command that installs it.
pub fn program(program: &str) -> PathBuf {
    find(program).unwrap_or_else(|| {
        panic!("not installed: {program}; run: {INSTALL}, or for a bench: {INSTALL_BENCH}")
    })
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_DIRS.iter().map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_command_that_installs_it() {
        let failure = std::panic::catch_unwind(|| program("vmconsole-no-such-program"));
        let message = *failure.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("vmconsole-no-such-program"), "{message}");
        assert!(message.contains(INSTALL), "{message}");
    }
}
