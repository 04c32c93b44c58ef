//! The calls that need unsafe code: having the runtime watch a descriptor, which trusts its
//! owner to keep it open, and asking how much of what was sent still waits.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::timerfd::TimerFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer of the kernel's, which the runtime can watch.
pub(super) struct Timer(TimerFd);

impl Timer {
    pub(super) const fn timer(&self) -> &TimerFd {
        &self.0
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Has the runtime watch a descriptor. Within a runtime only.
///
/// # Errors
/// The system's; the descriptor is closed then.
pub(super) fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is an open descriptor, the same one until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// Has the runtime watch a timer. Within a runtime only.
///
/// # Errors
/// The system's.
pub(super) fn watch_timer(timer: TimerFd) -> io::Result<AsyncFd<Timer>> {
    // SAFETY: a `TimerFd` owns one open descriptor until it is dropped, and nothing replaces
    // the one in a `Timer`, which gives out shared references alone.
    Ok(unsafe { AsyncFd::register_with_interest(Timer(timer), Interest::READABLE) }?)
}

/// `SIOCOUTQ`, which Linux numbers as `TIOCOUTQ` (`include/uapi/linux/sockios.h`).
mod raw {
    nix::ioctl_read_bad!(
        /// Asks for the length of a socket's send queue.
        send_queue,
        nix::libc::TIOCOUTQ,
        nix::libc::c_int
    );
}

/// What was sent through this socket and not taken from it yet: bytes of a TCP socket; of a
/// unix socket the kernel's memory for them, which is more. `None` if the kernel does not say.
pub(super) fn send_queue(socket: impl AsFd) -> Option<usize> {
    let mut length = 0;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel writes one int to the
    // address of one.
    unsafe { raw::send_queue(socket.as_fd().as_raw_fd(), &raw mut length) }.ok()?;
    usize::try_from(length).ok()
}
