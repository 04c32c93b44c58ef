//! Whether a user may get at a file, by owner, group and mode alone.
//!
//! Refuses to know of access control lists and security modules: what it says of them is
//! that they were not looked at.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// The agent's user, as the packages make it.
pub(super) const AGENT_USER: &str = "vmconsole";

/// Permission bits, as those of others.
pub(super) const READ: u32 = 0o4;
/// To connect to a socket takes this.
pub(super) const WRITE: u32 = 0o2;
/// To go through a directory takes this.
const SEARCH: u32 = 0o1;

/// A user with all of its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) user: u32,
    pub(super) groups: Vec<u32>,
}

impl Person {
    /// The user of this name; `None` if there is none.
    pub(super) fn named(name: &str) -> Option<Self> {
        let user = User::from_name(name).ok().flatten()?;
        let c_name = CString::new(name).ok()?;
        let groups = getgrouplist(&c_name, user.gid).unwrap_or_default();
        let mut groups: Vec<_> = groups.iter().map(|group| group.as_raw()).collect();
        groups.push(user.gid.as_raw());
        Some(Self {
            name: user.name,
            user: user.uid.as_raw(),
            groups,
        })
    }

    fn has(&self, metadata: &std::fs::Metadata, wanted: u32) -> bool {
        let shift = if self.user == metadata.uid() {
            6
        } else if self.groups.contains(&metadata.gid()) {
            3
        } else {
            0
        };
        self.user == 0 || (metadata.mode() >> shift) & wanted == wanted
    }

    /// What on the way to `path` this user lacks a right to: `path` itself for lack of
    /// `wanted`, or a directory above that it may not go through.
    ///
    /// # Errors
    /// If something on the way is not there, or hidden from us.
    pub(super) fn barred(&self, path: &Path, wanted: u32) -> io::Result<Option<PathBuf>> {
        // Where links lead counts.
        let real = path.canonicalize()?;
        for above in real.ancestors().skip(1) {
            if !self.has(&above.metadata()?, SEARCH) {
                return Ok(Some(above.to_owned()));
            }
        }
        let barred = !self.has(&real.metadata()?, wanted);
        Ok(barred.then_some(real))
    }
}

/// Owner, group and mode of a file, for people.
pub(super) fn described(path: &Path, metadata: &std::fs::Metadata) -> String {
    format!(
        "{}: user {}, group {}, mode {:04o}",
        path.display(),
        user_name(metadata.uid()),
        group_name(metadata.gid()),
        metadata.mode() & 0o7777
    )
}

/// A user's name, or its number.
pub(super) fn user_name(user: u32) -> String {
    let found = User::from_uid(Uid::from_raw(user)).ok().flatten();
    found.map_or_else(|| user.to_string(), |user| user.name)
}

/// A group's name, or its number.
pub(super) fn group_name(group: u32) -> String {
    let found = Group::from_gid(Gid::from_raw(group)).ok().flatten();
    found.map_or_else(|| group.to_string(), |group| group.name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_bars_the_way_is_named() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().canonicalize().unwrap().join("d");
        std::fs::create_dir(&directory).unwrap();
        let file = directory.join("key");
        std::fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let metadata = file.metadata().unwrap();
        let person = |user, group| Person {
            name: "x".into(),
            user,
            groups: vec![group],
        };
        let (member, stranger) = (
            person(4_000_000, metadata.gid()),
            person(4_000_000, 4_000_000),
        );
        mode(root.path(), 0o755);
        mode(&directory, 0o755);
        mode(&file, 0o640);
        assert_eq!(member.barred(&file, READ).unwrap(), None);
        assert_eq!(member.barred(&file, WRITE).unwrap(), Some(file.clone()));
        assert_eq!(stranger.barred(&file, READ).unwrap(), Some(file.clone()));
        mode(&directory, 0o700);
        assert_eq!(member.barred(&file, READ).unwrap(), Some(directory.clone()));
        assert_eq!(person(0, 0).barred(&file, WRITE).unwrap(), None);
        assert!(member.barred(&directory.join("no"), READ).is_err());
    }

    #[test]
    fn root_is_a_person() {
        let root = Person::named("root").unwrap();
        assert_eq!(root.user, 0);
        assert!(root.groups.contains(&0));
        assert_eq!(Person::named("vmconsole-no-such-user"), None);
    }
}
