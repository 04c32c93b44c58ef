//! Relays: a session at a display, and the bytes of RFB that go with it.
//!
//! ```text
//!  caller ─▶ Pipe: handshake, queue (≤ 64 KiB), filter ─▶ display
//!  caller ◀── Relay: what the session tells, and ◀─────── display
//! ```
//! A relay is a session as any other: it is opened, writes by the lease, is warned and ends once
//! with a reason. But a stream that breaks ends it: what a viewer and its display have agreed on
//! is known to these two alone, so it is opened anew.
//!
//! The display is open, and its half of the handshake done, before the caller is told that its
//! relay is; nothing of a caller's handshake reaches a display.

mod outbound;
mod pipe;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use tokio::sync::Notify;

pub use self::outbound::{Relay, RelayEvent};
pub use self::pipe::Pipe;

use super::timers::Timers;
use super::{ClientRules, Inbound, Line, OpenError, Sessions, participant};
use crate::console::{Alone, Console, JoinRequest, Roster, Viewer};
use crate::core::id::{PeerIdentity, SessionId};
use crate::core::lease::Claim;
use crate::core::output::Start;
use crate::core::reason::Reason;
use crate::core::rfb::rules::Rules;
use crate::graphics::{DisplayError, Displays};

/// How many bytes a caller may send beyond those that were dealt with.
pub const RELAY_WINDOW: u64 = 64 * 1024;

/// The caller is told how far its bytes got once so many more were dealt with.
const ACK_EVERY: u64 = RELAY_WINDOW / 4;

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct RelayRequest {
    /// Through which proxy it comes.
    pub proxy: PeerIdentity,
    /// How it asks for the writer's lease; `None` to view.
    pub claim: Option<Claim>,
    /// What it tells whom it takes over.
    pub takeover_reason: String,
    /// View if the lease is held.
    pub view_otherwise: bool,
    /// Nobody else may be at the display.
    pub exclusive: bool,
    /// What is kept from guest and caller, by its own wish.
    pub rules: Rules,
    /// What holds for its stream.
    pub client: ClientRules,
}

/// What a caller is told first.
#[derive(Clone, Debug)]
pub struct RelayOpened {
    /// The session's id.
    pub session: SessionId,
    /// The display.
    pub console: Arc<Console>,
    /// Whether the session holds the writer's lease.
    pub writes: bool,
    /// What is kept from guest and caller.
    pub rules: Rules,
    /// The display's width and height, in pixels.
    pub size: (u16, u16),
    /// Who is attached.
    pub roster: Roster,
    /// When the session is over at the latest, if it may not last for ever.
    pub expires: Option<SystemTime>,
    /// The heartbeat that it promised.
    pub heartbeat: Option<Duration>,
}

/// Why a relay could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// There could be no session.
    #[error(transparent)]
    Session(#[from] OpenError),
    /// The display could not be opened.
    #[error(transparent)]
    Display(#[from] DisplayError),
    /// The console carries bytes of a guest, and no picture.
    #[error("this console is no display: use StreamConsole")]
    NoDisplay,
}

impl RelayError {
    /// The reason that goes with it.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Session(error) => error.reason(),
            Self::Display(error) => error.reason(),
            Self::NoDisplay => Reason::Unsupported,
        }
    }
}

/// What the two directions have in common.
#[derive(Debug, Default)]
struct Wire {
    state: Mutex<State>,
    /// Wakes the direction to the caller.
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What the agent itself tells the caller, before all that the display does.
    greeting: VecDeque<Bytes>,
    /// The caller's handshake is done: it hears the display.
    greeted: bool,
    /// How many of the caller's bytes were dealt with.
    done: u64,
    /// What the caller was told of that.
    told: u64,
    /// The caller has nothing more to say, and the display was told so.
    hung_up: bool,
    /// The display takes nothing more.
    display_gone: bool,
}

impl State {
    /// The next piece of the greeting, of at most `room` bytes.
    fn next_greeting(&mut self, room: usize) -> Option<Bytes> {
        let first = self.greeting.front_mut()?;
        let piece = first.split_to(room.min(first.len()));
        if !first.has_remaining() {
            self.greeting.pop_front();
        }
        (!piece.is_empty()).then_some(piece)
    }

    /// Whether the caller is to be told how far its bytes got. It need not be told of each key,
    /// and nobody woken for it.
    const fn ack_due(&self) -> bool {
        self.done - self.told >= ACK_EVERY
    }
}

impl Sessions {
    /// Opens a display and relays it. Takes some 10 seconds at most.
    ///
    /// # Errors
    /// See [`RelayError`].
    ///
    /// # Cancel safety
    /// If dropped, nothing stays open; whoever was taken over stays so.
    pub async fn relay(
        &self,
        displays: &Displays,
        console: &Arc<Console>,
        request: RelayRequest,
    ) -> Result<(RelayOpened, Relay, Arc<Inbound>, Pipe), RelayError> {
        if self.draining.is_cancelled() {
            return Err(OpenError::Draining.into());
        }
        if !console.is_display() {
            return Err(RelayError::NoDisplay);
        }
        let permit = self.permit()?;
        let exclusive = request.exclusive || displays.terms(console).exclusive;
        let displaces = exclusive && request.claim == Some(Claim::Takeover);
        let alone = Alone {
            exclusive,
            ..Alone::default()
        };
        let viewer = join(console, &request, alone.clone())?;
        let instance = console.shown_by();
        let open = tokio::select! {
            biased; // a stop waits for nobody
            () = self.draining.cancelled() => Err(OpenError::Draining.into()),
            () = alone.taken_over.cancelled() => Err(RelayError::Session(OpenError::TakenOver)),
            open = displays.open(console, instance, !displaces) => open.map_err(RelayError::from),
        };
        let open = match open {
            Ok(open) => open,
            Err(error) => {
                viewer.leave(error.reason());
                return Err(error);
            }
        };
        let stream = viewer.stream();
        let timers = Arc::new(Timers::new(self.times));
        let line = Line::new(&viewer, &request.client, timers, false);
        // Nobody is told its token.
        self.enter(&viewer, &line, request.proxy, permit);
        // Once it is open: the VM may have had another name before.
        let rules = displays.terms(console).rules.stricter(&request.rules);
        let size = (open.server_init.width, open.server_init.height);
        let opened = told_first(&viewer, &line, (rules.clone(), size), &request.client);
        let wire = Arc::<Wire>::default();
        let (session, inbound) = self.halves(viewer, line, request.client);
        let inbound = Arc::new(inbound);
        let metrics = displays.metrics();
        let relay = Relay::new(session, wire.clone(), open.read, metrics.clone());
        let pipe = Pipe::new(
            (inbound.clone(), wire, stream),
            (open.write, open.server_init),
            rules,
            (alone.taken_over, console.show(instance)),
            metrics.clone(),
        );
        Ok((opened, relay, inbound, pipe))
    }
}

/// Takes a place at the display, and the lease if it was asked for.
fn join(console: &Arc<Console>, request: &RelayRequest, alone: Alone) -> Result<Viewer, OpenError> {
    let joined = console.join(JoinRequest {
        participant: participant(&request.proxy),
        start: Start::Live,
        claim: request.claim,
        takeover_reason: request.takeover_reason.clone(),
        view_otherwise: request.view_otherwise,
        wait_for_start: false,
        end_when_stopped: true,
        alone: Some(alone),
    });
    Ok(joined?)
}

fn told_first(
    viewer: &Viewer,
    line: &Line,
    (rules, size): (Rules, (u16, u16)),
    client: &ClientRules,
) -> RelayOpened {
    let (roster, _) = viewer.surroundings();
    RelayOpened {
        session: viewer.stream().session,
        console: viewer.console().clone(),
        writes: viewer.writes(),
        rules,
        size,
        roster,
        expires: line.timers.expires(),
        heartbeat: client.heartbeat,
    }
}
