//! The direction to the display: the caller's handshake is answered here and goes no further;
//! what follows waits in a queue of fixed size, goes through the rules, and is written as fast
//! as the display takes it. Messages of the caller never wait for the display.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{RELAY_WINDOW, Wire};
use crate::console::Shown;
use crate::core::id::StreamId;
use crate::core::reason::Reason;
use crate::core::rfb::caller::{Caller, GREETING, Step};
use crate::core::rfb::display::ServerInit;
use crate::core::rfb::filter::{ClientFilter, Violation};
use crate::core::rfb::rules::Rules;
use crate::graphics::{RelayMetrics, WriteHalf};
use crate::session::{Inbound, MAX_INPUT};

/// The most bytes of a caller that are looked at, and written, at once: what is on its way when
/// the lease is lost.
const PIECE: usize = 4096;

/// Messages below so many bytes are put together while they wait.
const SHORT: usize = 1024;

/// How long a display may take to take its last words.
const HANGS_UP_WITHIN: Duration = Duration::from_secs(1);

/// How long a caller may take for its handshake.
const GREETS_WITHIN: Duration = Duration::from_secs(10);

/// The direction to the display. Dropping it hangs up.
pub struct Pipe {
    inbound: Arc<Inbound>,
    wire: Arc<Wire>,
    stream: StreamId,
    writer: WriteHalf,
    /// The caller's handshake, with what comes after it, until it is done.
    handshake: Option<(Caller, Bytes)>,
    greets_until: Instant,
    filter: ClientFilter,
    taken_over: CancellationToken,
    /// The display shows as attached as long as this is there.
    _shown: Shown,
    /// Bytes that came.
    came: u64,
    queue: VecDeque<Bytes>,
    /// What comes after that, of short messages.
    tail: BytesMut,
    /// What is being written.
    under_way: VecDeque<Bytes>,
    /// How many of the caller's bytes it stands for.
    stands_for: u64,
    /// Whenever it changes who writes, and at other times.
    news: watch::Receiver<()>,
    /// The caller has nothing more to say.
    ended: bool,
    /// Nothing more can be written.
    shut: bool,
    metrics: RelayMetrics,
}

impl Pipe {
    pub(super) fn new(
        (inbound, wire, stream): (Arc<Inbound>, Arc<Wire>, StreamId),
        (writer, init): (WriteHalf, ServerInit),
        rules: Rules,
        (taken_over, shown): (CancellationToken, Shown),
        metrics: RelayMetrics,
    ) -> Self {
        let news = inbound.console().news();
        let hello = Bytes::from_static(GREETING);
        wire.state.lock().greeting.push_back(hello);
        Self {
            inbound,
            wire,
            stream,
            writer,
            handshake: Some((Caller::new(), init.raw)),
            greets_until: Instant::now() + GREETS_WITHIN,
            filter: ClientFilter::new(rules),
            taken_over,
            _shown: shown,
            came: 0,
            queue: VecDeque::new(),
            tail: BytesMut::new(),
            under_way: VecDeque::new(),
            stands_for: 0,
            news,
            ended: false,
            shut: false,
            metrics,
        }
    }

    /// Bytes of the caller. Does not wait.
    pub fn take(&mut self, offset: u64, bytes: Bytes) {
        let done = self.wire.state.lock().done;
        let wrong = if offset != self.came {
            format!("data at {offset} came, where {} was due", self.came)
        } else if bytes.is_empty() || bytes.len() > MAX_INPUT {
            format!("data of {} bytes came: send 1 to {MAX_INPUT}", bytes.len())
        } else if self.came + bytes.len() as u64 - done > RELAY_WINDOW {
            format!("data came beyond the window of {RELAY_WINDOW} bytes")
        } else {
            self.came += bytes.len() as u64;
            return self.push(bytes);
        };
        self.inbound.close(Reason::BadRequest, &wrong);
    }

    fn push(&mut self, bytes: Bytes) {
        let rest = match &mut self.handshake {
            None => bytes,
            Some(_) => match self.greet(bytes) {
                Some(rest) => rest,
                None => return,
            },
        };
        if rest.len() < SHORT {
            // Each message of its own would cost more than its bytes.
            return self.tail.extend_from_slice(&rest);
        }
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
        self.queue.push_back(rest);
    }

    /// Takes the handshake further. What follows it, once it is done.
    fn greet(&mut self, mut bytes: Bytes) -> Option<Bytes> {
        let (caller, init) = self.handshake.as_mut()?;
        let (mut left, mut reply) = (bytes.as_ref(), Vec::new());
        let step = caller.take(&mut left, &mut reply);
        let used = bytes.len() - left.len();
        bytes.advance(used);
        let mut state = self.wire.state.lock();
        state.done += used as u64;
        if !reply.is_empty() {
            state.greeting.push_back(reply.into());
        }
        let done = matches!(step, Ok(Step::Done { .. }));
        if done {
            state.greeting.push_back(std::mem::take(init));
            state.greeted = true;
        }
        drop(state);
        self.wire.news.notify_one();
        if let Err(error) = step {
            self.metrics.caller_failed();
            self.inbound.close(Reason::BadRequest, &error.to_string());
        }
        done.then(|| {
            self.handshake = None;
            bytes
        })
    }

    /// The next byte that the caller expects.
    pub fn acknowledge(&self, offset: u64) {
        self.inbound.acknowledge_relayed(offset);
        self.wire.news.notify_one();
    }

    /// The caller has nothing more to say: neither bytes nor how far it has read.
    pub fn end(&mut self) {
        self.ended = true;
        self.inbound.lift_window();
        self.wire.news.notify_one();
    }

    /// Writes what waits for the display, and ends the relay if its caller does not greet in
    /// time, breaks a rule or is taken over. Never returns.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn work(&mut self) {
        let taken_over = self.taken_over.clone();
        let (greets_until, greets) = (self.greets_until, self.handshake.is_some());
        let inbound = self.inbound.clone();
        tokio::select! {
            biased; // who is taken over types nothing more
            () = taken_over.cancelled() => {
                inbound.close(Reason::TakenOver, "another session has the display for itself");
            }
            () = tokio::time::sleep_until(greets_until), if greets => {
                self.metrics.caller_failed();
                let detail = format!(
                    "the client said too little of RFB's handshake in {} s",
                    GREETS_WITHIN.as_secs()
                );
                inbound.close(Reason::BadRequest, &detail);
            }
            () = self.carry() => {}
        }
        std::future::pending().await
    }

    /// Writes what waits, and takes note of who may type, until nothing more can be written.
    async fn carry(&mut self) {
        while !self.shut {
            let mut news = self.news.clone();
            tokio::select! {
                biased; // who lost the lease types nothing more
                // Its sender is in the console.
                _ = news.changed() => {
                    self.news.mark_unchanged();
                    self.note_lease();
                }
                () = self.write() => {}
            }
        }
    }

    /// Lets go, in the guest, of what a session holds down that lost the lease.
    fn note_lease(&mut self) {
        if self.inbound.console().is_written_by(self.stream) != Some(false) {
            // It has the lease, or its display goes, which is told otherwise.
            return;
        }
        let mut out = Vec::new();
        let noted = self.filter.set_lease(false, &mut out);
        self.under_way.extend(out);
        if let Err(violation) = noted {
            self.violated(violation);
        }
    }

    /// Writes all that there is. Waits for ever then: more comes by [`Pipe::take`].
    async fn write(&mut self) {
        while !self.shut {
            if let Some(bytes) = self.under_way.front_mut() {
                match self.writer.write(bytes).await {
                    Ok(written) if written > 0 => {
                        bytes.advance(written);
                        if !bytes.has_remaining() {
                            self.under_way.pop_front();
                        }
                        self.metrics.to_display(written as u64);
                    }
                    Ok(_) | Err(_) => self.display_gone(),
                }
            } else if self.stands_for > 0 {
                if self.writer.flush().await.is_err() {
                    return self.display_gone();
                }
                let mut state = self.wire.state.lock();
                state.done += std::mem::take(&mut self.stands_for);
                let ack_due = state.ack_due();
                drop(state);
                if ack_due {
                    self.wire.news.notify_one();
                }
            } else if !self.queue.is_empty() || !self.tail.is_empty() {
                self.look();
            } else if self.ended && self.handshake.is_none() {
                self.wire.state.lock().hung_up = true;
                // If it cannot be told, it has ended.
                let _ = self.writer.shutdown().await;
                self.shut = true;
            } else {
                std::future::pending().await
            }
        }
    }

    /// The display takes nothing more: its end is told, even to a caller that has no room for the
    /// rest of the picture.
    fn display_gone(&mut self) {
        self.shut = true;
        self.wire.state.lock().display_gone = true;
        self.wire.news.notify_one();
    }

    /// Puts the next piece of what the caller sent through the rules.
    fn look(&mut self) {
        if self.queue.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
        let Some(first) = self.queue.front_mut() else {
            return;
        };
        let piece = first.split_to(first.len().min(PIECE));
        if first.is_empty() {
            self.queue.pop_front();
        }
        self.stands_for = piece.len() as u64;
        let console = self.inbound.console();
        let mut out = Vec::new();
        let writes = console.is_written_by(self.stream) == Some(true);
        let filtered = self.filter.filter(piece, writes, &mut out);
        self.under_way.extend(out);
        match filtered {
            Ok(dropped) => {
                if self.filter.take_typed() {
                    console.typed();
                    self.inbound.heard(true);
                }
                self.metrics.dropped(&dropped);
            }
            Err(violation) => self.violated(violation),
        }
    }

    /// The relay ends, and nothing more is written.
    fn violated(&mut self, violation: Violation) {
        self.shut = true;
        let reason = match violation {
            Violation::LeaseLost(_) if self.inbound.console().has_writer() => Reason::TakenOver,
            Violation::LeaseLost(_) => Reason::RuleViolated,
            _ => {
                self.metrics.violated();
                Reason::RuleViolated
            }
        };
        self.inbound.close(reason, &violation.to_string());
    }

    /// Hangs up, and before lets go, in the guest, of what the session holds down: the display
    /// shows nobody anything any more, even if the caller reads nothing.
    pub async fn hang_up(mut self) {
        let mut out = Vec::new();
        self.filter.end(&mut out);
        self.under_way.extend(out);
        let last = async {
            for bytes in &self.under_way {
                self.writer.write_all(bytes).await?;
            }
            self.writer.shutdown().await
        };
        // If it cannot be told, it has ended.
        let _ = tokio::time::timeout(HANGS_UP_WITHIN, last).await;
    }
}
