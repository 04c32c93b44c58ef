//! The way to the agent: a stream, or the attempts to get another.
//!
//! ```text
//!   Up ── broke ──▶ Dialing ── failed, after a wait ──▶ Dialing
//!    ▲                │  └── the screen is too far behind ──▶ Waiting ──▶ Dialing
//!    └── opened ──────┘
//!   any ── the end ──▶ Over
//! ```
//!
//! Refuses to choose when to try: `reconnect` does.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tonic::Status;
use vmconsole_proto::v1::{ConsoleRef, Opened, StreamConsoleRequest, StreamConsoleResponse};

use super::{Drive, Phase};
use crate::attach::heartbeat::Heartbeat;
use crate::attach::link::{LinkError, Stream, dial, next_open};
use crate::attach::notices;
use crate::attach::reconnect::Trouble;
use crate::attach::session::{Again, Typing};
use crate::attach::typed::Undelivered;
use crate::connect::Connector;
use crate::exit::Exit;
use crate::output::chain;

type Dialed = Result<(Opened, Stream), LinkError>;

/// Opens the console again and again.
pub(in crate::attach) struct Dialer {
    connector: Arc<Connector>,
    console: ConsoleRef,
    typing: Typing,
}

impl Dialer {
    /// Of this console.
    pub(in crate::attach) const fn new(
        connector: Arc<Connector>,
        console: ConsoleRef,
        typing: Typing,
    ) -> Self {
        Self {
            connector,
            console,
            typing,
        }
    }

    /// One attempt, after a wait.
    fn dial(&self, again: Again, wait: Duration) -> Pin<Box<dyn Future<Output = Dialed>>> {
        let open = next_open(self.console.clone(), again, self.typing);
        let connector = Arc::clone(&self.connector);
        Box::pin(async move {
            sleep(wait).await;
            dial(connector, open).await
        })
    }
}

/// The way.
pub(in crate::attach) enum Way {
    /// A stream is open; whether the agent still reads.
    Up { stream: Box<Stream>, sending: bool },
    /// An attempt is under way.
    Dialing(Pin<Box<dyn Future<Output = Dialed>>>),
    /// An attempt is due once the screen has caught up.
    Waiting,
    /// No more.
    Over,
}

/// What happened on the way.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and most are messages"
)]
pub(super) enum News {
    /// There is room for a message; false when nobody takes any.
    Room(bool),
    /// The agent said something, or the stream ended.
    Message(Result<Option<StreamConsoleResponse>, Status>),
    /// An attempt is over.
    Dialed(Box<Dialed>),
}

impl Way {
    /// With a stream that was just opened.
    pub(in crate::attach) fn up(stream: Stream) -> Self {
        Self::Up {
            stream: Box::new(stream),
            sending: true,
        }
    }

    /// What happens next; `wants_room` where there is something to be sent.
    ///
    /// # Cancel safety
    /// Nothing is lost; an attempt goes on with the next call.
    pub(super) async fn news(&mut self, wants_room: bool) -> News {
        match self {
            Self::Up { stream, sending } => tokio::select! {
                biased;
                room = has_room(&stream.requests), if wants_room && *sending => News::Room(room),
                message = stream.inbound.message() => News::Message(message),
            },
            Self::Dialing(dialing) => News::Dialed(Box::new(dialing.await)),
            Self::Waiting | Self::Over => std::future::pending().await,
        }
    }

    /// The heartbeat of the stream that is open.
    pub(super) fn heartbeat(&mut self) -> Option<&mut Heartbeat> {
        match self {
            Self::Up { stream, .. } => stream.heartbeat.as_mut(),
            Self::Dialing(_) | Self::Waiting | Self::Over => None,
        }
    }

    /// Whether a stream is open.
    pub(super) const fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

impl Drive {
    /// Asks for a sign of life when it is time, whatever else there is to do.
    pub(super) fn beat(&mut self) {
        let now = Instant::now().into_std();
        let heartbeat = self.parts.way.heartbeat();
        if heartbeat.is_some_and(|heartbeat| heartbeat.take_ping(now)) {
            self.parts.session.ping();
        }
    }

    /// The agent said something.
    pub(super) fn heard(&mut self) {
        if let Some(heartbeat) = self.parts.way.heartbeat() {
            heartbeat.heard(Instant::now().into_std());
        }
    }

    /// Whether the agent has said nothing for too long.
    pub(super) fn is_silent(&mut self) -> bool {
        let now = Instant::now().into_std();
        let heartbeat = self.parts.way.heartbeat();
        heartbeat.is_some_and(|heartbeat| heartbeat.is_silent(now))
    }

    /// The stream is over, and another may take its place.
    pub(super) fn broken(&mut self, exit: Exit, why: String) {
        if self.phase != Phase::Running {
            self.drain(exit);
            return;
        }
        let now = Instant::now();
        match self.parts.reconnect.broken(now.into_std(), chance()) {
            None => {
                self.parts.screen.notice(why);
                self.tell_undelivered();
                self.drain(exit);
            }
            Some(wait) => {
                let limit = self.parts.reconnect.limit();
                self.parts.screen.notice(notices::lost(&why, limit));
                self.parts.session.broke();
                self.times.down_since = now;
                self.dial(wait);
            }
        }
    }

    /// Begins an attempt, or waits with it for the screen.
    pub(super) fn dial(&mut self, wait: Duration) {
        self.parts.way = match self.parts.session.again() {
            Some(again) => Way::Dialing(self.parts.dialer.dial(again, wait)),
            None => Way::Waiting,
        };
    }

    pub(super) fn dialed(&mut self, dialed: Dialed) {
        match dialed {
            Ok((opened, stream)) => self.reopened(opened, stream),
            Err(error) => self.not_reopened(&error),
        }
    }

    fn reopened(&mut self, opened: Opened, stream: Stream) {
        let now = Instant::now();
        self.parts.reconnect.opened(now.into_std());
        self.parts.breaks.by(stream.channel.clone());
        self.parts.way = Way::up(stream);
        self.times.quiet_since = now;
        self.times.input_moved = now;
        let down = now.saturating_duration_since(self.times.down_since);
        let effects = self.parts.session.reopened(opened, down);
        self.apply(effects);
    }

    fn not_reopened(&mut self, error: &LinkError) {
        let trouble = error.trouble();
        if trouble == Trouble::SessionOver {
            self.parts.session.over();
        }
        let now = Instant::now().into_std();
        match self.parts.reconnect.failed(now, trouble, chance()) {
            Some(wait) => self.dial(wait),
            None => {
                let text = format!("not connected again: {}", chain(error));
                self.give_up(text, error.exit_after_open());
            }
        }
    }

    /// No stream takes the place of the one that broke.
    pub(super) fn give_up(&mut self, text: String, exit: Exit) {
        self.parts.screen.notice(text);
        self.tell_undelivered();
        self.drain(exit);
    }

    /// What was typed in vain.
    pub(super) fn tell_undelivered(&self) {
        let lost = self.parts.session.undelivered();
        if lost != Undelivered::default() {
            self.parts.screen.notice(notices::undelivered(lost));
        }
    }
}

/// A number for the jitter: good enough to part clients, and nobody's secret.
fn chance() -> u32 {
    let number = RandomState::new().build_hasher().finish();
    (number >> u32::BITS) as u32
}

/// Waits for room in the queue, which only this task fills; false when nobody reads it.
///
/// # Cancel safety
/// Nothing is taken.
async fn has_room(requests: &mpsc::Sender<StreamConsoleRequest>) -> bool {
    requests.reserve().await.is_ok()
}
