//! Says what a file is and whose, and what would give the agent access to it: the facts that
//! an operator needs to mend it. It checks nothing, and changes nothing.

use std::fmt;
use std::path::Path;

use nix::sys::stat::{FileStat, SFlag, stat};
use nix::unistd::{geteuid, getgroups};

/// What sort of file something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Socket,
    Device,
    Block,
    File,
    Directory,
    Fifo,
    Link,
    Other,
}

impl Kind {
    pub(super) fn of(stat: &FileStat) -> Self {
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFSOCK => Self::Socket,
            SFlag::S_IFCHR => Self::Device,
            SFlag::S_IFBLK => Self::Block,
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFDIR => Self::Directory,
            SFlag::S_IFIFO => Self::Fifo,
            SFlag::S_IFLNK => Self::Link,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Socket => "a socket",
            Self::Device => "a device",
            Self::Block => "a block device",
            Self::File => "a file",
            Self::Directory => "a directory",
            Self::Fifo => "a fifo",
            Self::Link => "a symbolic link",
            Self::Other => "something else",
        })
    }
}

/// What is wanted of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// To read and write it.
    Use,
    /// To go through it, as one does through a directory.
    Pass,
}

impl Access {
    /// The bits of a mode that grant it to the owner's group.
    const fn for_group(self) -> u32 {
        match self {
            Self::Use => 0o060,
            Self::Pass => 0o010,
        }
    }

    /// The same as `setfacl` has it.
    const fn letters(self) -> &'static str {
        match self {
            Self::Use => "rw",
            Self::Pass => "x",
        }
    }
}

/// Kind, owner, group and mode.
pub(super) fn facts(stat: &FileStat) -> String {
    let (kind, mode) = (Kind::of(stat), stat.st_mode & 0o7777);
    let (user, group) = (stat.st_uid, stat.st_gid);
    format!("{kind} of user {user} and group {group}, mode {mode:04o}")
}

/// Why the agent does not get `wanted` at `path`, and what would help.
pub(super) fn explain(path: &Path, stat: &FileStat, wanted: Access) -> String {
    let (me, group) = (geteuid(), stat.st_gid);
    let member = getgroups().is_ok_and(|groups| groups.iter().any(|gid| gid.as_raw() == group));
    let granted = stat.st_mode & wanted.for_group() == wanted.for_group();
    let letters = wanted.letters();
    // Much more than a console is writable for the group of root.
    let next = if granted && !member && group != 0 {
        format!("put the agent's user into group {group}")
    } else {
        format!("grant it with \"setfacl -m u:{me}:{letters} PATH\", or run the VM so that it is")
    };
    let what = match wanted {
        Access::Use => "open",
        Access::Pass => "pass through",
    };
    format!(
        "{}: the agent (user {me}) may not {what} it: {}; {next}",
        path.display(),
        facts(stat)
    )
}

/// Why the agent does not get to `path`: which directory on the way it may not pass.
pub(super) fn explain_way(path: &Path) -> String {
    for parent in path.ancestors().skip(1) {
        if let Ok(stat) = stat(parent) {
            return explain(parent, &stat, Access::Pass);
        }
    }
    format!("{}: the agent may not go there", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of a group that no test runs in.
    fn file(mode: u32) -> FileStat {
        let mut file = stat("/").unwrap();
        file.st_mode = SFlag::S_IFSOCK.bits() | mode;
        (file.st_uid, file.st_gid) = (64055, 64056);
        file
    }

    #[test]
    fn a_group_that_may_is_the_way_in() {
        let told = explain(Path::new("/run/x"), &file(0o660), Access::Use);
        let facts = "/run/x: the agent (user ";
        assert!(told.starts_with(facts), "{told}");
        let facts = "a socket of user 64055 and group 64056, mode 0660";
        assert!(told.contains(facts), "{told}");
        assert!(
            told.ends_with("put the agent's user into group 64056"),
            "{told}"
        );
        let told = explain(Path::new("/run/x"), &file(0o710), Access::Pass);
        assert!(
            told.ends_with("put the agent's user into group 64056"),
            "{told}"
        );
    }

    #[test]
    fn where_no_group_may_another_way_is_named() {
        // Nobody is to be put into the group of root.
        let mut of_root = file(0o660);
        of_root.st_gid = 0;
        for file in [file(0o600), file(0o640), file(0o620), of_root] {
            let told = explain(Path::new("/run/x"), &file, Access::Use);
            assert!(!told.contains("into group"), "{told}");
            assert!(told.contains("setfacl -m u:"), "{told}");
            assert!(told.contains(":rw "), "{told}");
        }
    }

    #[test]
    fn the_last_directory_that_can_be_reached_is_the_one_that_is_named() {
        let told = explain_way(Path::new("/nowhere/at/all"));
        assert!(told.starts_with("/: "), "{told}");
    }
}
