//! All that the rules about one console go by: values, taken at one moment.

use std::sync::Arc;
use std::time::SystemTime;

use super::path::Objection;
use super::transcript::Transcript;
use crate::console::Status;
use crate::core::id::Alias;
use crate::hypervisor::Vm;

/// What is known of one console, or of one that a VM does not have.
#[derive(Clone, Debug)]
pub(super) struct ConsoleFacts {
    /// Now, by the host's clock.
    pub(super) now: SystemTime,
    /// The VM.
    pub(super) vm: Arc<Vm>,
    /// Why nothing is certain of the VM now, if so.
    pub(super) trouble: Option<Arc<str>>,
    /// The alias that was asked for; `None` for the VM's first console.
    pub(super) wanted: Option<Alias>,
    /// The console, if the VM has it.
    pub(super) seen: Option<Seen>,
    /// The agent's user's name.
    pub(super) agent: String,
}

/// One console as it was seen.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Its status.
    pub(super) status: Status,
    /// What the guest wrote.
    pub(super) transcript: Transcript,
    /// Whether the transcript was made of all output since the VM started, as far as the
    /// agent knows: none was forgotten or missed.
    pub(super) whole: bool,
    /// What was found at its path, where it has one and that could be looked at.
    pub(super) path: Option<PathFacts>,
}

/// What was found at the path of a console's socket or terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathFacts {
    /// What speaks against opening it.
    pub(super) objection: Option<Objection>,
    /// What is there and who the agent is, for people.
    pub(super) evidence: String,
    /// The name of the group that it belongs to.
    pub(super) group: String,
    /// The name of the user that it belongs to.
    pub(super) owner: String,
}
