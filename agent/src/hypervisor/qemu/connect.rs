//! Connects to a QMP socket that may have been put there by anybody: no symbolic link is
//! followed at its place, what is there must be a socket of an allowed owner, and so must the
//! process behind it be. What was checked is what is connected to, whatever lies at the path
//! by then. It speaks no QMP.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::geteuid;
use tokio::net::UnixStream;

use super::identity;
use super::process::Process;
use crate::hypervisor::Instance;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// The process that listens, if it can be seen from here.
    pub(super) process: Option<Process>,
    /// Its run's number.
    pub(super) instance: Instance,
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
    /// No socket.
    #[error("it is not a socket: QMP sockets are not reached through symbolic links")]
    NotASocket,
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
            Errno::ELOOP => Self::NotASocket,
            errno => Self::Io(errno.into()),
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
pub(super) async fn connect(
    path: &Path,
    owners: &[u32],
) -> Result<(UnixStream, Peer), ConnectError> {
    let own = geteuid().as_raw();
    connect_trusting(path, |user| user == own || owners.contains(&user)).await
}

async fn connect_trusting(
    path: &Path,
    trusted: impl Fn(u32) -> bool,
) -> Result<(UnixStream, Peer), ConnectError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ConnectError::Absent);
    };
    let place_only = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let directory = open(directory, place_only | OFlag::O_DIRECTORY, Mode::empty())?;
    let place = openat(
        &directory,
        name,
        place_only | OFlag::O_NOFOLLOW,
        Mode::empty(),
    )?;
    let stat = fstat(&place)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
        return Err(ConnectError::NotASocket);
    }
    if !trusted(stat.st_uid) {
        return Err(ConnectError::Owner(stat.st_uid));
    }
    let lasting = format!("/proc/self/fd/{}", place.as_raw_fd());
    let stream = UnixStream::connect(lasting).await.map_err(from_io)?;
    let credentials = stream.peer_cred()?;
    if !trusted(credentials.uid()) {
        return Err(ConnectError::Listener(credentials.uid()));
    }
    let id = credentials.pid().and_then(|id| u32::try_from(id).ok());
    let process = id.filter(|id| *id != 0).and_then(Process::of);
    let instance = process.map_or_else(
        || of_socket(&stat),
        |process| identity::of_process(process.id, process.started),
    );
    Ok((stream, Peer { process, instance }))
}

fn of_socket(stat: &FileStat) -> Instance {
    let nanoseconds = stat
        .st_ctime
        .wrapping_mul(1_000_000_000)
        .wrapping_add(stat.st_ctime_nsec);
    identity::of_socket(stat.st_ino, nanoseconds.cast_unsigned())
}

fn from_io(error: io::Error) -> ConnectError {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).into(),
        None => error.into(),
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
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        std::fs::write(at("file"), "").unwrap();
        for name in ["link", "fifo", "file", "."] {
            let refused = connect(&at(name), &[]).await;
            assert!(
                matches!(
                    refused,
                    Err(ConnectError::NotASocket | ConnectError::Absent)
                ),
                "{name}: {refused:?}"
            );
        }
        let (_stream, peer) = connect(&at("socket"), &[]).await.unwrap();
        assert_eq!(peer.process, Process::of(std::process::id()));
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
