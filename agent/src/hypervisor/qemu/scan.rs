//! Which sockets there are to look after: those of the directory, and those of the list. It
//! connects to none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The most sockets that are looked after.
pub(super) const MAX_SOCKETS: usize = 1024;
/// The most entries of the directory that are looked at.
const MAX_ENTRIES: usize = 16 * 1024;

/// What tells a socket from another that was at its path before, and from itself before its
/// owner or mode were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The sockets, and what else is neither a file nor a directory, each with its mark.
    pub(super) sockets: BTreeMap<PathBuf, Mark>,
    /// Whether there was more to look at than is looked at.
    pub(super) cut: bool,
}

/// Looks for sockets in `directory`; one that does not exist has none.
///
/// # Errors
/// It could not be read.
pub(super) fn scan(directory: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for (number, entry) in entries.enumerate() {
        if number == MAX_ENTRIES {
            found.cut = true;
            break;
        }
        // One that is gone meanwhile, or cannot be looked at, is told of when that changes.
        let Ok(entry) = entry else { continue };
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        // What no program leaves there by itself, such as a link or a fifo, is looked after
        // too: so it is refused by name, where an operator sees that.
        if !metadata.is_file() && !metadata.is_dir() {
            let mark = Mark {
                device: metadata.dev(),
                inode: metadata.ino(),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            };
            found.sockets.insert(entry.path(), mark);
        }
    }
    Ok(found)
}

/// Which sockets to look after: those that are already, then those of the list, then those of
/// the directory by name, up to [`MAX_SOCKETS`]; and how many are left out.
pub(super) fn choose(
    before: &BTreeSet<PathBuf>,
    listed: &[PathBuf],
    found: &Found,
) -> (BTreeSet<PathBuf>, usize) {
    let mut chosen = before.clone();
    let mut left_out = BTreeSet::new();
    for path in listed.iter().chain(found.sockets.keys()) {
        if chosen.len() < MAX_SOCKETS {
            chosen.insert(path.clone());
        } else if !chosen.contains(path) {
            left_out.insert(path);
        }
    }
    let left_out = left_out.len();
    (chosen, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn path(number: usize) -> PathBuf {
        PathBuf::from(format!("/run/{number:05}"))
    }

    fn found(numbers: std::ops::Range<usize>) -> Found {
        let mark = Mark {
            device: 1,
            inode: 1,
            changed: (0, 0),
        };
        Found {
            sockets: numbers.map(|number| (path(number), mark)).collect(),
            cut: false,
        }
    }

    #[test]
    fn sockets_are_found_and_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("a");
        std::fs::write(directory.path().join("file"), "").unwrap();
        std::fs::create_dir(directory.path().join("below")).unwrap();
        let _first = UnixListener::bind(&at).unwrap();
        let before = scan(directory.path()).unwrap();
        assert_eq!(before.sockets.keys().collect::<Vec<_>>(), [&at]);
        std::fs::remove_file(&at).unwrap();
        let _second = UnixListener::bind(&at).unwrap();
        assert_ne!(scan(directory.path()).unwrap(), before);
    }

    #[test]
    fn what_may_stand_in_a_sockets_place_is_looked_after_and_files_and_directories_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("below")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let found = scan(directory.path()).unwrap();
        let found: Vec<_> = found.sockets.into_keys().collect();
        assert_eq!(found, [at("fifo"), at("link")]);
    }

    #[test]
    fn a_directory_that_is_not_there_has_none() {
        let none = scan(Path::new("/nonexistent/qmp")).unwrap();
        assert_eq!(none, Found::default());
        scan(Path::new("/proc/self/stat")).expect_err("not a directory");
    }

    #[test]
    fn who_is_looked_after_stays_and_the_list_comes_first() {
        let before = BTreeSet::from([path(MAX_SOCKETS + 5)]);
        let listed = [path(MAX_SOCKETS + 1), path(3)];
        let (chosen, left_out) = choose(&before, &listed, &found(0..MAX_SOCKETS + 10));
        assert_eq!(chosen.len(), MAX_SOCKETS);
        assert_eq!(left_out, 10);
        assert!(chosen.contains(&path(MAX_SOCKETS + 5)));
        assert!(chosen.contains(&path(MAX_SOCKETS + 1)));
        let (_, none) = choose(&BTreeSet::new(), &listed, &found(0..2));
        assert_eq!(none, 0);
    }
}
