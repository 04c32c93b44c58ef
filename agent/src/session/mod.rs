//! Sessions: one caller at one console, from the permission to open to the one reason for
//! which it ends.
//!
//! ```text
//!            open                first of: Detach, bad message, drain, console gone,
//!  (caller) ──────▶ Running ─────────────────────────────────────▶ Closing ─▶ Ended(reason)
//!     │ refused       │ dropped before it could say why                        ▲
//!     ▼               └──────────────────────── TRANSPORT_LOST ────────────────┘
//!  Refused(reason)
//! ```
//! What a client sends is taken at once by [`Inbound`], whether or not the client reads;
//! what it gets is pulled from [`Session::next`] as fast as it reads. Between the two is a
//! mailbox of fixed size.

pub mod effects;
mod inbound;
mod metrics;
mod outbound;

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub use inbound::{Inbound, MAX_INPUT};
pub use metrics::SessionMetrics;
pub use outbound::{Closed, Event, Session};

use crate::console::{Console, Demand, JoinError, JoinRequest, Participant, Roster};
use crate::core::id::{PeerIdentity, SessionId};
use crate::core::lease::{Claim, Epoch};
use crate::core::output::Start;
use crate::core::position::Position;
use crate::core::reason::Reason;
use crate::core::window::OutputWindow;

/// How a caller wants to use a console.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    /// Through which proxy it comes.
    pub proxy: PeerIdentity,
    /// How it asks for the writer's lease; `None` to view.
    pub claim: Option<Claim>,
    /// What it tells whom it takes over.
    pub takeover_reason: String,
    /// View if the lease is held.
    pub view_otherwise: bool,
    /// If a process outside the agent holds the console, displace it.
    pub displace_holder: bool,
    /// Where it begins.
    pub start: Start,
    /// How many bytes of output may go unacknowledged; `None` for as many as HTTP/2 takes.
    pub output_window: Option<u64>,
}

/// What a caller is told first.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The session's id.
    pub session: SessionId,
    /// The console.
    pub console: Arc<Console>,
    /// Whether the session holds the writer's lease.
    pub writes: bool,
    /// The lease's epoch.
    pub epoch: Epoch,
    /// Where output begins.
    pub position: Position,
    /// The oldest output that is kept.
    pub oldest: Position,
    /// Who is attached.
    pub roster: Roster,
}

/// Why a session could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// The console would not have it.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// As many sessions run as may.
    #[error(
        "this host serves {0} sessions, the most that limits.sessions allows: end some, or try later"
    )]
    TooManySessions(usize),
    /// The agent is stopping.
    #[error("the agent is stopping: try again in a moment")]
    Draining,
}

impl OpenError {
    /// The reason that goes with it.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Join(JoinError::LeaseHeld(_)) => Reason::LeaseHeld,
            Self::Join(JoinError::NotRunning) => Reason::NotRunning,
            Self::Join(JoinError::Unavailable(state)) => unavailable(state.availability),
            Self::Join(JoinError::TooManyViewers(_)) | Self::TooManySessions(_) => {
                Reason::LimitReached
            }
            Self::Join(JoinError::Gone) => Reason::NotFound,
            Self::Draining => Reason::AgentDraining,
        }
    }
}

const fn unavailable(availability: crate::console::Availability) -> Reason {
    use crate::console::Availability as A;
    match availability {
        A::Unsupported => Reason::Unsupported,
        A::HeldByOther => Reason::HeldByOther,
        A::Denied => Reason::Denied,
        A::Attached | A::Ready | A::Waiting | A::Lost => Reason::EndpointLost,
    }
}

/// What the two directions of a session have in common.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) window: OutputWindow,
    pub(crate) pong: Option<u64>,
    /// A request for the lease that was not granted, to be answered.
    pub(crate) writer_refused: Option<Reason>,
    /// The first reason to end that anybody gave, until the client is told.
    pub(crate) closing: Option<(Reason, String)>,
    /// Whether anybody gave one.
    pub(crate) closed: bool,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) mailbox: Mutex<Mailbox>,
    /// Wakes the outbound direction.
    pub(crate) news: Notify,
}

impl Line {
    /// Ends the session, unless it is ending already.
    pub(crate) fn close(&self, reason: Reason, detail: &str) {
        let mut mailbox = self.mailbox.lock();
        if !std::mem::replace(&mut mailbox.closed, true) {
            mailbox.closing = Some((reason, detail.to_owned()));
        }
        drop(mailbox);
        self.news.notify_one();
    }
}

/// Opens sessions, and ends all of them when the agent stops.
#[derive(Debug)]
pub struct Sessions {
    permits: Arc<Semaphore>,
    limit: usize,
    draining: CancellationToken,
    metrics: SessionMetrics,
}

impl Sessions {
    /// At most `limit` sessions at once; all end with [`Reason::AgentDraining`] when
    /// `draining` is cancelled.
    pub fn new(limit: usize, draining: CancellationToken, metrics: SessionMetrics) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limit)),
            limit,
            draining,
            metrics,
        }
    }

    /// Counts that a caller was refused, for whatever reason, before it had a session.
    pub fn count_refusal(&self, reason: Reason) {
        self.metrics.refused(reason);
    }

    /// How many sessions run, and how many may.
    pub fn in_use(&self) -> (usize, usize) {
        let free = self.permits.available_permits();
        (self.limit.saturating_sub(free), self.limit)
    }

    /// Opens a session at `console`. What comes from the client goes to the second half,
    /// what goes to it comes from the first. Waits for a console that nobody wanted to be
    /// attached, 10 seconds at most, and as long for a process outside the agent to be displaced.
    ///
    /// # Errors
    /// See [`OpenError`].
    ///
    /// # Cancel safety
    /// If dropped, no session is opened; a process may have been displaced.
    pub async fn open(
        &self,
        console: &Arc<Console>,
        request: OpenRequest,
    ) -> Result<(Opened, Session, Inbound), OpenError> {
        if self.draining.is_cancelled() {
            return Err(OpenError::Draining);
        }
        let permit = self.permits.clone().try_acquire_owned();
        let permit = permit.map_err(|_| OpenError::TooManySessions(self.limit))?;
        let session = SessionId::random();
        let (claim, window) = (request.claim, request.output_window);
        let participant = Participant {
            session,
            proxy: request.proxy.clone(),
            since: SystemTime::now(),
        };
        let join = JoinRequest {
            participant,
            start: request.start,
            claim,
            takeover_reason: request.takeover_reason,
            view_otherwise: request.view_otherwise,
        };
        // Until the viewer has its own.
        let _demand = self.attach(console).await?;
        if request.displace_holder {
            self.displace(console, &join).await?;
        }
        let viewer = console.join(join)?;
        let position = viewer.position();
        let (roster, oldest) = viewer.surroundings();
        let opened = Opened {
            session,
            console: console.clone(),
            writes: viewer.writes(),
            epoch: viewer.writer().epoch,
            position,
            oldest,
            roster,
        };
        let line = Arc::new(Line {
            mailbox: Mutex::new(Mailbox {
                window: OutputWindow::new(window, position),
                pong: None,
                writer_refused: None,
                closing: None,
                closed: false,
            }),
            news: Notify::new(),
        });
        let inbound = Inbound::new(session, console.clone(), line.clone());
        let record = self
            .metrics
            .opened(session, console.id().clone(), request.proxy, permit);
        let session = Session::new(viewer, line, record, self.draining.clone());
        Ok((opened, session, inbound))
    }

    /// How the console is then shows when the session joins.
    async fn attach(&self, console: &Arc<Console>) -> Result<Demand, OpenError> {
        tokio::select! {
            biased; // a stop waits for nobody
            () = self.draining.cancelled() => Err(OpenError::Draining),
            demand = console.attach() => Ok(demand),
        }
    }

    /// Whether the console is free then shows when the session joins.
    async fn displace(&self, console: &Console, join: &JoinRequest) -> Result<(), OpenError> {
        tokio::select! {
            biased; // a stop waits for nobody
            () = self.draining.cancelled() => Err(OpenError::Draining),
            displaced = console.displace_holder(join) => Ok(displaced?),
        }
    }
}

/// A session's permit to exist, named for what it is at the places that hold it.
pub(crate) type SessionPermit = OwnedSemaphorePermit;

#[cfg(test)]
mod tests;
