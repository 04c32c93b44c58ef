//! The direction from the client: takes each message at once, and never waits.
//!
//! A client that breaks the rules of the stream ends it, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Line;
use super::last_heard::LastHeard;
use super::ledger::Ledger;
use super::timers;
use crate::console::{Console, WriterAnswer};
use crate::core::deadlines::Due;
use crate::core::id::StreamId;
use crate::core::lease::{Claim, Epoch};
use crate::core::position::Position;
use crate::core::reason::Reason;

/// The most bytes in one input message.
pub const MAX_INPUT: usize = 64 * 1024;

/// Where a client's messages go.
#[derive(Debug)]
pub struct Inbound {
    stream: StreamId,
    console: Arc<Console>,
    line: Arc<Line>,
    ledger: Arc<Ledger>,
    /// Whether the client said anything since its first message.
    answered: AtomicBool,
    /// The client's own signs of life, if it promised a heartbeat.
    heartbeat: Option<LastHeard>,
}

impl Inbound {
    pub(super) const fn new(
        stream: StreamId,
        console: Arc<Console>,
        line: Arc<Line>,
        ledger: Arc<Ledger>,
        heartbeat: Option<LastHeard>,
    ) -> Self {
        Self {
            stream,
            console,
            line,
            ledger,
            answered: AtomicBool::new(false),
            heartbeat,
        }
    }

    /// The console.
    pub const fn console(&self) -> &Arc<Console> {
        &self.console
    }

    /// The client said something after its first message: it was told its new resume token.
    pub fn answered(&self) {
        if !self.answered.swap(true, Ordering::Relaxed) {
            self.ledger.heard(self.stream);
        }
    }

    /// A message came, whatever it is. `active`: it shows that somebody is at work, and not
    /// only that the client is alive.
    pub fn heard(&self, active: bool) {
        self.line.timers.heard(active);
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.note();
        }
    }

    /// Waits until the stream is ending, whoever ends it. For one task only.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn over(&self) {
        while !self.is_closed() {
            self.line.over.notified().await;
        }
    }

    /// Ends the session when its time is over, and has it warned before; waits for ever if
    /// its time is not limited. Here and not where the client is written to, so that one that
    /// does not read loses its lease in time too.
    ///
    /// # Cancel safety
    /// Nothing is lost: to be called again.
    pub async fn expired(&self) {
        loop {
            match self.line.timers.due().await {
                Due::Warning => self.line.news.notify_one(),
                Due::End(Reason::TransportLost, length) => {
                    return self.lost(&timers::detail(Reason::TransportLost, length));
                }
                Due::End(reason, length) => {
                    return self.close(reason, &timers::detail(reason, length));
                }
            }
        }
    }

    /// Bytes for the guest.
    pub fn input(&self, offset: u64, epoch: Epoch, bytes: &[u8]) {
        if bytes.len() > MAX_INPUT {
            let detail = format!("input of {} bytes: send {MAX_INPUT} at most", bytes.len());
            return self.close(Reason::BadRequest, &detail);
        }
        if let Err(error) = self.console.input(self.stream, offset, epoch, bytes) {
            self.close(Reason::BadRequest, &error.to_string());
        }
    }

    /// The next byte of output that the client expects.
    pub fn acknowledge(&self, position: Position) {
        let acknowledged = self.line.mailbox.lock().window.acknowledge(position);
        match acknowledged {
            Ok(()) => self.line.news.notify_one(),
            Err(error) => self.close(Reason::BadRequest, &error.to_string()),
        }
    }

    /// The client has closed its side, and can acknowledge nothing more.
    pub(super) fn lift_window(&self) {
        self.line.mailbox.lock().window.lift();
    }

    /// The next byte that the client expects of what is relayed to it.
    pub(super) fn acknowledge_relayed(&self, offset: u64) {
        let generation = self.line.mailbox.lock().window.generation();
        self.acknowledge(Position { generation, offset });
    }

    /// To be answered with the same number. The newest wins.
    pub fn ping(&self, nonce: u64) {
        self.line.mailbox.lock().pong = Some(nonce);
        self.line.news.notify_one();
    }

    /// Asks for the lease.
    pub fn request_writer(&self, claim: Claim, takeover_reason: &str) {
        let answer = self
            .console
            .request_writer(self.stream, claim, takeover_reason);
        self.answer(answer);
    }

    /// Gives the lease, or the place in its queue, back.
    pub fn release_writer(&self) {
        if !self.console.release(self.stream, Reason::ClientDetached) {
            self.answer(WriterAnswer::Already);
        }
    }

    fn answer(&self, answer: WriterAnswer) {
        self.line.mailbox.lock().writer_answer = Some(answer);
        self.line.news.notify_one();
    }

    /// Ends the session, unless it is ending already. Its lease is free at once: a client
    /// that does not read its end does not keep others from writing.
    pub fn close(&self, reason: Reason, detail: &str) {
        let first = self.line.close(reason, detail);
        self.console.release(self.stream, reason);
        if first {
            // A client that does not read its end holds nothing by that.
            self.console.unwant(self.stream);
            self.ledger.end(self.stream, reason);
        }
    }

    /// The client's stream broke, as far as it sends: the session may be taken up again, if it is
    /// of those that may.
    pub fn lost(&self, detail: &str) {
        if !self.line.returns {
            return self.close(Reason::TransportLost, detail);
        }
        self.line.close(Reason::TransportLost, detail);
    }

    /// Whether the session is ending, or over: what still comes is not looked at.
    pub fn is_closed(&self) -> bool {
        self.line.mailbox.lock().closed
    }
}
