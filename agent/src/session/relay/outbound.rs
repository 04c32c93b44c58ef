//! The direction to the caller: what the session has to tell, and what the display shows, as fast
//! as the caller takes it. The display is not read faster than that: its QEMU has no more in
//! store for a slow viewer than one picture, and waits for nobody.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use super::{RELAY_WINDOW, Wire};
use crate::clock::at;
use crate::console::MAX_FRAME;
use crate::core::reason::Reason;
use crate::graphics::{ReadHalf, RelayMetrics};
use crate::session::{Event, Session};

/// The least that is read from a display at once; a lively one is read up to a frame at once.
const FIRST_READ: usize = 2048;

/// How long after a display's end the VM's may be heard of.
const STOPS_WITHIN: Duration = Duration::from_secs(2);

/// Something to tell a caller.
#[derive(Clone, Debug)]
pub enum RelayEvent {
    /// Bytes of the display, or of the agent's part of the handshake.
    Data {
        /// Where they begin.
        offset: u64,
        /// 1 to 65536 bytes.
        bytes: Bytes,
    },
    /// All of the caller's bytes below were dealt with, and so many beyond may be sent.
    Ack {
        /// Every byte below was passed on, or kept back by a rule.
        offset: u64,
        /// Bytes beyond it that may be sent.
        window: u64,
    },
    /// What the session tells; never of output or of input.
    Session(Event),
}

/// The direction to the caller. Dropping it ends the session.
pub struct Relay {
    session: Session,
    wire: Arc<Wire>,
    reader: ReadHalf,
    buffer: BytesMut,
    /// How much is read at once.
    reads: usize,
    /// Bytes that were sent.
    sent: u64,
    /// Nothing more comes of the display.
    ended: bool,
    /// When a display that has ended is taken for lost, if its VM is not heard to stop.
    lost_at: Option<Instant>,
    metrics: RelayMetrics,
}

impl Relay {
    pub(super) fn new(
        session: Session,
        wire: Arc<Wire>,
        reader: ReadHalf,
        metrics: RelayMetrics,
    ) -> Self {
        metrics.begun();
        Self {
            session,
            wire,
            reader,
            buffer: BytesMut::new(),
            reads: FIRST_READ,
            sent: 0,
            ended: false,
            lost_at: None,
            metrics,
        }
    }

    /// What to tell next; `None` after [`Event::Closed`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<RelayEvent> {
        loop {
            let room = usize::try_from(self.session.room()).unwrap_or(usize::MAX);
            let room = room.min(MAX_FRAME);
            let (greeting, greeted, ack) = {
                let mut state = self.wire.state.lock();
                let greeting = state.next_greeting(room);
                let greeted = state.greeted && state.greeting.is_empty();
                if state.display_gone && !state.hung_up {
                    self.lost_at
                        .get_or_insert_with(|| Instant::now() + STOPS_WITHIN);
                }
                let ack = greeting.is_none() && state.ack_due();
                if ack {
                    state.told = state.done;
                }
                (greeting, greeted, ack.then_some(state.done))
            };
            if let Some(bytes) = greeting {
                return Some(self.data(bytes));
            }
            if let Some(offset) = ack {
                let window = RELAY_WINDOW;
                return Some(RelayEvent::Ack { offset, window });
            }
            let most = room.min(self.reads);
            let reads = greeted && most > 0 && !self.ended;
            if !reads {
                // A caller that does not read holds no more than it was sent.
                self.buffer = BytesMut::new();
            }
            let lost_at = self.lost_at;
            tokio::select! {
                biased; // an end, and who writes, are told before more of the picture
                event = self.session.next() => match event? {
                    // A display has no output of that sort.
                    Event::Output { .. } | Event::Gap(_) | Event::GenerationStarted(_)
                    | Event::InputAck { .. } | Event::InputRefused(_) => {}
                    event => return Some(RelayEvent::Session(event)),
                },
                () = self.wire.news.notified() => {}
                read = read(&mut self.reader, &mut self.buffer, most), if reads => match read {
                    Some(bytes) => {
                        self.adapt(bytes.len());
                        return Some(self.data(bytes));
                    }
                    None => self.display_ended(),
                },
                () = at(lost_at) => self.session.close(
                    Reason::EndpointLost,
                    "the display closed the connection: open it again",
                ),
            }
        }
    }

    fn data(&mut self, bytes: Bytes) -> RelayEvent {
        let (offset, length) = (self.sent, bytes.len() as u64);
        self.sent += length;
        self.session.relayed(offset, length);
        self.metrics.to_caller(length);
        RelayEvent::Data { offset, bytes }
    }

    /// A display that fills what is read at once is read more at once, and less as it calms.
    fn adapt(&mut self, read: usize) {
        if read == self.reads {
            self.reads = (self.reads * 4).min(MAX_FRAME);
        } else if read < self.reads / 8 {
            self.reads = (self.reads / 2).max(FIRST_READ);
        }
    }

    /// The display has ended: because the caller has, or its VM is stopping, or for reasons of
    /// its own.
    fn display_ended(&mut self) {
        self.ended = true;
        if self.wire.state.lock().hung_up {
            return self.session.close(Reason::ClientDetached, "");
        }
        self.lost_at
            .get_or_insert_with(|| Instant::now() + STOPS_WITHIN);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.metrics.ended();
    }
}

/// The next bytes of the display, `most` at most; `None` at its end.
///
/// # Cancel safety
/// Nothing is lost.
async fn read(reader: &mut ReadHalf, buffer: &mut BytesMut, most: usize) -> Option<Bytes> {
    let read = poll_fn(|context| {
        buffer.reserve(most);
        let read = poll_read_buf(
            Pin::new(&mut *reader),
            context,
            &mut (&mut *buffer).limit(most),
        );
        if read.is_pending() {
            // A display that shows nothing new holds no memory.
            *buffer = BytesMut::new();
        }
        read
    });
    match read.await {
        Ok(read) if read > 0 => Some(buffer.split().freeze()),
        // What broke it changes nothing for the caller.
        Ok(_) | Err(_) => None,
    }
}
