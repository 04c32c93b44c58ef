//! A unix socket in the file system: for its owner alone, and gone at the end.
//!
//! Whoever may connect has the console. Refuses a directory where others can put a socket in
//! its place, to take the place of a socket that somebody listens on, and to be that one's client.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::libc::EPROTOTYPE;
use nix::unistd::geteuid;
use tokio::net::{UnixListener, UnixSocket};

/// The mode of the socket.
const MODE: u32 = 0o600;

/// The right of the group and of others to write.
const OTHERS_WRITE: u32 = 0o022;

/// How many clients wait to be accepted.
const BACKLOG: u32 = 64;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// The path names no file in a directory.
    #[error("{} is no path of a socket: name a file in a directory that exists", .0.display())]
    Path(PathBuf),
    /// The directory.
    #[error("cannot look at directory {}", directory.display())]
    Directory {
        /// Which.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may replace what is in the directory.
    #[error(
        "its group or others may write to directory {}, and whoever connects has the console: \
         take one that is yours or root's alone, such as $XDG_RUNTIME_DIR",
        .0.display()
    )]
    OthersWrite(PathBuf),
    /// Two at once.
    #[error("another program makes a socket in {} at this moment: try again", .0.display())]
    Busy(PathBuf),
    /// Something else is there.
    #[error("{} is there and is no socket: remove it, or take another path", .0.display())]
    NotASocket(PathBuf),
    /// Another program serves it.
    #[error("another program listens on {}: end it, or take another path", .0.display())]
    InUse(PathBuf),
    /// Any step.
    #[error("cannot make the socket {}", path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A socket's file, removed when dropped if it is still the same.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let same = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if same {
            // One that cannot be removed is found to be stale by whoever comes next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the socket and listens on it. One that is there and that nobody listens on is
/// replaced.
///
/// # Errors
/// [`SocketError`], with everything as it was; a stale socket may have been removed.
///
/// # Panics
/// Outside a tokio runtime.
pub(super) fn listen(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    let (directory, path) = place(path)?;
    // Two that find the same stale socket would remove each other's.
    let lock = lock(&directory)?;
    make_room(&path)?;
    let failed = |source| SocketError::Make {
        path: path.clone(),
        source,
    };
    let socket = UnixSocket::new_stream().map_err(failed)?;
    socket.bind(&path).map_err(failed)?;
    let made = fs::symlink_metadata(&path).map_err(failed)?;
    let file = SocketFile {
        path: path.clone(),
        identity: (made.dev(), made.ino()),
    };
    // Nobody can connect before it listens.
    fs::set_permissions(&path, Permissions::from_mode(MODE)).map_err(failed)?;
    let listener = socket.listen(BACKLOG).map_err(failed)?;
    drop(lock);
    Ok((listener, file))
}

/// The directory, without symbolic links, and the path in it.
fn place(path: &Path) -> Result<(PathBuf, PathBuf), SocketError> {
    let name = path.file_name();
    let name = name.ok_or_else(|| SocketError::Path(path.to_owned()))?;
    let named = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |source| SocketError::Directory {
        directory: named.to_owned(),
        source,
    };
    let directory = fs::canonicalize(named).map_err(failed)?;
    let found = fs::metadata(&directory).map_err(failed)?;
    let trusted = [0, geteuid().as_raw()].contains(&found.uid());
    if !trusted || found.mode() & OTHERS_WRITE != 0 {
        return Err(SocketError::OthersWrite(directory));
    }
    let path = directory.join(name);
    Ok((directory, path))
}

/// The directory, for this program alone as far as others of its kind are concerned.
fn lock(directory: &Path) -> Result<File, SocketError> {
    let failed = |source| SocketError::Directory {
        directory: directory.to_owned(),
        source,
    };
    let lock = File::open(directory).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(SocketError::Busy(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Removes a socket that nobody listens on.
fn make_room(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Make {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    // A stream would be a client, and served; a datagram socket is told whether there is one of
    // another type, and never gets through to it (unix(7)).
    let probe = UnixDatagram::unbound().map_err(failed)?;
    match probe.connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.raw_os_error() != Some(EPROTOTYPE) => Err(failed(error)),
        Ok(()) | Err(_) => Err(SocketError::InUse(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener as StdListener;

    use super::*;

    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        directory
    }

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_goes_with_its_listener() {
        let directory = directory();
        let path = directory.path().join("vnc");
        let (_listener, file) = listen(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o7777, MODE);
        assert_eq!(file.path(), fs::canonicalize(&path).unwrap());
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_one_in_use_is_not() {
        let directory = directory();
        let path = directory.path().join("vnc");
        drop(StdListener::bind(&path).unwrap());
        let (listener, file) = listen(&path).unwrap();
        let second = listen(&path).unwrap_err();
        assert!(matches!(second, SocketError::InUse(_)), "{second}");
        // Nobody was its client meanwhile.
        let listener = listener.into_std().unwrap();
        let nobody = listener.accept().unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
        drop((listener, file));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_datagram_socket_in_use_is_left_alone() {
        let directory = directory();
        let path = directory.path().join("vnc");
        let _there = UnixDatagram::bind(&path).unwrap();
        let refused = listen(&path).unwrap_err();
        assert!(matches!(refused, SocketError::InUse(_)), "{refused}");
    }

    #[tokio::test]
    async fn what_took_its_place_is_not_removed() {
        let directory = directory();
        let path = directory.path().join("vnc");
        let (_listener, file) = listen(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"another's");
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let directory = directory();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "kept").unwrap();
        symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            let refused = listen(path).unwrap_err();
            assert!(matches!(refused, SocketError::NotASocket(_)), "{refused}");
        }
        assert_eq!(fs::read(&file).unwrap(), b"kept");
    }

    #[tokio::test]
    async fn a_directory_that_others_write_to_is_refused() {
        let directory = directory();
        let path = directory.path().join("vnc");
        for mode in [0o1777, 0o702, 0o720] {
            fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
            let refused = listen(&path).unwrap_err();
            assert!(matches!(refused, SocketError::OthersWrite(_)), "{refused}");
        }
        let nowhere = listen(Path::new("/")).unwrap_err();
        assert!(matches!(nowhere, SocketError::Path(_)), "{nowhere}");
        let missing = listen(&directory.path().join("no/vnc")).unwrap_err();
        assert!(
            matches!(missing, SocketError::Directory { .. }),
            "{missing}"
        );
    }
}
