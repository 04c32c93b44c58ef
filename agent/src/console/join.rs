//! Who may be attached, and with the lease or without it. Says so; attaches nobody.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::shared::{Seat, Shared};
use super::state::{Availability, ConsoleState, Participant};
use crate::core::id::SessionId;
use crate::core::lease::Claim;
use crate::core::output::Start;

/// How a session wants to be attached.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// Who it is.
    pub participant: Participant,
    /// Where it begins.
    pub start: Start,
    /// How it asks for the writer's lease; `None` to view.
    pub claim: Option<Claim>,
    /// What it tells whom it takes over.
    pub takeover_reason: String,
    /// View if the lease is held.
    pub view_otherwise: bool,
    /// If the VM is off, or not known to run, be attached all the same.
    pub wait_for_start: bool,
    /// End when the VM stops.
    pub end_when_stopped: bool,
    /// Of a display: whether others may be there, and how it is ended for another's sake.
    pub alone: Option<Alone>,
}

/// Who else may be at a display with a session.
#[derive(Clone, Debug, Default)]
pub struct Alone {
    /// Nobody.
    pub exclusive: bool,
    /// Cancelled once another session took the whole display over.
    pub taken_over: CancellationToken,
}

/// Why a session could not be attached.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JoinError {
    /// Another session holds the lease.
    #[error("{} (session {}) has been writing to this console; view it, or take it over", .0.proxy, .0.session)]
    LeaseHeld(Box<Participant>),
    /// Another session is at the display, and one of the two wants to be alone there.
    #[error("{} (session {}) is at this display, and one of you wants nobody else there; take it over, or wait", .0.proxy, .0.session)]
    Occupied(Box<Participant>),
    /// The VM is off.
    #[error("the VM is not running: start it, then attach")]
    NotRunning,
    /// The console cannot be served now, as its state says.
    #[error("the console cannot be attached: {}{}", .0.detail, held_by(.0))]
    Unavailable(Box<ConsoleState>),
    /// As many are attached as may be.
    #[error(
        "{0} sessions are attached to this console, the most that limits.viewers_per_console allows"
    )]
    TooManyViewers(usize),
    /// The VM went on to another host: which, if it was announced.
    #[error("the VM went on to {}", to_host(.0))]
    Moved(Option<Arc<str>>),
    /// The VM, or this console of it, is no more.
    #[error("the console is no more")]
    Gone,
}

fn to_host(host: &Option<Arc<str>>) -> String {
    let unknown = || "another host: ask there".to_owned();
    host.as_ref().map_or_else(unknown, ToString::to_string)
}

/// Who holds it, to follow upon the detail.
fn held_by(state: &ConsoleState) -> String {
    let holder = state.holder.as_ref();
    holder.map_or_else(String::new, |holder| format!("; it is held by {holder}"))
}

/// Whether the two cannot be there together. One that is ending, or has ended and is not read, is
/// there no more.
fn excludes(request: &JoinRequest, other: &Seat) -> bool {
    let (Some(one), Some(there)) = (&request.alone, &other.alone) else {
        return false;
    };
    let ending = there.taken_over.is_cancelled() || other.stopped_in.is_some();
    !ending && (one.exclusive || there.exclusive)
}

impl Shared {
    pub(super) fn check_open(&self, max_viewers: usize, waits: bool) -> Result<(), JoinError> {
        self.check_place(max_viewers)?;
        if self.moved_away() && !waits {
            return Err(JoinError::Moved(self.moved_to()));
        }
        if self.is_display() {
            return self.check_display();
        }
        match self.state.availability {
            Availability::Waiting if self.instance.is_none() && !waits => Err(self.not_running()),
            Availability::Ready if !waits => Err(self.not_attached_yet()),
            Availability::Unsupported | Availability::HeldByOther | Availability::Denied => {
                Err(JoinError::Unavailable(Box::new(self.state.clone())))
            }
            // Whether the VM runs is not certain, and so there is nothing to open.
            Availability::Lost if self.output.is_none() && !waits => {
                Err(JoinError::Unavailable(Box::new(self.state.clone())))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_place(&self, max_viewers: usize) -> Result<(), JoinError> {
        if self.retired {
            return Err(JoinError::Gone);
        }
        if self.seats.len() >= max_viewers {
            return Err(JoinError::TooManyViewers(self.seats.len()));
        }
        Ok(())
    }

    /// Whether the lease would be granted, or is not insisted on.
    pub(super) fn check_claim(&self, request: &JoinRequest) -> Result<(), JoinError> {
        match self.lease.holder() {
            Some(holder) if request.claim == Some(Claim::IfFree) && !request.view_otherwise => {
                Err(self.lease_held(holder))
            }
            _ => Ok(()),
        }
    }

    /// Whether nobody is there whom the session, or who would have the session, not be there.
    pub(super) fn check_alone(&self, request: &JoinRequest) -> Result<(), JoinError> {
        if request.claim == Some(Claim::Takeover) {
            return Ok(());
        }
        let mut others = self.seats.values();
        match others.find(|seat| excludes(request, seat)) {
            Some(other) => Err(JoinError::Occupied(Box::new(other.participant.clone()))),
            None => Ok(()),
        }
    }

    /// The session was let in: ends those with whom it cannot be there.
    pub(super) fn end_for(&mut self, request: &JoinRequest) {
        let session = request.participant.session;
        for (id, seat) in &self.seats {
            if *id != session
                && excludes(request, seat)
                && let Some(alone) = &seat.alone
            {
                self.lease.withdraw(*id);
                alone.taken_over.cancel();
            }
        }
    }

    pub(super) fn lease_held(&self, holder: SessionId) -> JoinError {
        match self.seats.get(&holder) {
            Some(seat) => JoinError::LeaseHeld(Box::new(seat.participant.clone())),
            None => JoinError::Gone,
        }
    }

    /// The VM is off, or is known to run and not attached for the first time yet.
    pub(super) fn not_running(&self) -> JoinError {
        if self.target.instance.is_none() {
            return JoinError::NotRunning;
        }
        self.not_attached_yet()
    }

    fn not_attached_yet(&self) -> JoinError {
        let mut state = self.state.clone();
        "it is about to be attached, try again".clone_into(&mut state.detail);
        JoinError::Unavailable(Box::new(state))
    }
}
