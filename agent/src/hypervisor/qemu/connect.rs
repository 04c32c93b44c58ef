//! Connects to a QMP socket that may have been put there by anybody, as to a console's: no
//! symbolic link is followed at its place, what is there must be a socket of an allowed owner,
//! and so must the process behind it be. It speaks no QMP.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::stat::FileStat;
use nix::unistd::geteuid;
use tokio::net::UnixStream;

use super::identity::{self, Run};
use super::process::Process;
use crate::endpoint::direct::{Unfit, Wanted, connected, find_below};
use crate::hypervisor::Instance;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// The process that listens, if it can be seen from here: QEMU, or who made its socket.
    pub(super) process: Option<Process>,
    /// Its run's number.
    pub(super) instance: Instance,
    /// Its socket's device and inode.
    pub(super) place: (u64, u64),
}

impl Peer {
    /// What is wrong if another socket than this one's lies at `path` by now.
    pub(super) fn displaced(&self, path: &Path) -> Option<Arc<str>> {
        let there = path.symlink_metadata().ok()?;
        if !there.file_type().is_socket() || (there.dev(), there.ino()) == self.place {
            return None;
        }
        let process = self.process.map(|it| format!(" (process {})", it.id));
        let before = format!("the QEMU{}", process.unwrap_or_default());
        let why = format!(
            "another socket lies there by now, while {before} whose was there before still \
             answers: it is served once that one has ended"
        );
        Some(why.into())
    }
}

/// A socket that was connected to.
#[derive(Debug)]
pub(super) struct Connected {
    /// The connection.
    pub(super) stream: UnixStream,
    /// Who is at the other end.
    pub(super) peer: Peer,
    /// Where the socket lies, by a path without symbolic links, `.` or `..`.
    pub(super) path: PathBuf,
}

/// Why a socket was not connected to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// Nothing is at the path.
    #[error("no socket is there")]
    Absent,
    /// Nobody listens.
    #[error("nobody listens on it")]
    Refused,
    /// Others wait for the listener already.
    #[error(
        "others wait for the monitor already, or QEMU hangs: give the agent a QMP socket of its own"
    )]
    Busy,
    /// The agent may not.
    #[error(
        "the agent's user may not connect to it: grant it write permission to the socket, and \
         search permission to its directory"
    )]
    Denied,
    /// A symbolic link.
    #[error("it is a symbolic link, and none is followed: put the socket itself there")]
    Link,
    /// No socket, but this.
    #[error("it is not a socket but {0}: see who put it there; it was not opened")]
    NotASocket(String),
    /// Of a user who is not trusted.
    #[error("it belongs to user {0}: add that user to endpoints.owners, if QEMU runs as it")]
    Owner(u32),
    /// Of a process of a user who is not trusted.
    #[error("user {0} listens on it: add that user to endpoints.owners, if QEMU runs as it")]
    Listener(u32),
    /// Anything else.
    #[error("it could not be connected to")]
    Io(#[from] io::Error),
}

impl From<Errno> for ConnectError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => Self::Absent,
            Errno::ECONNREFUSED => Self::Refused,
            Errno::EAGAIN => Self::Busy,
            Errno::EACCES | Errno::EPERM => Self::Denied,
            errno => Self::Io(errno.into()),
        }
    }
}

impl From<Unfit> for ConnectError {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Absent | Unfit::NotADirectory => Self::Absent,
            Unfit::Link => Self::Link,
            Unfit::Type(facts) => Self::NotASocket(facts),
            Unfit::Owner { user, .. } => Self::Owner(user),
            Unfit::Denied(_) => Self::Denied,
            Unfit::Outside => Errno::EXDEV.into(),
            Unfit::NoSafeWalk => Errno::ENOSYS.into(),
            Unfit::System(errno) => errno.into(),
        }
    }
}

/// Connects to the socket at `path`, if it and its listener belong to one of `owners` or to
/// the agent's own user.
///
/// # Errors
/// See [`ConnectError`]; then nothing is left open, and nothing but a socket was touched.
///
/// # Cancel safety
/// If dropped, nothing is left open.
pub(super) async fn connect(path: &Path, owners: &[u32]) -> Result<Connected, ConnectError> {
    let own = geteuid().as_raw();
    connect_trusting(path, |user| user == own || owners.contains(&user)).await
}

async fn connect_trusting(
    path: &Path,
    trusted: impl Fn(u32) -> bool,
) -> Result<Connected, ConnectError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ConnectError::Absent);
    };
    let found = find_below(directory, Path::new(name), Wanted::Socket, &trusted)?;
    let (socket, peer) = connected(&found)?;
    if !trusted(peer.uid()) {
        return Err(ConnectError::Listener(peer.uid()));
    }
    let stream = UnixStream::from_std(socket.into())?;
    let id = u32::try_from(peer.pid()).ok();
    let process = id.filter(|id| *id != 0).and_then(Process::of);
    // Of what was connected to; its name may be gone by now.
    let real = std::fs::read_link(found.lasting_path())?;
    Ok(Connected {
        stream,
        peer: seen(process, found.stat()),
        path: real.with_file_name(name),
    })
}

/// Who is at the other end of the socket of these facts.
fn seen(process: Option<Process>, stat: &FileStat) -> Peer {
    let made = stat
        .st_mtime
        .wrapping_mul(1_000_000_000)
        .wrapping_add(stat.st_mtime_nsec);
    let place = (stat.st_dev, stat.st_ino);
    let instance = identity::of_run(Run {
        process: process.map(|process| (process.id, process.started)),
        place,
        made: made.cast_unsigned(),
    });
    Peer {
        process,
        instance,
        place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[tokio::test]
    async fn only_sockets_are_touched_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        symlink(at("socket"), at("link")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(at("file"), "").unwrap();
        for name in ["link", "fifo", "file", "."] {
            let refused = connect(&at(name), &[]).await;
            assert!(
                matches!(
                    refused,
                    Err(ConnectError::Link | ConnectError::NotASocket(_))
                ),
                "{name}: {refused:?}"
            );
        }
        let connected = connect(&at("socket"), &[]).await.unwrap();
        assert_eq!(connected.peer.process, Process::of(std::process::id()));
    }

    #[tokio::test]
    async fn one_socket_has_one_path_and_two_of_one_process_are_two_runs() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        symlink("real", root.join("link")).unwrap();
        let at = |name: &str| root.join("real").join(name);
        let bind = |name: &str| std::os::unix::net::UnixListener::bind(at(name)).unwrap();
        let _listeners = (bind("a"), bind("b"));
        let a = connect(&at("a"), &[]).await.unwrap();
        assert_eq!(a.path, at("a"));
        for other in ["link/a", "link/.//../real/a"] {
            let other = connect(&root.join(other), &[]).await.unwrap();
            assert_eq!(other.path.as_os_str(), at("a").as_os_str());
            assert_eq!(other.peer, a.peer);
        }
        let b = connect(&at("b"), &[]).await.unwrap();
        assert_eq!(b.peer.process, a.peer.process);
        assert_ne!(b.peer.instance, a.peer.instance);

        // To let somebody else at it makes no other run of it, nor does another name.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(at("a"), mode).unwrap();
        std::fs::rename(at("a"), at("c")).unwrap();
        let c = connect(&at("c"), &[]).await.unwrap();
        assert_eq!(c.peer, a.peer);
    }

    #[tokio::test]
    async fn absent_and_dead_sockets_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let absent = connect(&path, &[]).await;
        assert!(matches!(absent, Err(ConnectError::Absent)), "{absent:?}");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let dead = connect(&path, &[]).await;
        assert!(matches!(dead, Err(ConnectError::Refused)), "{dead:?}");
    }

    #[tokio::test]
    async fn neither_a_socket_nor_a_listener_of_somebody_else_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let own = geteuid().as_raw();
        let refused = connect_trusting(&path, |_| false).await;
        assert!(
            matches!(refused, Err(ConnectError::Owner(user)) if user == own),
            "{refused:?}"
        );
        let untouched = listener.accept().map(|_| ()).map_err(|error| error.kind());
        assert_eq!(untouched, Err(io::ErrorKind::WouldBlock));

        let asked = std::cell::Cell::new(0);
        let first_only = |_| asked.replace(asked.get() + 1) == 0;
        let refused = connect_trusting(&path, first_only).await;
        assert!(
            matches!(refused, Err(ConnectError::Listener(user)) if user == own),
            "{refused:?}"
        );
    }
}
