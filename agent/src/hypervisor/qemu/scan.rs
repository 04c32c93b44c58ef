//! Which sockets there are to look after: those of the directory, and those of the list. It
//! connects to none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// The most sockets that are looked after.
pub(super) const MAX_SOCKETS: usize = 1024;
/// The most entries of the directory that are looked at.
const MAX_ENTRIES: usize = 16 * 1024;

/// Changes of the directory within this time are one.
const JOINED: Duration = Duration::from_millis(20);
/// The least time between two looks at the directory.
const APART: Duration = Duration::from_millis(250);

/// What tells a socket from another that was at its path before, and from itself before its
/// owner or mode were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Mark {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Its device and inode: the same for all its names.
    const fn place(self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The sockets, and what else is neither a file nor a directory, each with its mark.
    pub(super) sockets: BTreeMap<PathBuf, Mark>,
    /// Whether there was more to look at than is looked at.
    pub(super) cut: bool,
}

/// The path of what lies at `path`, or will, with no symbolic links among its directories, as
/// far as these exist. What `path` itself is, is not looked at.
pub(super) fn resolved(path: &Path) -> PathBuf {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return path.to_owned();
    };
    for above in directory.ancestors() {
        if let (Ok(real), Ok(below)) = (above.canonicalize(), directory.strip_prefix(above)) {
            return real.join(below).join(name).components().collect();
        }
    }
    path.components().collect()
}

/// Looks for sockets in `directory`; one that does not exist has none. Those of `listed` that
/// exist are found too.
///
/// # Errors
/// It could not be read.
pub(super) fn scan(directory: &Path, listed: &[PathBuf]) -> io::Result<Found> {
    let mut found = Found::default();
    for path in listed {
        if let Ok(metadata) = path.symlink_metadata() {
            found.note(path.clone(), &metadata);
        }
    }
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
        found.note(entry.path(), &metadata);
    }
    Ok(found)
}

impl Found {
    /// What no program leaves there by itself, such as a link or a fifo, is looked after too:
    /// so it is refused by name, where an operator sees that.
    fn note(&mut self, path: PathBuf, metadata: &Metadata) {
        if !metadata.is_file() && !metadata.is_dir() {
            self.sockets.insert(path, Mark::of(metadata));
        }
    }
}

/// When to look at the directory that rang `now`, and was looked at before.
pub(super) fn when(now: Instant, looked: Option<Instant>) -> Instant {
    let soon = now + JOINED;
    looked.map_or(soon, |looked| soon.max(looked + APART))
}

/// Which sockets to look after: those that are already, then those of the list, then those of
/// the directory by name, up to [`MAX_SOCKETS`]; and how many are left out. Of a socket with
/// several names the first is chosen.
pub(super) fn choose(
    before: &BTreeSet<PathBuf>,
    listed: &[PathBuf],
    found: &Found,
) -> (BTreeSet<PathBuf>, usize) {
    let mut chosen = before.clone();
    let mut left_out = BTreeSet::new();
    let place = |path: &PathBuf| found.sockets.get(path).map(|mark| mark.place());
    let mut taken: BTreeSet<_> = before.iter().filter_map(place).collect();
    for path in listed.iter().chain(found.sockets.keys()) {
        let named = place(path).is_some_and(|place| !taken.insert(place));
        if named && !chosen.contains(path) {
            continue;
        }
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
        let mark = |number| Mark {
            device: 1,
            inode: number as u64,
            changed: (0, 0),
        };
        Found {
            sockets: numbers.map(|number| (path(number), mark(number))).collect(),
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
        let before = scan(directory.path(), &[]).unwrap();
        assert_eq!(before.sockets.keys().collect::<Vec<_>>(), [&at]);
        std::fs::remove_file(&at).unwrap();
        let _second = UnixListener::bind(&at).unwrap();
        assert_ne!(scan(directory.path(), &[]).unwrap(), before);
    }

    #[test]
    fn what_may_stand_in_a_sockets_place_is_looked_after_and_files_and_directories_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("below")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let found = scan(directory.path(), &[]).unwrap();
        let found: Vec<_> = found.sockets.into_keys().collect();
        assert_eq!(found, [at("fifo"), at("link")]);
    }

    #[test]
    fn a_directory_that_is_not_there_has_none() {
        let none = scan(Path::new("/nonexistent/qmp"), &[]).unwrap();
        assert_eq!(none, Found::default());
        scan(Path::new("/proc/self/stat"), &[]).expect_err("not a directory");
    }

    #[test]
    fn a_socket_of_many_names_is_looked_after_once() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let qmp = root.join("qmp");
        std::fs::create_dir(&qmp).unwrap();
        std::os::unix::fs::symlink(&qmp, root.join("link")).unwrap();
        let _listener = UnixListener::bind(qmp.join("b")).unwrap();
        std::fs::hard_link(qmp.join("b"), qmp.join("a")).unwrap();
        let spelled = [root.join("link/b"), qmp.join(".//b"), root.join("link/b")];
        for listed in [&spelled[..], &spelled[..1], &spelled[1..]] {
            let found = scan(&qmp, listed).unwrap();
            let (chosen, left_out) = choose(&BTreeSet::new(), listed, &found);
            assert_eq!(chosen.len(), 1, "{chosen:?}");
            assert_eq!(left_out, 0);
            // Who is looked after already is not changed for another name.
            let before = BTreeSet::from([qmp.join("b")]);
            assert_eq!(choose(&before, listed, &found).0, before);
        }
    }

    #[test]
    fn directories_are_resolved_as_far_as_they_exist() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        std::os::unix::fs::symlink("real", root.join("real/a")).unwrap();
        for (spelled, expected) in [
            ("link/a", "real/a"),
            ("link//./a", "real/a"),
            ("link/b/c/d", "real/b/c/d"),
            ("real/../link/a", "real/a"),
        ] {
            let path = resolved(&root.join(spelled));
            assert_eq!(path.as_os_str(), root.join(expected).as_os_str());
        }
        assert_eq!(resolved(Path::new("/")), Path::new("/"));
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

    #[test]
    fn a_directory_that_rings_all_the_time_is_looked_at_now_and_then() {
        let start = Instant::now();
        assert_eq!(when(start, None), start + JOINED);
        let (mut looked, mut looks) = (None, 0);
        let mut now = start;
        while now < start + Duration::from_secs(10) {
            // It rings a millisecond after each look.
            now = when(now + Duration::from_millis(1), looked);
            looked = Some(now);
            looks += 1;
        }
        assert!(looks <= 42, "{looks}");
        let long = start + Duration::from_secs(100);
        assert_eq!(when(long, looked), long + JOINED);
    }
}
