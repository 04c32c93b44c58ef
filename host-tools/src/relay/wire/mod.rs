//! The two calls that a local connection can be joined to, as one: what is said to the agent,
//! and what it says, in the terms that they share.
//!
//! Refuses to judge what came: that is the session's.

mod display;
mod serial;

use std::time::Duration;

use bytes::Bytes;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use vmconsole_proto::v1::{
    Closed, Console, ConsoleRef, ConsoleState, Expiring, Gap, GraphicsRules, InputAck,
    InputRefused, Mode, Moved, Position, SideEffect, WriterChanged, WriterRefused,
};

pub(super) use self::display::Display;
pub(super) use self::serial::Serial;
use crate::attach::Wish;

/// How many bytes the agent may be ahead of what was written to the local connection: what
/// keeps a path of some milliseconds busy, and no more than HTTP/2's window of one stream.
pub(super) const OUTPUT_WINDOW: u64 = 1 << 20;

/// What the local connection's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// RFB: the agent looks into it, so that it may be sent by who does not write, too. Its
    /// client's end is told as the end of our side.
    Display,
    /// Typing: for who holds the lease alone. Its client's end is told to nobody, since the
    /// console goes on.
    Serial,
}

/// What is asked for whenever a local connection comes.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// The console.
    pub(super) console: ConsoleRef,
    /// Mode.
    pub(super) wish: Wish,
    /// Whether to watch where another writes.
    pub(super) view_otherwise: bool,
    /// Of a display: whether nobody else may be there.
    pub(super) exclusive: bool,
    /// Of a display: what is kept back.
    pub(super) rules: GraphicsRules,
}

impl Asked {
    /// The mode, and the reason for a takeover.
    fn mode(&self) -> (Mode, String) {
        match &self.wish {
            Wish::Write => (Mode::WriteIfFree, String::new()),
            Wish::Queue => (Mode::WriteQueue, String::new()),
            Wish::View => (Mode::View, String::new()),
            Wish::TakeOver(reason) => (Mode::WriteTakeover, reason.clone()),
        }
    }
}

/// What was opened.
#[derive(Clone, Debug, Default)]
pub(super) struct Opening {
    /// The session's id.
    pub(super) session: String,
    /// What is worth telling of it beside: size and rules of a display. May be empty.
    pub(super) detail: String,
    /// The console, as it was then.
    pub(super) console: Console,
    /// Whether this session writes.
    pub(super) writes: bool,
    /// The lease's epoch, where it counts.
    pub(super) epoch: u64,
    /// Where output begins.
    pub(super) position: Position,
    /// Where input begins.
    pub(super) next_input: u64,
    /// How much input may be sent.
    pub(super) input_window: u64,
    /// How often the agent wants a sign of life.
    pub(super) heartbeat: Option<Duration>,
}

/// What the agent says.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and most are messages"
)]
pub(super) enum Event {
    /// First.
    Opened(Opening),
    /// Bytes for the local connection, and where they begin.
    Data(Option<Position>, Bytes),
    /// Bytes that are missing.
    Gap(Gap),
    /// Output goes on in another generation.
    Generation(Option<Position>),
    /// How far input got.
    InputAck(InputAck),
    /// Input that was not written.
    InputRefused(InputRefused),
    /// Who writes.
    Writer(WriterChanged),
    /// The lease was not granted.
    WriterRefused(WriterRefused),
    /// The console's state.
    State(ConsoleState),
    /// Somebody did something to the VM.
    SideEffect(SideEffect),
    /// The session will end.
    Expiring(Expiring),
    /// The VM moved.
    Moved(Moved),
    /// So many are attached.
    Roster(usize),
    /// Last.
    Closed(Closed),
    /// A Pong, or what this version does not know.
    Nothing,
}

/// One of the calls.
pub(super) trait Wire: Send + 'static {
    /// What is sent.
    type Request: Send + 'static;
    /// What comes.
    type Response: Send + 'static;
    /// What the bytes are.
    const KIND: Kind;

    /// The first message.
    fn open(asked: &Asked) -> Self::Request;
    /// Bytes of the local connection; the first is at `offset`.
    fn data(offset: u64, epoch: u64, data: Bytes) -> Self::Request;
    /// All before this was written to the local connection.
    fn ack(position: Position) -> Self::Request;
    /// Asks for a sign of life.
    fn ping() -> Self::Request;
    /// Ends the session.
    fn detach() -> Self::Request;
    /// Reads a message.
    fn event(response: Self::Response) -> Event;
    /// Opens a stream.
    ///
    /// # Errors
    /// The agent's refusal, or that of the transport.
    ///
    /// # Cancel safety
    /// If dropped, the stream is reset.
    fn call(
        channel: Channel,
        requests: ReceiverStream<Self::Request>,
    ) -> impl Future<Output = Result<Streaming<Self::Response>, Status>> + Send;
}

/// An interval that holds, if any.
fn interval(wanted: Option<prost_types::Duration>) -> Option<Duration> {
    wanted.and_then(|wanted| Duration::try_from(wanted).ok())
}

/// Whether a mode that was granted is a writer's.
const fn writes(mode: Mode) -> bool {
    !matches!(mode, Mode::View | Mode::Unspecified)
}
