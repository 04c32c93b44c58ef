//! Connects to unix sockets on which QEMU listens, at paths that are not trusted. It connects
//! to nobody but allowed users, and stays in no queue.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, UnixCredentials, connect, getsockopt, socket,
};
use nix::sys::stat::fstat;
use parking_lot::Mutex;

use super::DirectRules;
use super::counters::Counters;
use super::diag::{LISTEN, UnixSocket, unix_by_inode, unix_connections};
use super::path::{self, Found, Wanted};
use super::taken::{Clients, Taken, taken};
use crate::endpoint::EndpointError;

/// How long what was found out about all sockets of the host is used for the next console: when
/// an agent starts, hundreds are attached at once.
const RECENT: Duration = Duration::from_millis(100);

/// The host's sockets, as they were a moment ago.
#[derive(Debug, Default)]
pub(super) struct RecentSockets {
    last: Mutex<Option<(Instant, Arc<[UnixSocket]>)>>,
}

impl RecentSockets {
    fn get(&self) -> io::Result<Arc<[UnixSocket]>> {
        let mut last = self.last.lock();
        if let Some((when, sockets)) = &*last
            && when.elapsed() < RECENT
        {
            return Ok(sockets.clone());
        }
        let sockets: Arc<[UnixSocket]> = unix_connections()?.into();
        *last = Some((Instant::now(), sockets.clone()));
        Ok(sockets)
    }
}

/// Connects to the socket at `path`, on which `clients` are served, and tells QEMU's end of it by its inode, if the kernel
/// tells.
///
/// # Errors
/// [`EndpointError`].
///
/// # Cancel safety
/// If dropped, nothing stays connected.
pub(super) async fn open(
    rules: &DirectRules,
    path: &Path,
    recent: &RecentSockets,
    unverified: &AtomicU64,
    clients: Clients,
) -> Result<(OwnedFd, Option<u32>), EndpointError> {
    let found = path::find(rules, path, Wanted::Socket)?;
    match recent.get() {
        Ok(sockets) => before(rules, &found, &sockets, clients)?,
        Err(error) => tracing::debug!(%error, "the kernel does not tell who is connected"),
    }
    let (socket, peer) = connected(&found).map_err(|errno| failed(&found, errno))?;
    if !rules.admits(peer.uid()) {
        return Err(wrong_listener(&found, peer.uid()));
    }
    let name = path.display().to_string();
    let theirs = || their_end(&socket);
    let held = || match clients {
        Clients::One => other_client(&found),
        Clients::Many => None,
    };
    let taken = taken(&socket, &name, theirs, held).await?;
    Ok(match taken {
        Taken::By(theirs) => (socket, Some(theirs)),
        Taken::Unknown => {
            Counters::bump(unverified);
            (socket, None)
        }
    })
}

/// The inode of the socket by which somebody else is connected to what `path` leads to, now.
pub(super) fn other_connection(rules: &DirectRules, path: &Path) -> Option<u32> {
    let found = path::find(rules, path, Wanted::Socket).ok()?;
    client_of(&found, &unix_connections().ok()?)
}

/// Refuses what need not be connected to in order to know that it is refused.
fn before(
    rules: &DirectRules,
    found: &Found,
    sockets: &[UnixSocket],
    clients: Clients,
) -> Result<(), EndpointError> {
    let here = |socket: &&UnixSocket| socket.is_at(found.identity(), found.path());
    let listens = sockets.iter().filter(here).find(|it| it.state == LISTEN);
    if let Some(user) = listens.and_then(|listener| listener.user)
        && !rules.admits(user)
    {
        return Err(wrong_listener(found, user));
    }
    // Asked once more: a moment ago it may have been us.
    if clients == Clients::One
        && client_of(found, sockets).is_some()
        && let Some(who) = other_client(found)
    {
        let detail = format!("{}: {who}", found.path().display());
        return Err(EndpointError::HeldByOther(detail));
    }
    Ok(())
}

/// The client's end of a connection that was accepted at `found`.
fn client_of(found: &Found, sockets: &[UnixSocket]) -> Option<u32> {
    let mut here = sockets
        .iter()
        .filter(|socket| socket.is_at(found.identity(), found.path()));
    here.find_map(|socket| socket.peer)
}

/// Who else is connected at `found`, in words.
fn other_client(found: &Found) -> Option<String> {
    let client = client_of(found, &unix_connections().ok()?)?;
    let user = unix_by_inode(client).ok().and_then(|socket| socket.user);
    let of_user = user.map(|user| format!(" of user {user}"));
    Some(format!(
        "another client{} is connected, and QEMU serves one",
        of_user.unwrap_or_default()
    ))
}

fn their_end(socket: &OwnedFd) -> io::Result<Option<u32>> {
    let inode = fstat(socket)?.st_ino;
    let inode = u32::try_from(inode).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(unix_by_inode(inode)?.peer)
}

/// Connects to a socket that was found, whatever is at its path by now, and tells who listens
/// there: nothing is to be said or read before that user is known to be trusted.
///
/// # Errors
/// The system's; [`Errno::EAGAIN`] where the listener's queue is full.
pub(crate) fn connected(found: &Found) -> Result<(OwnedFd, UnixCredentials), Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let made = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let address = UnixAddr::new(&found.lasting_path())?;
    connect(made.as_raw_fd(), &address)?;
    let peer = getsockopt(&made, PeerCredentials)?;
    Ok((made, peer))
}

fn wrong_listener(found: &Found, user: u32) -> EndpointError {
    EndpointError::Denied(format!(
        "{}: user {user} listens there; add that user to endpoints.owners, if it runs this VM",
        found.path().display()
    ))
}

fn failed(found: &Found, errno: Errno) -> EndpointError {
    let path = found.path().display();
    match errno {
        Errno::ECONNREFUSED | Errno::ENOENT => {
            EndpointError::NotReady(format!("{path}: nobody listens there"))
        }
        Errno::EAGAIN => EndpointError::NotReady(format!(
            "{path}: QEMU takes no connection and its queue is full; is it stopped?"
        )),
        Errno::EACCES | Errno::EPERM => found.not_permitted(),
        Errno::EPROTOTYPE => EndpointError::Unsupported(format!("{path}: not a stream socket")),
        errno => EndpointError::Unreachable(format!("{path}: {}", errno.desc())),
    }
}
