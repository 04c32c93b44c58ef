//! The direction from the client: takes each message at once, and never waits.
//!
//! A client that breaks the rules of the stream ends it, and nothing else.

use std::sync::Arc;

use super::Line;
use super::timers::{self, Timers};
use crate::console::Console;
use crate::core::deadlines::Due;
use crate::core::id::SessionId;
use crate::core::lease::Epoch;
use crate::core::position::Position;
use crate::core::reason::Reason;

/// The most bytes in one input message.
pub const MAX_INPUT: usize = 64 * 1024;

/// Where a client's messages go.
#[derive(Debug)]
pub struct Inbound {
    session: SessionId,
    console: Arc<Console>,
    line: Arc<Line>,
    timers: Arc<Timers>,
}

impl Inbound {
    pub(super) const fn new(
        session: SessionId,
        console: Arc<Console>,
        line: Arc<Line>,
        timers: Arc<Timers>,
    ) -> Self {
        Self {
            session,
            console,
            line,
            timers,
        }
    }

    /// A message came, whatever it is. `active`: it shows that somebody is at work, and not
    /// only that the client is alive.
    pub fn heard(&self, active: bool) {
        self.timers.heard(active);
    }

    /// Ends the session when its time is over, and has it warned before; waits for ever if
    /// its time is not limited. Here and not where the client is written to, so that one that
    /// does not read loses its lease in time too.
    ///
    /// # Cancel safety
    /// Nothing is lost: to be called again.
    pub async fn expired(&self) {
        loop {
            match self.timers.due().await {
                Due::Warning => self.line.news.notify_one(),
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
        if let Err(error) = self.console.input(self.session, offset, epoch, bytes) {
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

    /// To be answered with the same number. The newest wins.
    pub fn ping(&self, nonce: u64) {
        self.line.mailbox.lock().pong = Some(nonce);
        self.line.news.notify_one();
    }

    /// A request for the lease, or to give it back, that is answered with a refusal.
    pub fn refuse_writer(&self, reason: Reason) {
        self.line.mailbox.lock().writer_refused = Some(reason);
        self.line.news.notify_one();
    }

    /// Ends the session, unless it is ending already. Its lease is free at once: a client
    /// that does not read its end does not keep others from writing.
    pub fn close(&self, reason: Reason, detail: &str) {
        self.line.close(reason, detail);
        self.console.release(self.session, reason);
    }

    /// Whether the session is ending, or over: what still comes is not looked at.
    pub fn is_closed(&self) -> bool {
        self.line.mailbox.lock().closed
    }
}
