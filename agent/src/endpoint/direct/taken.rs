//! Waits until QEMU took a connection, and leaves its queue if it does not.
//!
//! QEMU serves one client of a console's socket. A second one connects all the same, into the listener's
//! queue, and hears nothing until the first has left. So a connection counts only once QEMU
//! accepted it.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::time::{Instant, sleep};

use crate::endpoint::EndpointError;

/// How long QEMU may take. Its main loop is in milliseconds where it runs at all.
const ACCEPT_WITHIN: Duration = Duration::from_secs(1);

/// The first and the longest pause between looks.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// When it is worth asking who else is connected, though nobody was before.
const ASK_WHO: Duration = Duration::from_millis(40);

/// How many clients QEMU serves at a time on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clients {
    /// One: a chardev.
    One,
    /// Any number: a display.
    Many,
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken<T> {
    /// It was accepted; this names QEMU's end.
    By(T),
    /// The kernel does not tell.
    Unknown,
}

/// Waits until `socket` was accepted: until `theirs` names the other end. `held` says who else
/// is connected, if anybody is.
///
/// # Errors
/// [`EndpointError::HeldByOther`] if somebody else is; [`EndpointError::NotReady`] if QEMU
/// closed the connection, or does not take it in time.
///
/// # Cancel safety
/// Nothing is changed by it.
pub(super) async fn taken<T>(
    socket: impl AsFd,
    name: &str,
    theirs: impl Fn() -> io::Result<Option<T>>,
    held: impl Fn() -> Option<String>,
) -> Result<Taken<T>, EndpointError> {
    let begun = Instant::now();
    let (mut pause, mut asked) = (FIRST_PAUSE, false);
    loop {
        match theirs() {
            Ok(Some(theirs)) => return Ok(Taken::By(theirs)),
            Ok(None) => {}
            // Where there is no other end, there is no connection.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(closed_it(name)),
            Err(error) => {
                tracing::debug!(%error, name, "the kernel does not tell who is connected");
                return Ok(Taken::Unknown);
            }
        }
        if closed(&socket) {
            return Err(closed_it(name));
        }
        let late = begun.elapsed() >= ACCEPT_WITHIN;
        if late || (!asked && begun.elapsed() >= ASK_WHO) {
            asked = true;
            if let Some(who) = held() {
                return Err(EndpointError::HeldByOther(format!("{name}: {who}")));
            }
        }
        if late {
            return Err(EndpointError::NotReady(format!(
                "{name}: QEMU does not take the connection, and nobody else has it; is it stopped?"
            )));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whoever accepted the connection did not want it.
pub(super) fn closed_it(name: &str) -> EndpointError {
    EndpointError::NotReady(format!("{name}: QEMU closed the connection at once"))
}

/// Whether the other end is gone.
fn closed(socket: impl AsFd) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    match recv(socket.as_fd().as_raw_fd(), &mut [0], flags) {
        Ok(count) => count == 0,
        Err(errno) => !matches!(errno, Errno::EAGAIN | Errno::EINTR),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn a_connection_without_another_end_was_closed() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let gone = || Err::<Option<u32>, _>(io::ErrorKind::NotFound.into());
        let error = taken(&ours, "x", gone, || None).await.unwrap_err();
        assert!(
            matches!(&error, EndpointError::NotReady(it) if it.contains("closed")),
            "{error:?}"
        );
        let unknown = || Err::<Option<u32>, _>(io::ErrorKind::PermissionDenied.into());
        let found = taken(&ours, "x", unknown, || None).await;
        assert_eq!(found.unwrap(), Taken::Unknown);
    }
}
