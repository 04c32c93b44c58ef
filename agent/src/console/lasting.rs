//! A session that outlasts its stream: it goes away with its seat kept, and is taken up again.
//!
//! ```text
//!           stream breaks                     taken up again
//!  Attached ──────────────▶ away, seat kept ───────────────────▶ Attached, by another stream
//!     │                          │ its time is over                      ▲
//!     │                          ▼                                       │
//!     │                        (left)                                    │
//!     └────────────── taken up again while the stream runs ──────────────┘
//! ```
//! While it is away its lease is its own, what it typed is still written, and a takeover wins.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Notify;

use super::join::JoinError;
use super::live::Console;
use super::viewer::Viewer;
use crate::core::id::StreamId;
use crate::core::lease::Claim;
use crate::core::output::Start;

/// How a session is taken up again.
#[derive(Clone, Debug)]
pub struct RejoinRequest {
    /// Its new stream: from here on every other one counts for nothing.
    pub stream: StreamId,
    /// Where it begins.
    pub start: Start,
    /// How it asks for the lease, if it has lost it; `None` to view, which gives the lease back.
    pub claim: Option<Claim>,
    /// End when the VM stops, or if it has stopped meanwhile.
    pub end_when_stopped: bool,
}

/// A session that was taken up again.
#[derive(Debug)]
pub struct Rejoined {
    /// Its new place.
    pub viewer: Viewer,
    /// The offset that its next input must have: all before it was received.
    pub next_input: u64,
    /// How many bytes beyond it may be sent: what waits takes its share.
    pub input_window: u64,
}

impl Console {
    /// The stream broke: its session is shown as away. Returns whether it is the session's
    /// newest; else nothing changes.
    pub fn went_away(&self, stream: StreamId) -> bool {
        let mut shared = self.shared.lock();
        let Some(seat) = shared.seat(stream) else {
            return false;
        };
        seat.participant.away = Some(SystemTime::now());
        shared.roster_version += 1;
        drop(shared);
        self.wake();
        true
    }

    /// Has only `stream` count of all of its session's, before it begins.
    pub fn fence(&self, stream: StreamId) {
        if let Some(seat) = self.shared.lock().seats.get_mut(&stream.session) {
            seat.stream = seat.stream.max(stream.number);
        }
    }

    /// Takes a session up again in another stream, which was fenced off from those before it.
    ///
    /// # Errors
    /// [`JoinError::Gone`] if the console, or the session at it, is no more, or the session was
    /// taken up by yet another stream.
    pub fn rejoin(self: &Arc<Self>, request: &RejoinRequest) -> Result<Rejoined, JoinError> {
        let answers = Arc::new(Notify::new());
        let stream = request.stream;
        let demand = self.demand();
        let start = self.find_start(request.start);
        let mut shared = self.shared.lock();
        if shared.retired {
            return Err(JoinError::Gone);
        }
        let session = stream.session;
        let seat = shared.seat(stream).ok_or(JoinError::Gone)?;
        let before = seat.demand.replace(demand);
        seat.answers = answers.clone();
        seat.participant.away = None;
        seat.ends_when_stopped = request.end_when_stopped;
        if !request.end_when_stopped {
            seat.stopped_in = None;
        }
        seat.input.tell_again();
        let (next_input, input_window) = (seat.input.expected(), seat.input.window());
        let output = shared.output.as_mut().ok_or(JoinError::Gone)?;
        let cursor = output.open(start);
        shared.claim_again(session, request.claim);
        shared.roster_version += 1;
        let changed = self.changed.subscribe();
        let viewer = Viewer::new(self.clone(), stream, cursor, answers, changed, &shared);
        drop(shared);
        drop(before);
        self.announce_writer();
        Ok(Rejoined {
            viewer,
            next_input,
            input_window,
        })
    }
}
