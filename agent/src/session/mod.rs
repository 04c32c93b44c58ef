//! Sessions: one caller at one console, from the permission to open to the one reason for
//! which it ends.
//!
//! ```text
//!            open                first of: Detach, bad message, drain, console gone,
//!  (caller) ──────▶ Running ─────────────────────────────────────▶ Closing ─▶ Ended(reason)
//!     │ refused      │   ▲                                                        ▲
//!     ▼              │   └─ taken up again: another stream, the same session      │
//!  Refused(reason)   └───── stream lost ──▶ Away ──── its time is over ───────────┘
//! ```
//! Which sessions are away, and who may take them up, is `ledger`'s to know.
//!
//! What a client sends is taken at once by [`Inbound`], whether or not the client reads;
//! what it gets is pulled from [`Session::next`] as fast as it reads. Between the two is a
//! mailbox of fixed size.

pub mod effects;
mod inbound;
mod last_heard;
mod ledger;
mod metrics;
mod outbound;
mod timers;
mod token;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub use inbound::{Inbound, MAX_INPUT};
pub use last_heard::LastHeard;
pub use metrics::SessionMetrics;
pub use outbound::{Closed, Event, Session};
pub use token::{TOKEN_BYTES, Token};

use self::ledger::{Ledger, Resumed};
use self::timers::Timers;
use crate::console::{
    Console, Demand, JoinError, JoinRequest, Participant, RejoinRequest, Roster, Viewer,
    WriterAnswer,
};
use crate::core::deadlines::TimeLimits;
use crate::core::id::{PeerIdentity, SessionId};
use crate::core::input::INPUT_WINDOW;
use crate::core::lease::{Claim, Epoch};
use crate::core::output::Start;
use crate::core::position::Position;
use crate::core::reason::Reason;
use crate::core::window::OutputWindow;

/// What to do when output is missing that a caller should have got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnGap {
    /// Tell it, and go on.
    #[default]
    Note,
    /// Tell it, and end. But for a gap without length at the very place where the session begins:
    /// one that resumes after such a gap is told it again, and would never get any further.
    Close,
}

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
    /// If the VM is off, open and wait for it.
    pub wait_for_start: bool,
    /// End when the VM stops.
    pub end_when_stopped: bool,
    /// Which session is to be taken up again; `None` for a new one.
    pub resume: Option<Token>,
    /// What holds for the stream alone.
    pub client: ClientRules,
}

/// What a client asks for, or promises, for one stream.
#[derive(Clone, Debug)]
pub struct ClientRules {
    /// What to do when output is missing.
    pub on_gap: OnGap,
    /// How many bytes of output may go unacknowledged; `None` for as many as HTTP/2 takes.
    pub output_window: Option<u64>,
    /// How often it will send something; `None`: it promises nothing.
    pub heartbeat: Option<Duration>,
    /// The connection's last sign of life.
    pub heard: LastHeard,
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
    /// The offset that the next input must have.
    pub next_input: u64,
    /// How many bytes beyond it may be sent.
    pub input_window: u64,
    /// What the session is taken up again with.
    pub token: Token,
    /// When the session is over at the latest, if it may not last for ever.
    pub expires: Option<SystemTime>,
    /// The heartbeat that it promised.
    pub heartbeat: Option<Duration>,
}

/// Why a session could not be taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// The token is spent, too old, somebody else's, another console's or nobody's: which, is
    /// not told.
    #[error("no session can be taken up with this resume_token: open without it")]
    Unknown,
}

/// Why a session could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// The console would not have it.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The session could not be taken up again.
    #[error(transparent)]
    Resume(#[from] ResumeError),
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
            Self::Join(JoinError::Moved(_)) => Reason::Moved,
            Self::Join(JoinError::Gone) => Reason::NotFound,
            Self::Draining => Reason::AgentDraining,
            Self::Resume(ResumeError::Unknown) => Reason::ResumeRefused,
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
    /// What became of a request for the lease, to be told. The newest wins.
    pub(crate) writer_answer: Option<WriterAnswer>,
    /// The first reason to end that anybody gave, until the client is told.
    pub(crate) closing: Option<(Reason, String)>,
    /// Whether anybody gave one.
    pub(crate) closed: bool,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) mailbox: Mutex<Mailbox>,
    /// The session's, whichever stream it goes by.
    pub(crate) timers: Arc<Timers>,
    /// Wakes the outbound direction.
    pub(crate) news: Notify,
    /// Wakes the inbound direction, once: the session is ending.
    pub(crate) over: Notify,
}

impl Line {
    /// Of a stream that begins.
    fn new(viewer: &Viewer, client: &ClientRules, timers: Arc<Timers>) -> Arc<Self> {
        timers.stream_begins(client.heartbeat);
        Arc::new(Self {
            timers,
            mailbox: Mutex::new(Mailbox {
                window: OutputWindow::new(client.output_window, viewer.position()),
                pong: None,
                writer_answer: None,
                closing: None,
                closed: false,
            }),
            news: Notify::new(),
            over: Notify::new(),
        })
    }

    /// Ends the stream, unless it is ending already. Returns whether it was not.
    pub(crate) fn close(&self, reason: Reason, detail: &str) -> bool {
        let mut mailbox = self.mailbox.lock();
        let first = !std::mem::replace(&mut mailbox.closed, true);
        if first {
            mailbox.closing = Some((reason, detail.to_owned()));
        }
        drop(mailbox);
        self.news.notify_one();
        self.over.notify_one();
        first
    }
}

/// Opens sessions, and ends all of them when the agent stops.
#[derive(Debug)]
pub struct Sessions {
    permits: Arc<Semaphore>,
    limit: usize,
    times: TimeLimits,
    draining: CancellationToken,
    metrics: SessionMetrics,
    ledger: Arc<Ledger>,
}

impl Sessions {
    /// At most `limit` sessions at once; all end with [`Reason::AgentDraining`] when
    /// `draining` is cancelled. A session whose stream broke may be taken up again for
    /// `grace` after its client was last heard, and is kept so long by [`Sessions::keep`].
    pub fn new(
        limit: usize,
        grace: Duration,
        draining: CancellationToken,
        metrics: SessionMetrics,
    ) -> Self {
        let ledger = Arc::new(Ledger::new(grace, metrics.clone()));
        Self {
            permits: Arc::new(Semaphore::new(limit)),
            limit,
            times: TimeLimits::default(),
            draining,
            metrics,
            ledger,
        }
    }

    /// Sessions end that are idle for too long, or last too long.
    #[must_use]
    pub const fn with_times(mut self, times: TimeLimits) -> Self {
        self.times = times;
        self
    }

    /// Ends sessions that nobody took up again in their time, until the agent stops.
    pub async fn keep(&self) {
        self.ledger.keep(self.draining.clone()).await;
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

    /// Opens a session at `console`, or takes one up again. What comes from the client goes to
    /// the second half, what goes to it comes from the first. Waits for a console that nobody
    /// wanted to be attached, 15 seconds at most, and 10 for a process outside the agent to
    /// be displaced.
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
        match request.resume {
            Some(token) => self.resume(console, request, token),
            None => self.begin(console, request).await,
        }
    }

    async fn begin(
        &self,
        console: &Arc<Console>,
        request: OpenRequest,
    ) -> Result<(Opened, Session, Inbound), OpenError> {
        let permit = self.permit()?;
        let session = SessionId::random();
        let participant = Participant {
            session,
            proxy: request.proxy.clone(),
            since: SystemTime::now(),
            away: None,
        };
        let join = JoinRequest {
            participant,
            start: request.start,
            claim: request.claim,
            takeover_reason: request.takeover_reason,
            view_otherwise: request.view_otherwise,
            wait_for_start: request.wait_for_start,
            end_when_stopped: request.end_when_stopped,
        };
        // Until the viewer has its own.
        let _demand = self.attach(console).await?;
        if request.displace_holder {
            self.displace(console, &join).await?;
        }
        let viewer = match console.join(join.clone()) {
            Err(JoinError::TooManyViewers(_)) if self.ledger.make_room(Some(console.id())) => {
                console.join(join)
            }
            joined => joined,
        }?;
        let timers = Arc::new(Timers::new(self.times));
        let line = Line::new(&viewer, &request.client, timers);
        let (id, proxy) = (console.id().clone(), request.proxy);
        let record = self.metrics.opened(session, id, proxy.clone(), permit);
        let token = self
            .ledger
            .begin(session, console.clone(), proxy, record, line.clone());
        Ok(self.stream(viewer, line, ((0, INPUT_WINDOW), token), request.client))
    }

    fn resume(
        &self,
        console: &Arc<Console>,
        request: OpenRequest,
        token: Token,
    ) -> Result<(Opened, Session, Inbound), OpenError> {
        let resumed = self.ledger.resume(token, &request.proxy, console.id())?;
        let Resumed {
            console,
            stream,
            token,
            timers,
            before,
        } = resumed;
        let rejoin = RejoinRequest {
            stream,
            start: request.start,
            claim: request.claim,
            end_when_stopped: request.end_when_stopped,
        };
        let rejoined = console.rejoin(&rejoin);
        // The rings are kept for its place until there is another.
        drop(before);
        let rejoined = match rejoined {
            Ok(rejoined) => rejoined,
            Err(error) => {
                self.ledger.end(stream, Reason::VmGone);
                return Err(error.into());
            }
        };
        let viewer = rejoined.viewer;
        let line = Line::new(&viewer, &request.client, timers);
        if !self.ledger.runs(stream, &line) {
            line.close(
                Reason::Superseded,
                "the session was taken up by another stream",
            );
        }
        let input = (rejoined.next_input, rejoined.input_window);
        Ok(self.stream(viewer, line, (input, token), request.client))
    }

    /// The two halves of a stream, and what its client is told first.
    fn stream(
        &self,
        viewer: Viewer,
        line: Arc<Line>,
        ((next_input, input_window), token): ((u64, u64), Token),
        client: ClientRules,
    ) -> (Opened, Session, Inbound) {
        let (roster, oldest) = viewer.surroundings();
        let stream = viewer.stream();
        let console = viewer.console().clone();
        let opened = Opened {
            session: stream.session,
            console: console.clone(),
            writes: viewer.writes(),
            epoch: viewer.writer().epoch,
            position: viewer.position(),
            oldest,
            roster,
            next_input,
            input_window,
            token,
            expires: line.timers.expires(),
            heartbeat: client.heartbeat,
        };
        // A client that promised to be heard is not heard by what its nearest hop does.
        let own = client.heartbeat.map(|_| LastHeard::now());
        let heard = own.clone().unwrap_or(client.heard);
        let (ledger, draining) = (self.ledger.clone(), self.draining.clone());
        let inbound = Inbound::new(stream, console, line.clone(), ledger.clone(), own);
        let ends_at_gaps = client.on_gap == OnGap::Close;
        let session = Session::new(viewer, line, ledger, heard, draining, ends_at_gaps);
        (opened, session, inbound)
    }

    /// A place among the sessions; one that is away makes room.
    fn permit(&self) -> Result<SessionPermit, OpenError> {
        let take = || self.permits.clone().try_acquire_owned();
        take()
            .or_else(|full| match self.ledger.make_room(None) {
                true => take(),
                false => Err(full),
            })
            .map_err(|_| OpenError::TooManySessions(self.limit))
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
