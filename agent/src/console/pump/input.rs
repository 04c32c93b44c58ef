//! Writes what the writer types to an attachment, and watches whether it gets anywhere.
//!
//! Who may write, and what becomes of what was not written, is the console's to say.

use std::time::{Instant, SystemTime};

use crate::clock::{at, now};
use crate::console::live::Console;
use crate::core::id::SessionId;
use crate::core::progress::Progress;
use crate::endpoint::{Abandoned, Attachment, EndpointError};

/// The most bytes of input that are handed to an endpoint at once.
const MAX_WRITE: usize = 4096;

/// Who typed what is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Typist {
    /// A session.
    Session(SessionId),
    /// Whoever asked for a break: it is its character.
    Break,
}

/// What became of a break's character that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Character {
    Taken,
    /// It may yet be taken.
    UnderWay,
    NotTaken,
}

/// The way of input to one attachment. Dropped, it settles what was being written: what may
/// or may not have been is refused, and the rest waits.
pub(super) struct InputLine<'a> {
    pub(super) console: &'a Console,
    pub(super) attachment: &'a mut dyn Attachment,
    watch: Watch<'a>,
    /// Whose bytes were handed to the attachment and are not accounted for.
    typist: Option<Typist>,
    /// When the endpoint last took anything.
    pub(super) last_taken: Option<Instant>,
}

/// What ended a wait for the attachment.
enum Waited {
    /// It answered.
    Answered(Result<usize, EndpointError>),
    /// Another session writes now, or none.
    WriterChanged,
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
            typist: None,
            last_taken: None,
        }
    }

    /// Waits for input and writes the beginning of it, once all is known of what was being
    /// written before.
    ///
    /// # Errors
    /// The attachment is broken.
    ///
    /// # Cancel safety
    /// What was being written is accounted for by the next call of any method, or by the drop.
    pub(super) async fn write_next(&mut self) -> Result<(), EndpointError> {
        self.abandon();
        if self.typist.is_some() {
            return self.settle().await;
        }
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
        self.typist = Some(Typist::Session(session));
        match self.watch.wait(self.attachment.write(bytes)).await {
            // What a former writer typed is not written once the lease has changed.
            Waited::WriterChanged => {
                self.abandon();
            }
            Waited::Answered(written) => self.account(written?, 0),
        }
        Ok(())
    }

    /// Writes a break's character, whoever the writer is, after what is under way.
    ///
    /// # Errors
    /// The attachment is broken.
    ///
    /// # Cancel safety
    /// [`InputLine::abandon_character`] tells what became of it.
    pub(super) async fn write_character(&mut self, character: u8) -> Result<(), EndpointError> {
        self.settle_all().await?;
        self.typist = Some(Typist::Break);
        let written = self.attachment.write(&[character]).await?;
        self.account(written, 0);
        Ok(())
    }

    /// Takes a break's character back, if that can be.
    pub(super) fn abandon_character(&mut self) -> Character {
        let begun = self.typist == Some(Typist::Break);
        match self.abandon() {
            0 if begun && self.typist.is_some() => Character::UnderWay,
            taken if begun && taken > 0 => Character::Taken,
            _ => Character::NotTaken,
        }
    }

    /// Waits until what is under way was taken, or will not be. Ends early when the writer
    /// changes.
    async fn settle(&mut self) -> Result<(), EndpointError> {
        match self.watch.wait(self.attachment.settle()).await {
            Waited::WriterChanged => {
                self.abandon();
            }
            Waited::Answered(taken) => self.account(taken?, 0),
        }
        Ok(())
    }

    /// Waits until nothing is under way any more.
    ///
    /// # Errors
    /// The attachment is broken.
    ///
    /// # Cancel safety
    /// As [`InputLine::write_next`].
    pub(super) async fn settle_all(&mut self) -> Result<(), EndpointError> {
        self.abandon();
        while self.typist.is_some() {
            self.settle().await?;
        }
        Ok(())
    }

    /// Takes back what can be of a write that was given up, and tells how much of it was taken.
    pub(super) fn abandon(&mut self) -> usize {
        if self.typist.is_none() {
            return 0;
        }
        let Abandoned { taken, under_way } = self.attachment.abandon();
        self.account(taken, under_way);
        taken
    }

    fn account(&mut self, written: usize, under_way: usize) {
        match self.typist {
            Some(Typist::Session(session)) => {
                self.console.settle_write(session, written, under_way);
            }
            Some(Typist::Break) if written > 0 => self.console.character_written(written),
            Some(Typist::Break) | None => {}
        }
        if under_way == 0 {
            self.typist = None;
        }
        if written > 0 {
            self.taken(written);
        }
    }

    /// The endpoint took so many bytes.
    fn taken(&mut self, bytes: usize) {
        let now = now();
        self.last_taken = Some(now);
        self.watch.progress.taken(bytes, now);
        // While more waits nobody else looks.
        if self.watch.progress.look_at().is_some_and(|due| due <= now) {
            self.look();
        } else {
            self.watch.tell();
        }
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
    /// Waits for the attachment to answer, and tells meanwhile if it is overdue.
    async fn wait(
        &mut self,
        mut answer: impl Future<Output = Result<usize, EndpointError>> + Unpin,
    ) -> Waited {
        self.progress.waits(now());
        // It may have been due while a break was sent, when nobody looked.
        self.tell();
        loop {
            tokio::select! {
                biased; // what a former writer typed is not written once the lease has changed
                () = self.console.writer_changed.notified() => return Waited::WriterChanged,
                answer = &mut answer => return Waited::Answered(answer),
                () = at(self.progress.overdue_at(now())) => self.tell(),
            }
        }
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

impl Drop for InputLine<'_> {
    fn drop(&mut self) {
        self.abandon();
        if let Some(Typist::Session(session)) = self.typist {
            self.console.lose_write(session);
        }
    }
}
