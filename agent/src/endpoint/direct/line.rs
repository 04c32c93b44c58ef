//! An attached console's descriptor: read by one task, written by whoever has the attachment,
//! closed by either. It never waits with its lock held, and knows nothing of what goes over it.
//!
//! ```text
//!            attached         nothing to read: wait for it
//!   (open) ───────────▶ Loose ─────────────────────────────▶ Watched
//!                        │ ▲                                    │
//!                        │ └────────── a rest begins ───────────┘
//!                        └──── let go, or ended ────▶ Closed ◀──┘
//! ```
//! While it rests the descriptor is not watched at all: else each piece that QEMU writes would
//! wake the runtime, whether or not anybody waits for it.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::ffi;

enum State {
    Loose(OwnedFd),
    Watched(AsyncFd<OwnedFd>),
    Closed,
}

/// A console's descriptor, which must not block.
pub(super) struct Line {
    state: Mutex<State>,
    /// Whether a read that is not full has read all that there was. One of a terminal gives a
    /// piece, and one of a TCP connection stops before urgent data. On a unix socket only
    /// descriptors and urgent data end one early: QEMU sends neither, and who does so holds up
    /// its own console alone.
    reads_all: bool,
    /// Input was written since the last read of any bytes.
    answer_due: AtomicBool,
    written: Notify,
}

impl Line {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self {
            state: Mutex::new(State::Loose(descriptor)),
            reads_all: false,
            answer_due: AtomicBool::new(false),
            written: Notify::new(),
        }
    }

    /// A unix stream socket: the read that would find nothing is saved.
    pub(super) fn unix(descriptor: OwnedFd) -> Self {
        Self {
            reads_all: true,
            ..Self::new(descriptor)
        }
    }

    /// Reads what there is, waiting for it. For one task only. Never ready once closed.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        nothing_came: impl FnOnce(),
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state.lock();
        if let State::Loose(descriptor) = &*state {
            match read(descriptor, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    nothing_came();
                    watch(&mut state)?;
                }
                done => return Poll::Ready(done),
            }
        }
        let State::Watched(watched) = &*state else {
            return Poll::Pending;
        };
        loop {
            let mut ready = ready!(watched.poll_read_ready(cx))?;
            match ready.try_io(|watched| read(watched.get_ref(), buffer)) {
                Ok(done) => {
                    // What comes later is told anew (epoll(7), edge-triggered, question 9); that
                    // the other side has closed is not forgotten by this.
                    if self.reads_all && matches!(done, Ok(count) if count < buffer.len()) {
                        ready.clear_ready();
                    }
                    return Poll::Ready(done);
                }
                Err(_would_block) => {}
            }
        }
    }

    /// Has nobody woken by what comes.
    pub(super) fn unwatch(&self) {
        let mut state = self.state.lock();
        *state = match std::mem::replace(&mut *state, State::Closed) {
            State::Watched(watched) => State::Loose(watched.into_inner()),
            other => other,
        };
    }

    /// Whether input was written since this was asked last.
    pub(super) fn take_answer_due(&self) -> bool {
        self.answer_due.swap(false, Ordering::AcqRel)
    }

    /// Waits for the next input; counted from when this is called, not from when it is awaited.
    pub(super) fn written(&self) -> Notified<'_> {
        self.written.notified()
    }

    /// Writes what is taken at once.
    ///
    /// # Errors
    /// The system's; `WouldBlock` if nothing is taken, `NotConnected` once it is closed.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.with(|descriptor| write(descriptor, bytes))?;
        self.answer_due.store(true, Ordering::Release);
        self.written.notify_waiters();
        Ok(taken)
    }

    /// Waits until something may be taken.
    ///
    /// # Errors
    /// The system's; `NotConnected` once it is closed.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub(super) async fn writable(&self) -> io::Result<()> {
        // A descriptor of its own: the other one may be unwatched and watched meanwhile.
        let twin = self.with(|descriptor| descriptor.try_clone())?;
        let twin = ffi::watch(twin, Interest::WRITABLE)?;
        twin.writable().await?.retain_ready();
        Ok(())
    }

    /// What was sent and not taken yet, as [`ffi::send_queue`] counts it.
    pub(super) fn send_queue(&self) -> Option<usize> {
        self.with(|descriptor| Ok(ffi::send_queue(descriptor)))
            .ok()
            .flatten()
    }

    /// Closes the descriptor, now.
    pub(super) fn close(&self) {
        let closed = std::mem::replace(&mut *self.state.lock(), State::Closed);
        drop(closed);
    }

    fn with<T>(&self, work: impl FnOnce(&OwnedFd) -> io::Result<T>) -> io::Result<T> {
        match &*self.state.lock() {
            State::Loose(descriptor) => work(descriptor),
            State::Watched(watched) => work(watched.get_ref()),
            State::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

fn watch(state: &mut State) -> io::Result<()> {
    if let State::Loose(descriptor) = std::mem::replace(state, State::Closed) {
        *state = State::Watched(ffi::watch(descriptor, Interest::READABLE)?);
    }
    Ok(())
}

fn read(descriptor: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match nix::unistd::read(descriptor.as_fd(), buffer) {
            Err(Errno::EINTR) => {}
            done => return Ok(done?),
        }
    }
}

fn write(descriptor: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match nix::unistd::write(descriptor.as_fd(), bytes) {
            Err(Errno::EINTR) => {}
            done => return Ok(done?),
        }
    }
}
