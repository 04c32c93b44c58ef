//! Rings whenever the directory of QMP sockets may have changed, comes to be, or goes. It reads
//! nothing: whoever is rung looks for himself. So no event can be missed or misread, and a
//! queue that overflowed is a bell like any other.
//!
//! The directory above is watched too: that the directory was removed is told of it only once
//! nobody has it open any more. While it does not exist, the nearest directory above it that
//! does is watched. Not seen is what happens to a directory further above.
//!
//! inotify is used as `nix` has it: a bell needs one descriptor and three calls, and none of
//! what the larger crates add (threads, recursion, other systems). tokio waits for it as it
//! waits for a pipe, since its own way to wait for any descriptor is unsafe code.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::net::unix::pipe;

/// How much of what the kernel tells is read at once. One event has at most 272 bytes.
const READ_BYTES: usize = 4096;
/// How often a directory that came and went meanwhile is looked for again at once.
const MAX_STEPS: usize = 64;

/// What happens in, or to, the watched directory that may matter.
const WATCHED: AddWatchFlags = AddWatchFlags::IN_ATTRIB
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// What is being watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// The directory itself.
    Directory,
    /// A directory above it: it does not exist.
    Above,
}

/// A watched directory.
#[derive(Debug)]
pub(super) struct DirectoryWatch {
    directory: PathBuf,
    watches: Inotify,
    /// The same descriptor, to wait for.
    bell: pipe::Receiver,
    current: Vec<WatchDescriptor>,
}

impl DirectoryWatch {
    /// Will watch `directory`; see [`DirectoryWatch::settle`].
    ///
    /// # Errors
    /// The kernel has no more room for watches.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let watches = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let bell = File::from(watches.as_fd().try_clone_to_owned()?);
        Ok(Self {
            directory: directory.to_owned(),
            watches,
            bell: pipe::Receiver::from_file_unchecked(bell)?,
            current: Vec::new(),
        })
    }

    /// Watches what is to be watched now: to be called at first, and each time it rang, before
    /// looking.
    ///
    /// # Errors
    /// Neither the directory nor one above it can be watched.
    pub(super) fn settle(&mut self) -> io::Result<Watched> {
        for _ in 0..MAX_STEPS {
            // First what is above, so that it tells if the directory is another one meanwhile.
            let above = self.watch_above();
            match self.watches.add_watch(&self.directory, WATCHED) {
                Ok(watch) => {
                    // What is above may be closed to the agent, or have come this moment.
                    let whole = above.as_ref().map_or(true, |it| it.0 == self.directory);
                    let above = above.ok().map(|(_, above)| above);
                    self.replace(above.into_iter().chain([watch]).collect());
                    if whole {
                        return Ok(Watched::Directory);
                    }
                    continue;
                }
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
            let (next, above) = above?;
            self.replace(vec![above]);
            // It may have come before what is above was watched.
            if !next.try_exists()? {
                return Ok(Watched::Above);
            }
        }
        Err(io::Error::other("it comes and goes"))
    }

    /// Watches the nearest directory above that exists; tells which is the next one on the way.
    fn watch_above(&self) -> io::Result<(PathBuf, WatchDescriptor)> {
        let mut next = self.directory.as_path();
        while let Some(above) = next.parent() {
            match self.watches.add_watch(above, WATCHED) {
                Ok(watch) => return Ok((next.to_owned(), watch)),
                Err(Errno::ENOENT) => next = above,
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::ENOENT.into())
    }

    fn replace(&mut self, watches: Vec<WatchDescriptor>) {
        for before in std::mem::replace(&mut self.current, watches) {
            if !self.current.contains(&before) {
                // One whose directory is gone is removed already.
                let _ = self.watches.rm_watch(before);
            }
        }
    }

    /// Waits until something happened since the last time.
    ///
    /// # Errors
    /// The kernel does not tell any more.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn rung(&self) -> io::Result<()> {
        let mut rang = false;
        while !rang {
            self.bell.readable().await?;
            loop {
                match self.bell.try_read(&mut [0; READ_BYTES]) {
                    Ok(_) => rang = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn rings(watch: &DirectoryWatch) {
        let rung = tokio::time::timeout(Duration::from_secs(5), watch.rung());
        rung.await.expect("in time").expect("watches");
    }

    #[tokio::test]
    async fn a_directory_is_waited_for_through_all_that_is_above_it() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/b");
        let mut watch = DirectoryWatch::new(&directory).unwrap();
        assert_eq!(watch.settle().unwrap(), Watched::Above);
        std::fs::create_dir(root.path().join("a")).unwrap();
        rings(&watch).await;
        assert_eq!(watch.settle().unwrap(), Watched::Above);
        std::fs::create_dir(&directory).unwrap();
        rings(&watch).await;
        assert_eq!(watch.settle().unwrap(), Watched::Directory);
        std::fs::write(directory.join("x"), "").unwrap();
        rings(&watch).await;
    }

    #[tokio::test]
    async fn a_directory_that_vanished_and_came_again_is_watched_again() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a");
        std::fs::create_dir(&directory).unwrap();
        let mut watch = DirectoryWatch::new(&directory).unwrap();
        assert_eq!(watch.settle().unwrap(), Watched::Directory);
        for _ in 0..3 {
            std::fs::remove_dir(&directory).unwrap();
            rings(&watch).await;
            assert_eq!(watch.settle().unwrap(), Watched::Above);
            std::fs::create_dir(&directory).unwrap();
            rings(&watch).await;
            assert_eq!(watch.settle().unwrap(), Watched::Directory);
            std::fs::write(directory.join("x"), "").unwrap();
            rings(&watch).await;
            std::fs::remove_file(directory.join("x")).unwrap();
            rings(&watch).await;
        }
    }

    #[tokio::test]
    async fn a_directory_made_anew_is_noticed_while_somebody_has_the_old_one_open() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a");
        std::fs::create_dir(&directory).unwrap();
        let mut watch = DirectoryWatch::new(&directory).unwrap();
        assert_eq!(watch.settle().unwrap(), Watched::Directory);
        let _held = File::open(&directory).unwrap();
        std::fs::remove_dir(&directory).unwrap();
        std::fs::create_dir(&directory).unwrap();
        rings(&watch).await;
        assert_eq!(watch.settle().unwrap(), Watched::Directory);
        std::fs::write(directory.join("x"), "").unwrap();
        rings(&watch).await;
    }

    #[tokio::test]
    async fn a_directory_moved_away_is_no_longer_it() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a");
        std::fs::create_dir(&directory).unwrap();
        let mut watch = DirectoryWatch::new(&directory).unwrap();
        watch.settle().unwrap();
        std::fs::rename(&directory, root.path().join("b")).unwrap();
        rings(&watch).await;
        assert_eq!(watch.settle().unwrap(), Watched::Above);
    }

    #[tokio::test]
    async fn what_is_no_directory_cannot_be_watched() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut watch = DirectoryWatch::new(file.path()).unwrap();
        watch.settle().expect_err("a file");
    }
}
