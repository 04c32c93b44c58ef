//! The unprivileged user that tests and demonstrations run the agent and their own QEMUs as:
//! whoever started them, or a user made for it where that is root. It refuses to run
//! anything as root in its stead: without the user a test fails.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{Group, Uid, User};

use crate::process::{LOADER_PATH, tied};
use crate::setup;

/// The user that `tests/setup.sh test` creates.
pub const NAME: &str = "vmconsole-test";

/// The group of libvirt's socket, which the user is a member of.
pub const GROUP: &str = "libvirt";

/// The unprivileged user: [`NAME`] where this is root, else whoever this is.
///
/// # Panics
/// When there is no such user.
pub fn lookup() -> User {
    if Uid::effective().is_root() {
        return named(NAME);
    }
    User::from_uid(Uid::effective())
        .expect("the user database is readable")
        .expect("whoever runs this is in the user database")
}

/// Looks the group of libvirt's socket up, in which the unprivileged user is.
///
/// # Panics
/// When there is no such group, or the user is not in it.
pub fn libvirt_group() -> Group {
    let group = Group::from_name(GROUP)
        .expect("the group database is readable")
        .unwrap_or_else(|| panic!("no group {GROUP}; run: {}", setup::INSTALL));
    assert!(
        group.mem.iter().any(|member| member == NAME),
        "user {NAME} is not in group {GROUP}; run: {}",
        setup::INSTALL
    );
    group
}

/// A command that runs `program` as the unprivileged user with its supplementary
/// groups, and that the kernel kills when the test process dies. Standard input
/// and output are closed to it until the caller sets them.
///
/// # Panics
/// When the user is missing, or cannot reach the program: see [`reachable`].
pub fn command_as(program: impl AsRef<OsStr>) -> Command {
    if !Uid::effective().is_root() {
        return tied(program);
    }
    let path = Path::new(program.as_ref());
    assert!(
        !path.has_root() || others_may(0o001, path),
        "user {NAME} may not execute {}: hand it over by user::reachable",
        path.display()
    );
    command_as_user(NAME, program)
}

/// A path of `program` that the unprivileged user can execute: itself, or, where
/// the checkout lies in a closed home directory, a link or copy in `dir`, which
/// others must be able to enter.
///
/// # Panics
/// When the program can be neither linked nor copied.
pub fn reachable(program: &Path, dir: &Path) -> PathBuf {
    within_reach(0o001, program, dir)
}

/// As [`reachable`], for a file that the unprivileged user is to read.
///
/// # Panics
/// When the file can be neither linked nor copied.
pub fn readable(file: &Path, dir: &Path) -> PathBuf {
    within_reach(0o004, file, dir)
}

fn within_reach(permission: u32, file: &Path, dir: &Path) -> PathBuf {
    if !Uid::effective().is_root() || others_may(permission, file) {
        return file.to_path_buf();
    }
    let staged = dir.join(file.file_name().expect("a file has a name"));
    if !staged.exists() && std::fs::hard_link(file, &staged).is_err() {
        std::fs::copy(file, &staged)
            .unwrap_or_else(|error| panic!("cannot copy {}: {error}", file.display()));
    }
    staged
}

/// As [`command_as`], for any user of the machine.
pub(crate) fn command_as_user(user: &str, program: impl AsRef<OsStr>) -> Command {
    let user = named(user);
    let mut command = Command::new(setup::program("setpriv"));
    command
        .args(["--pdeathsig", "KILL", "--init-groups"])
        .arg(format!("--reuid={}", user.uid))
        .arg(format!("--regid={}", user.gid))
        .arg("--")
        .arg(program)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .env_remove(LOADER_PATH);
    command
}

fn named(name: &str) -> User {
    User::from_name(name)
        .expect("the user database is readable")
        .unwrap_or_else(|| panic!("no user {name}; run: {}", setup::INSTALL))
}

/// Whether anyone has this permission for `file`, and may enter every directory above it.
fn others_may(permission: u32, file: &Path) -> bool {
    let Ok(file) = file.canonicalize() else {
        return false;
    };
    let allows = |path: &Path, permission| {
        path.metadata()
            .is_ok_and(|metadata| metadata.permissions().mode() & permission == permission)
    };
    allows(&file, permission) && file.ancestors().skip(1).all(|dir| allows(dir, 0o001))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_runs_as_the_user_with_its_groups() {
        let (user, group) = (lookup(), libvirt_group());
        let output = command_as("id").stdout(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            said.starts_with(&format!("uid={}({NAME}) gid=", user.uid)),
            "{said}"
        );
        assert!(said.contains(&format!("({})", group.name)), "{said}");
    }

    #[test]
    fn a_program_in_a_closed_directory_is_staged_where_the_user_reaches_it() {
        let open = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let closed = open.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        let program = closed.join("true");
        std::fs::copy("/bin/true", &program).unwrap();
        assert_eq!(reachable(&program, open.path()), program);

        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
        let staged = reachable(&program, open.path());
        assert_eq!(staged, open.path().join("true"));
        assert!(command_as(&staged).status().unwrap().success());
        assert!(std::panic::catch_unwind(|| command_as(&program)).is_err());
    }
}
