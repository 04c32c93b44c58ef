//! What can be said of a console at a moment: values, without behaviour.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::core::id::{ConsoleId, PeerIdentity, SessionId};
use crate::core::lease::Epoch;
use crate::core::position::{Generation, Position};
use crate::core::reason::Reason;
use crate::core::stamps::Stamp;
use crate::endpoint::{EndpointError, Holder};
use crate::hypervisor::{ConsoleDevice, Instance, VmState};

/// Whether a console can be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Availability {
    /// The agent holds the console and drains it.
    Attached,
    /// It can be attached on demand, as far as was last seen.
    Ready,
    /// The VM is off, or its QEMU does not listen yet.
    Waiting,
    /// Another process holds it.
    HeldByOther,
    /// The agent lacks the permission.
    Denied,
    /// The agent cannot serve this type of endpoint.
    Unsupported,
    /// The way there broke; the agent tries again while somebody wants it.
    Lost,
}

impl Availability {
    /// Every availability there is.
    pub const ALL: [Self; 7] = [
        Self::Attached,
        Self::Ready,
        Self::Waiting,
        Self::HeldByOther,
        Self::Denied,
        Self::Unsupported,
        Self::Lost,
    ];

    /// What a console is once it could not be opened, for `error`.
    pub const fn after(error: &EndpointError) -> Self {
        match error {
            EndpointError::NotRunning | EndpointError::NotReady(_) | EndpointError::NotFound(_) => {
                Self::Waiting
            }
            EndpointError::HeldByOther(_) => Self::HeldByOther,
            EndpointError::Denied(_) => Self::Denied,
            EndpointError::Unsupported(_) => Self::Unsupported,
            EndpointError::Unreachable(_) => Self::Lost,
        }
    }

    /// Its name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::HeldByOther => "held_by_other",
            Self::Denied => "denied",
            Self::Unsupported => "unsupported",
            Self::Lost => "lost",
        }
    }
}

/// A console's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleState {
    /// Whether it can be used.
    pub availability: Availability,
    /// Since when.
    pub since: SystemTime,
    /// When that was last seen, where it is [`Availability::Ready`].
    pub checked: Option<SystemTime>,
    /// What the VM is doing.
    pub vm_state: VmState,
    /// One sentence for an operator, or nothing.
    pub detail: String,
    /// When the agent tries next, if it waits for time to pass.
    pub next_try: Option<SystemTime>,
    /// The process that holds the console, where another does and it could be found out.
    pub holder: Option<Holder>,
    /// Since when it is attached, if no output came since.
    pub silent_since: Option<SystemTime>,
    /// Since when input makes no progress.
    pub wedged_since: Option<SystemTime>,
    /// The generation that output belongs to.
    pub generation: Option<Generation>,
    /// When the VM was last started or reset, as far as that was seen.
    pub booted: Option<SystemTime>,
}

/// What the hypervisor says of a console: where its pump ought to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether the hypervisor is connected and the VM was read since; else the rest is as
    /// last known.
    pub connected: bool,
    /// Why it is not. Empty while it is.
    pub trouble: String,
    /// The VM's name.
    pub vm_name: Arc<str>,
    /// What the VM is doing.
    pub vm_state: VmState,
    /// The run of its QEMU, while there is one.
    pub instance: Option<Instance>,
    /// When that run was last reset, if it was seen to be.
    pub last_reset: Option<SystemTime>,
    /// The console's device.
    pub device: ConsoleDevice,
}

/// One session that is attached to a console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Its id.
    pub session: SessionId,
    /// Through which proxy.
    pub proxy: PeerIdentity,
    /// Since when.
    pub since: SystemTime,
    /// Since when its stream is broken, if it is: it may be taken up again.
    pub away: Option<SystemTime>,
}

/// Who is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// In the order of their coming, at most [`super::MAX_ROSTER`].
    pub participants: Vec<Participant>,
    /// How many there are in all.
    pub total: usize,
    /// Which of them may write.
    pub writer: Option<SessionId>,
}

/// Who writes now, and why the one before does not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterChange {
    /// The writer, if anybody is.
    pub writer: Option<Participant>,
    /// The lease's epoch.
    pub epoch: Epoch,
    /// Why the writer before lost the lease, if there was one.
    pub reason: Option<Reason>,
    /// What the new writer gave as its reason for taking over.
    pub takeover_reason: String,
}

/// What was done to a console, or to its VM, beside typing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideEffectKind {
    /// A break on the serial line.
    Break,
    /// Keys sent to the VM's keyboard.
    Keys,
    /// A non-maskable interrupt.
    Nmi,
    /// A picture of the screen was taken.
    Screenshot,
}

impl SideEffectKind {
    /// Every kind there is.
    pub const ALL: [Self; 4] = [Self::Break, Self::Keys, Self::Nmi, Self::Screenshot];

    /// Its name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Break => "break",
            Self::Keys => "keys",
            Self::Nmi => "nmi",
            Self::Screenshot => "screenshot",
        }
    }
}

/// A side effect, as viewers are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideEffect {
    /// What was done.
    pub kind: SideEffectKind,
    /// Through which proxy.
    pub proxy: PeerIdentity,
    /// When.
    pub time: SystemTime,
}

/// A console as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Which console.
    pub id: ConsoleId,
    /// The VM's name.
    pub vm_name: Arc<str>,
    /// The console's device.
    pub device: ConsoleDevice,
    /// Whether it can be used.
    pub state: ConsoleState,
    /// How many are attached.
    pub viewers: usize,
    /// Who writes.
    pub writer: Option<Participant>,
    /// The oldest output that is kept, if there is a generation.
    pub oldest: Option<Position>,
    /// The next byte of output.
    pub head: Option<Position>,
    /// When the guest last wrote.
    pub last_output: Option<SystemTime>,
    /// When its endpoint last took input.
    pub last_input: Option<SystemTime>,
}

/// The wall clock as a stamp.
pub(super) fn stamp(time: SystemTime) -> Stamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Stamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// A stamp as time.
pub fn stamp_to_time(stamp: Stamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(stamp.0)
}
