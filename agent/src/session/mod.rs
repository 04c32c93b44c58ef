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
mod open;
mod outbound;
pub mod relay;
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
pub use open::{ClientRules, OnGap, OpenError, OpenRequest, Opened, ResumeError};
pub use outbound::{Closed, Event, Session};
pub use token::{TOKEN_BYTES, Token};

use self::ledger::{Ledger, Place, Resumed};
use self::timers::Timers;
use crate::console::{
    Console, Demand, JoinError, JoinRequest, Participant, RejoinRequest, Viewer, WriterAnswer,
};
use crate::core::deadlines::TimeLimits;
use crate::core::id::{PeerIdentity, SessionId};
use crate::core::input::INPUT_WINDOW;
use crate::core::reason::Reason;
use crate::core::window::OutputWindow;

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
    /// Whether the session may be taken up again once its stream is lost.
    pub(crate) returns: bool,
    /// Wakes the outbound direction.
    pub(crate) news: Notify,
    /// Wakes the inbound direction, once: the session is ending.
    pub(crate) over: Notify,
}

impl Line {
    /// Of a stream that begins, of a session that `returns` once a stream of it is lost, or does
    /// not.
    fn new(viewer: &Viewer, client: &ClientRules, timers: Arc<Timers>, returns: bool) -> Arc<Self> {
        timers.stream_begins(client.heartbeat);
        Arc::new(Self {
            timers,
            returns,
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
        if console.is_display() {
            return Err(OpenError::Display);
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
        let participant = participant(&request.proxy);
        let join = JoinRequest {
            participant,
            start: request.start,
            claim: request.claim,
            takeover_reason: request.takeover_reason,
            view_otherwise: request.view_otherwise,
            wait_for_start: request.wait_for_start,
            end_when_stopped: request.end_when_stopped,
            alone: None,
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
        let line = Line::new(&viewer, &request.client, timers, true);
        let token = self.enter(&viewer, &line, request.proxy, permit);
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
        let line = Line::new(&viewer, &request.client, timers, true);
        if !self.ledger.runs(stream, &line) {
            line.close(
                Reason::Superseded,
                "the session was taken up by another stream",
            );
        }
        let input = (rejoined.next_input, rejoined.input_window);
        Ok(self.stream(viewer, line, (input, token), request.client))
    }

    /// Enters a session that begins, by the place that it has at its console.
    fn enter(
        &self,
        viewer: &Viewer,
        line: &Arc<Line>,
        proxy: PeerIdentity,
        permit: SessionPermit,
    ) -> Token {
        let (session, console) = (viewer.stream().session, viewer.console().clone());
        let record = self
            .metrics
            .opened(session, console.id().clone(), proxy.clone(), permit);
        let place = Place { console, proxy };
        self.ledger.begin(session, place, record, line.clone())
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
        let opened = Opened {
            session: viewer.stream().session,
            console: viewer.console().clone(),
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
        let (session, inbound) = self.halves(viewer, line, client);
        (opened, session, inbound)
    }

    fn halves(&self, viewer: Viewer, line: Arc<Line>, client: ClientRules) -> (Session, Inbound) {
        let (stream, console) = (viewer.stream(), viewer.console().clone());
        // A client that promised to be heard is not heard by what its nearest hop does.
        let own = client.heartbeat.map(|_| LastHeard::now());
        let heard = own.clone().unwrap_or(client.heard);
        let (ledger, draining) = (self.ledger.clone(), self.draining.clone());
        let inbound = Inbound::new(stream, console, line.clone(), ledger.clone(), own);
        let ends_at_gaps = client.on_gap == OnGap::Close;
        let session = Session::new(viewer, line, ledger, heard, draining, ends_at_gaps);
        (session, inbound)
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

/// Who a session that begins is to the others.
fn participant(proxy: &PeerIdentity) -> Participant {
    Participant {
        session: SessionId::random(),
        proxy: proxy.clone(),
        since: SystemTime::now(),
        away: None,
    }
}

/// A session's permit to exist, named for what it is at the places that hold it.
pub(crate) type SessionPermit = OwnedSemaphorePermit;

#[cfg(test)]
mod tests;
