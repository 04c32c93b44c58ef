//! Writes what the writer types to an attachment, and watches whether it gets anywhere.
//!
//! Who may write, and what becomes of what was not written, is the console's to say.

use std::time::{Instant, SystemTime};

use crate::console::live::Console;
use crate::console::shared::{at, now};
use crate::core::id::SessionId;
use crate::core::progress::Progress;
use crate::endpoint::{Attachment, EndpointError};

/// The most bytes of input that are handed to an endpoint at once.
const MAX_WRITE: usize = 4096;

/// The way of input to one attachment.
pub(super) struct InputLine<'a> {
    pub(super) console: &'a Console,
    pub(super) attachment: &'a mut dyn Attachment,
    watch: Watch<'a>,
    /// When the endpoint last took anything.
    pub(super) last_taken: Option<Instant>,
}

impl<'a> InputLine<'a> {
    pub(super) fn new(console: &'a Console, attachment: &'a mut dyn Attachment) -> Self {
        let watch = Watch {
            console,
            progress: Progress::default(),
            told: None,
        };
        Self {
            console,
            attachment,
            watch,
            last_taken: None,
        }
    }

    /// Waits for input and writes the beginning of it.
    ///
    /// # Errors
    /// The attachment is broken. What was in flight was refused.
    ///
    /// # Cancel safety
    /// What was being written and was not taken waits again.
    pub(super) async fn write_next(&mut self) -> Result<(), EndpointError> {
        match self.console.begin_write(MAX_WRITE) {
            Some((session, bytes)) => self.write(session, &bytes).await,
            None => {
                self.watch.nothing_waits();
                self.wait_for_input().await;
                Ok(())
            }
        }
    }

    async fn wait_for_input(&mut self) {
        tokio::select! {
            () = self.console.input_ready.notified() => {}
            () = self.console.writer_changed.notified() => {}
            () = at(self.watch.progress.look_at()) => self.look(),
        }
    }

    async fn write(&mut self, session: SessionId, bytes: &[u8]) -> Result<(), EndpointError> {
        let console = self.console;
        let in_flight = InFlight { console, session };
        self.watch.waits();
        // It may have been due while a break was sent, when nobody looked.
        self.watch.tell();
        let written = {
            let mut write = self.attachment.write(bytes);
            loop {
                tokio::select! {
                    biased; // what a former writer typed is not written once the lease has changed
                    () = console.writer_changed.notified() => return Ok(()),
                    written = &mut write => break written,
                    () = at(self.watch.progress.overdue_at(now())) => self.watch.tell(),
                }
            }
        };
        match written {
            Ok(written) => {
                in_flight.settle(written, false);
                self.taken(written);
                Ok(())
            }
            Err(error) => {
                in_flight.settle(0, true);
                Err(error)
            }
        }
    }

    /// The endpoint took so many bytes.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.last_taken = Some(now());
        self.watch.progress.taken(bytes);
        self.look();
    }

    /// Sees how much of what the endpoint took is unread, where that can be seen.
    fn look(&mut self) {
        let unread = self.attachment.unread().unwrap_or(0);
        self.watch.progress.unread(unread, now());
        self.watch.tell();
    }
}

/// Tells the console whether its input makes progress.
struct Watch<'a> {
    console: &'a Console,
    progress: Progress,
    told: Option<Instant>,
}

impl Watch<'_> {
    fn waits(&mut self) {
        self.progress.waits(now());
    }

    fn nothing_waits(&mut self) {
        self.progress.nothing_waits();
        self.tell();
    }

    fn tell(&mut self) {
        let now = now();
        let wedged = self.progress.wedged(now);
        if wedged != self.told {
            self.told = wedged;
            let ago = |since| SystemTime::now() - now.saturating_duration_since(since);
            self.console.set_wedged(wedged.map(ago));
        }
    }
}

/// Puts back what was being written, unless it was settled.
struct InFlight<'a> {
    console: &'a Console,
    session: SessionId,
}

impl InFlight<'_> {
    fn settle(self, written: usize, lost: bool) {
        self.console.settle_write(self.session, written, lost);
        std::mem::forget(self);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.console.settle_write(self.session, 0, false);
    }
}
