//! Stdout and stderr while attached, written on a thread of its own, in order.
//!
//! A terminal or pipe that takes nothing stops this thread alone, so that leaving always
//! works. Refuses to change output: bytes go out as they came. Refuses to wait: what does
//! not fit its bounded queue is told to the caller.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::{mpsc, watch};
use vmconsole_proto::v1::Position;

use super::window::{Dealt, MAX_UNACKED_MESSAGES};
use crate::output::PREFIX;

/// How many messages for the user wait at most; more are dropped, and the drop is told.
const MAX_NOTICES: usize = 64;

/// All output that the agent may send unacknowledged, as much of streams that broke, and the
/// notices.
const QUEUE: usize = 2 * MAX_UNACKED_MESSAGES as usize + MAX_NOTICES;

/// Where things are written.
pub(super) struct Sinks {
    /// For output.
    pub(super) stdout: OwnedFd,
    /// For messages.
    pub(super) stderr: OwnedFd,
    /// Whether lines on stderr need a carriage return: it is a terminal that is raw.
    pub(super) raw: bool,
}

/// How far writing has got.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Behind the last byte of output that was written.
    pub(super) position: Position,
    /// Output that was written.
    pub(super) dealt: Dealt,
    /// Why stdout takes no more, if so.
    pub(super) failed: Option<io::ErrorKind>,
}

enum Item {
    Output(Bytes, Position),
    Notice(String),
}

/// The handle on the thread.
pub(super) struct Screen {
    items: Option<mpsc::Sender<Item>>,
    progress: watch::Receiver<Progress>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Notices that wait.
    notices: AtomicUsize,
    /// Notices that were dropped.
    dropped: AtomicUsize,
    /// Output that waits is not to be written any more.
    discard: AtomicBool,
}

/// The queue is full: the agent sent more than its window.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QueueFull;

impl Screen {
    /// Starts the thread.
    ///
    /// # Errors
    /// As it cannot be made.
    pub(super) fn start(sinks: Sinks) -> io::Result<Self> {
        let (items, queue) = mpsc::channel(QUEUE);
        let (report, progress) = watch::channel(Progress::default());
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            sinks,
            report,
            shared: Arc::clone(&shared),
            at_line_start: true,
        };
        std::thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(move || writer.run(queue))?;
        Ok(Self {
            items: Some(items),
            progress,
            shared,
        })
    }

    /// Writes output; `position` is behind its last byte.
    ///
    /// # Errors
    /// [`QueueFull`] if more waits than the window allows.
    pub(super) fn output(&self, bytes: Bytes, position: Position) -> Result<(), QueueFull> {
        let items = self.items.as_ref().ok_or(QueueFull)?;
        items
            .try_send(Item::Output(bytes, position))
            .map_err(|_| QueueFull)
    }

    /// Tells the user something, in its place among the output.
    pub(super) fn notice(&self, text: String) {
        let waiting = self.shared.notices.fetch_add(1, Ordering::Relaxed);
        let sent = waiting < MAX_NOTICES
            && self
                .items
                .as_ref()
                .is_some_and(|items| items.try_send(Item::Notice(text)).is_ok());
        if !sent {
            self.shared.notices.fetch_sub(1, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes nothing more: the thread ends when all is written.
    pub(super) fn finish(&mut self) {
        self.items = None;
    }

    /// Output that still waits is dropped; notices are not.
    pub(super) fn discard_output(&self) {
        self.shared.discard.store(true, Ordering::Relaxed);
    }

    /// Waits for progress; `None` when the thread has ended.
    ///
    /// # Cancel safety
    /// Progress that was not seen is returned by the next call.
    pub(super) async fn progress(&mut self) -> Option<Progress> {
        self.progress.changed().await.ok()?;
        Some(self.progress.borrow_and_update().clone())
    }
}

struct Writer {
    sinks: Sinks,
    report: watch::Sender<Progress>,
    shared: Arc<Shared>,
    at_line_start: bool,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Item>) {
        let mut progress = Progress::default();
        while let Some(item) = queue.blocking_recv() {
            match item {
                Item::Output(bytes, position) => {
                    self.output(&bytes, position, &mut progress);
                    self.report.send_replace(progress.clone());
                }
                Item::Notice(text) => {
                    self.shared.notices.fetch_sub(1, Ordering::Relaxed);
                    self.notice(&text);
                }
            }
            let dropped = self.shared.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                self.notice(&format!(
                    "{dropped} messages were not shown: stderr or stdout was too slow"
                ));
            }
        }
    }

    fn output(&mut self, bytes: &Bytes, position: Position, progress: &mut Progress) {
        if progress.failed.is_some() || self.shared.discard.load(Ordering::Relaxed) {
            return;
        }
        match write_all(&self.sinks.stdout, bytes) {
            Ok(()) => {
                progress.position = position;
                progress.dealt.bytes += bytes.len() as u64;
                progress.dealt.messages += 1;
                self.at_line_start = bytes.last() == Some(&b'\n');
            }
            Err(error) => progress.failed = Some(error.kind()),
        }
    }

    fn notice(&mut self, text: &str) {
        let line = if self.sinks.raw {
            let start = if self.at_line_start { "\r" } else { "\r\n" };
            format!("{start}{PREFIX}{}\r\n", text.replace('\n', "\r\n"))
        } else {
            format!("{PREFIX}{text}\n")
        };
        self.at_line_start = true;
        // A stderr that takes nothing leaves nobody to tell.
        let _ = write_all(&self.sinks.stderr, line.as_bytes());
    }
}

/// Writes all bytes, also where somebody else made the file non-blocking.
fn write_all(sink: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(sink, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(sink.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut fds, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
