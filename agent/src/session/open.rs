//! How a session is opened: what a caller asks for, what it is told first, and why it may be
//! refused. It opens nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::last_heard::LastHeard;
use super::token::Token;
use crate::console::{Availability, Console, JoinError, Roster};
use crate::core::id::{PeerIdentity, SessionId};
use crate::core::lease::{Claim, Epoch};
use crate::core::output::Start;
use crate::core::position::Position;
use crate::core::reason::Reason;

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
    /// The console shows a picture, and carries no bytes of a guest.
    #[error("this console is a display: use RelayGraphics")]
    Display,
    /// Another session took the whole display over meanwhile.
    #[error("another session took the display over for itself")]
    TakenOver,
    /// The agent is stopping.
    #[error("the agent is stopping: try again in a moment")]
    Draining,
}

impl OpenError {
    /// The reason that goes with it.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Join(JoinError::LeaseHeld(_) | JoinError::Occupied(_)) => Reason::LeaseHeld,
            Self::Join(JoinError::NotRunning) => Reason::NotRunning,
            Self::Join(JoinError::Unavailable(state)) => unavailable(state.availability),
            Self::Join(JoinError::TooManyViewers(_)) | Self::TooManySessions(_) => {
                Reason::LimitReached
            }
            Self::Join(JoinError::Moved(_)) => Reason::Moved,
            Self::Join(JoinError::Gone) => Reason::NotFound,
            Self::Display => Reason::Unsupported,
            Self::TakenOver => Reason::TakenOver,
            Self::Draining => Reason::AgentDraining,
            Self::Resume(ResumeError::Unknown) => Reason::ResumeRefused,
        }
    }
}

const fn unavailable(availability: Availability) -> Reason {
    use Availability as A;

    match availability {
        A::Unsupported => Reason::Unsupported,
        A::HeldByOther => Reason::HeldByOther,
        A::Denied => Reason::Denied,
        A::Attached | A::Ready | A::Waiting | A::Lost => Reason::EndpointLost,
    }
}
