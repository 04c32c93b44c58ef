//! Which sessions there are, whether a stream of theirs runs, and who may take them up again.
//!
//! ```text
//!             begin                 stream lost, and grace is left
//!  (none) ──────────▶ Running ─────────────────────────────────────▶ Away
//!                      │ ▲  ▲                                         │ │
//!                      │ │  └────────────── resume ───────────────────┘ │
//!                      │ └─ resume: the old stream is SUPERSEDED        │ grace is over, or
//!                      │                                                │ room is needed
//!                      └──── end ────▶ Ended(reason) ◀──────────────────┘
//! ```
//! A token is good until its successor is known to have arrived: that is when the client says
//! anything after its `Open`. So a lost `Opened` loses no session.
//!
//! The ledger's lock is taken before a line's and a console's, never after them, and held across
//! no wait.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::last_heard::LastHeard;
use super::metrics::{Record, SessionMetrics};
use super::timers::Timers;
use super::token::Token;
use super::{Line, ResumeError};
use crate::clock::at;
use crate::console::{Console, Viewer};
use crate::core::id::{ConsoleId, PeerIdentity, SessionId, StreamId};
use crate::core::reason::Reason;

/// Where a session is, and through whom.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) console: Arc<Console>,
    pub(super) proxy: PeerIdentity,
}

/// What a session is, whether or not a stream of it runs.
#[derive(Debug)]
struct Entry {
    console: Arc<Console>,
    proxy: PeerIdentity,
    record: Record,
    timers: Arc<Timers>,
    /// Its newest stream.
    stream: u32,
    state: State,
    /// What the newest stream's client was told.
    token: Token,
    /// What the newest stream was opened with, until its client is heard.
    opened_with: Option<Token>,
}

#[derive(Debug)]
enum State {
    Running(Arc<Line>),
    Away {
        until: Instant,
        viewer: Box<Viewer>,
    },
    /// Between the two: the stream is about to be made.
    Resuming,
}

#[derive(Debug, Default)]
struct Entries {
    sessions: HashMap<SessionId, Entry>,
    /// At most two for each session.
    tokens: HashMap<Token, SessionId>,
    /// Those that are away, by when their time is over.
    away: BTreeSet<(Instant, SessionId)>,
    /// Nobody is to come back: the agent stops.
    stopped: bool,
}

impl Entries {
    /// The session of this stream, if the stream is its newest.
    fn newest(&mut self, stream: StreamId) -> Option<&mut Entry> {
        let entry = self.sessions.get_mut(&stream.session)?;
        (entry.stream == stream.number).then_some(entry)
    }

    fn remove(&mut self, session: SessionId) -> Option<Entry> {
        let entry = self.sessions.remove(&session)?;
        self.tokens.remove(&entry.token);
        if let Some(token) = &entry.opened_with {
            self.tokens.remove(token);
        }
        if let State::Away { until, .. } = entry.state {
            self.away.remove(&(until, session));
        }
        Some(entry)
    }
}

impl Entry {
    fn end(mut self, reason: Reason) {
        if let State::Away { viewer, .. } = self.state {
            viewer.leave(reason);
        }
        self.record.end(reason);
    }
}

/// What a stream is made for.
#[derive(Debug)]
pub(super) struct Resumed {
    pub(super) console: Arc<Console>,
    pub(super) stream: StreamId,
    pub(super) token: Token,
    pub(super) timers: Arc<Timers>,
    /// The place of the stream before, to be given up once there is another.
    pub(super) before: Option<Box<Viewer>>,
}

/// Every session that there is.
#[derive(Debug)]
pub(super) struct Ledger {
    entries: Mutex<Entries>,
    /// Somebody went away.
    went_away: Notify,
    grace: Duration,
    metrics: SessionMetrics,
}

impl Ledger {
    pub(super) fn new(grace: Duration, metrics: SessionMetrics) -> Self {
        Self {
            entries: Mutex::default(),
            went_away: Notify::new(),
            grace,
            metrics,
        }
    }

    /// Enters a session whose first stream begins. Returns its token.
    pub(super) fn begin(
        &self,
        session: SessionId,
        place: Place,
        record: Record,
        line: Arc<Line>,
    ) -> Token {
        let token = Token::random();
        let entry = Entry {
            console: place.console,
            proxy: place.proxy,
            record,
            timers: line.timers.clone(),
            stream: StreamId::first(session).number,
            state: State::Running(line),
            token,
            opened_with: None,
        };
        let mut entries = self.entries.lock();
        entries.tokens.insert(token, session);
        entries.sessions.insert(session, entry);
        token
    }

    /// Fences the stream that a session has and prepares another.
    ///
    /// # Errors
    /// [`ResumeError`]; the session is as it was then.
    pub(super) fn resume(
        &self,
        token: Token,
        proxy: &PeerIdentity,
        console: &ConsoleId,
    ) -> Result<Resumed, ResumeError> {
        let mut entries = self.entries.lock();
        let session = *entries.tokens.get(&token).ok_or(ResumeError::Unknown)?;
        let entry = entries.sessions.get_mut(&session);
        let entry = entry.ok_or(ResumeError::Unknown)?;
        // Whoever has a token that was made for somebody else learns nothing by it.
        if entry.proxy != *proxy || entry.console.id() != console {
            return Err(ResumeError::Unknown);
        }
        let overdue = |until: Instant| until <= Instant::now();
        if matches!(entry.state, State::Away { until, .. } if overdue(until)) {
            return Err(ResumeError::Unknown);
        }
        let other = if entry.token == token {
            entry.opened_with.replace(token)
        } else {
            // What the stream told that was opened with it never arrived.
            Some(entry.token)
        };
        let next = Token::random();
        entry.token = next;
        entry.stream += 1;
        let stream = StreamId {
            session,
            number: entry.stream,
        };
        // Before anybody hears of it: what the stream before does from here on, its own end
        // included, counts for nothing.
        entry.console.fence(stream);
        let (console, timers) = (entry.console.clone(), entry.timers.clone());
        let state = std::mem::replace(&mut entry.state, State::Resuming);
        if let Some(other) = other {
            entries.tokens.remove(&other);
        }
        entries.tokens.insert(next, session);
        let before = match state {
            State::Running(line) => {
                line.close(
                    Reason::Superseded,
                    "the session was taken up by another stream",
                );
                None
            }
            State::Away { until, viewer } => {
                entries.away.remove(&(until, session));
                Some(viewer)
            }
            State::Resuming => None,
        };
        self.metrics.away(entries.away.len());
        Ok(Resumed {
            console,
            stream,
            token: next,
            timers,
            before,
        })
    }

    /// The stream that was prepared runs. False if it is not the newest any more.
    pub(super) fn runs(&self, stream: StreamId, line: &Arc<Line>) -> bool {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.newest(stream) else {
            return false;
        };
        entry.state = State::Running(line.clone());
        let console = entry.console.clone();
        drop(entries);
        self.metrics.resumed(stream, console.id());
        true
    }

    /// The stream's client was heard: what it was opened with is spent.
    pub(super) fn heard(&self, stream: StreamId) {
        let mut entries = self.entries.lock();
        let spent = entries
            .newest(stream)
            .and_then(|entry| entry.opened_with.take());
        if let Some(spent) = spent {
            entries.tokens.remove(&spent);
        }
    }

    /// The stream broke. Its session is away until its time is over, counted from when its
    /// client was last heard.
    pub(super) fn lost(&self, viewer: Viewer, heard: &LastHeard) {
        let stream = viewer.stream();
        let until = heard.when() + self.grace;
        if until <= Instant::now() || !viewer.console().went_away(stream) {
            self.end(stream, Reason::TransportLost);
            return viewer.leave(Reason::TransportLost);
        }
        let mut entries = self.entries.lock();
        let stopped = entries.stopped;
        let newest = entries.newest(stream).filter(|_| !stopped);
        let unplaced = match newest {
            Some(entry) => {
                let viewer = Box::new(viewer);
                entry.state = State::Away { until, viewer };
                entries.away.insert((until, stream.session));
                self.metrics.away(entries.away.len());
                None
            }
            None => Some(viewer),
        };
        drop(entries);
        match unplaced {
            None => self.went_away.notify_one(),
            Some(viewer) => {
                self.end(stream, Reason::TransportLost);
                viewer.leave(Reason::TransportLost);
            }
        }
    }

    /// Ends the session of this stream, if the stream is its newest.
    pub(super) fn end(&self, stream: StreamId, reason: Reason) {
        let mut entries = self.entries.lock();
        let ended = match entries.newest(stream) {
            Some(_) => entries.remove(stream.session),
            None => None,
        };
        drop(entries);
        if let Some(entry) = ended {
            entry.end(reason);
        }
    }

    /// Ends the session that has the least time left of those that are away, at `console` or
    /// anywhere, so that another has room. False if none is away.
    pub(super) fn make_room(&self, console: Option<&ConsoleId>) -> bool {
        let mut entries = self.entries.lock();
        let there = |session: &SessionId| {
            let entry = entries.sessions.get(session);
            entry.is_some_and(|entry| console.is_none_or(|id| entry.console.id() == id))
        };
        let first = entries.away.iter().map(|(_, session)| *session).find(there);
        let ended = first.and_then(|session| entries.remove(session));
        self.metrics.away(entries.away.len());
        drop(entries);
        ended
            .map(|entry| entry.end(Reason::TransportLost))
            .is_some()
    }

    /// Ends those whose time is over. Returns when the next one's is.
    fn end_overdue(&self) -> Option<Instant> {
        let now = Instant::now();
        loop {
            let mut entries = self.entries.lock();
            let (until, session) = *entries.away.first()?;
            if until > now {
                return Some(until);
            }
            let ended = entries.remove(session);
            self.metrics.away(entries.away.len());
            drop(entries);
            if let Some(entry) = ended {
                entry.end(Reason::TransportLost);
            }
        }
    }

    /// Ends sessions as their time is over, until `stop`; then all that are away, for the
    /// agent's sake.
    pub(super) async fn keep(&self, stop: CancellationToken) {
        loop {
            let next = self.end_overdue();
            tokio::select! {
                biased; // to stop comes before everything
                () = stop.cancelled() => break,
                () = self.went_away.notified() => {}
                () = at(next) => {}
            }
        }
        let mut entries = self.entries.lock();
        entries.stopped = true;
        let away = std::mem::take(&mut entries.away);
        let ended: Vec<Entry> = away
            .into_iter()
            .filter_map(|(_, session)| entries.remove(session))
            .collect();
        self.metrics.away(0);
        drop(entries);
        for entry in ended {
            entry.end(Reason::AgentDraining);
        }
    }
}
