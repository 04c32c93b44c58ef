//! Where VMs come from.
//!
//! A hypervisor publishes what VMs there are and hands out endpoints to their consoles.
//! It keeps itself connected: what it publishes says whether it is.

mod backoff;
mod display;
mod effect;
pub mod libvirt;
pub mod merged;
pub mod qemu;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::core::id::{Alias, ConsoleId, VmUuid};
use crate::core::keys::KeyPress;
use crate::endpoint::{DisplayLine, Endpoint, EndpointError, EndpointKind, Reach, Source};

pub use effect::{EffectError, MAX_SCREENSHOT_BYTES, Screenshot};

/// What a VM is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmState {
    /// It runs.
    Running,
    /// It is paused or suspended; its console exists.
    Paused,
    /// It is off.
    Off,
    /// It crashed.
    Crashed,
    /// It is shutting down.
    Stopping,
    /// It went on to another host; what of it is left here does nothing any more.
    Moved,
    /// Not known.
    Unknown,
}

impl VmState {
    /// Whether a QEMU process may be there, and with it a console to attach.
    pub const fn has_console(self) -> bool {
        matches!(
            self,
            Self::Running | Self::Paused | Self::Stopping | Self::Moved
        )
    }
}

/// One run of a VM's QEMU process, told apart from its other runs by a number that the
/// hypervisor gives out (libvirt's domain id).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance(pub u64);

/// What sort of device a console is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsoleKind {
    /// An emulated serial port.
    Serial,
    /// A virtio (or other paravirtual) console.
    Virtio,
    /// A named channel between host and guest.
    Channel,
    /// A VNC display.
    Vnc,
}

/// One console, as the VM's definition has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleDevice {
    /// Its name.
    pub alias: Alias,
    /// What sort of device it is.
    pub kind: ConsoleKind,
    /// Where its far end is.
    pub source: Source,
    /// The type as the definition names it (`pty`, `unix`, …), for messages.
    pub backend: String,
}

impl ConsoleDevice {
    /// How it is reached, a display by the way that is tried first; `None` for what the agent
    /// cannot serve, or not as it is now.
    pub fn endpoint(&self) -> Option<EndpointKind> {
        match self.source {
            Source::LibvirtConsole | Source::LibvirtChannel => Some(EndpointKind::LibvirtStream),
            Source::Direct(ref direct) => Some(direct.kind()),
            Source::Display(ref display) => display.ways().next().map(Reach::kind),
            Source::Unserved(_) => None,
        }
    }
}

/// One VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Its identity.
    pub uuid: VmUuid,
    /// Its name.
    pub name: Arc<str>,
    /// What it is doing.
    pub state: VmState,
    /// The run of its QEMU, while there is one.
    pub instance: Option<Instance>,
    /// When that run was last seen to be reset, by the agent's clock, if it was.
    pub last_reset: Option<SystemTime>,
    /// Its consoles, in the definition's order.
    pub consoles: Vec<ConsoleDevice>,
}

/// What a hypervisor knows, all at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Whether the hypervisor is connected now. While it is not, `vms` is as last known.
    pub connected: bool,
    /// Whether it was ever connected and read whole.
    pub synced: bool,
    /// Why it is not connected, for the operator. Empty while it is.
    pub trouble: String,
    /// The VMs.
    pub vms: BTreeMap<VmUuid, Arc<Vm>>,
    /// Those of them of which nothing is certain now, with the reason for the operator: their
    /// hypervisor is not connected, or they were not read since it is again. Their QEMU may
    /// be another one by now.
    pub stale: BTreeMap<VmUuid, Arc<str>>,
    /// Where the VMs come from, each with whether it can be asked.
    pub providers: Vec<Provider>,
    /// VMs that are no more here since they went on to another host, at most [`MAX_MOVED`].
    pub moved: BTreeSet<VmUuid>,
    /// Claims to a VM's identity that were refused, at most [`MAX_CONFLICTS`].
    pub conflicts: Vec<Conflict>,
}

/// The most VMs that are remembered as having gone to another host.
pub const MAX_MOVED: usize = 1024;

/// The most refused claims that an inventory names.
pub const MAX_CONFLICTS: usize = 64;

/// A source of VMs, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// What it is: `libvirt` or `qemu`.
    pub name: &'static str,
    /// Where it is looked for: a URI, or a directory.
    pub place: String,
    /// Whether it can be asked.
    pub connected: bool,
    /// If not, why. If so, what it does not allow, or empty.
    pub trouble: String,
}

/// A claim to a VM's identity that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The identity that was claimed.
    pub uuid: VmUuid,
    /// Who claimed it: a QMP socket's path, or `qemu: NAME` of a VM that libvirt has.
    pub claimant: String,
    /// Who has it: `libvirt`, or a QMP socket's path.
    pub holder: String,
}

/// Which of `now` were not among `before`.
fn new_conflicts<'a>(before: &[Conflict], now: &'a [Conflict]) -> Vec<&'a Conflict> {
    let key = |conflict: &Conflict| (conflict.uuid, conflict.claimant.clone());
    let before: BTreeSet<_> = before.iter().map(key).collect();
    now.iter().filter(|it| !before.contains(&key(it))).collect()
}

/// A source of VMs.
#[async_trait::async_trait]
pub trait Hypervisor: Send + Sync + 'static {
    /// The inventory now and as it changes.
    fn inventory(&self) -> watch::Receiver<Arc<Inventory>>;

    /// The way to one console. Makes no call: whether the console exists shows when it is
    /// attached.
    fn endpoint(&self, console: &ConsoleId) -> Arc<dyn Endpoint>;

    /// Opens the way to a VM's VNC display. What is allowed of the ways that exist is tried in the
    /// order of [`DisplaySource::reach`](crate::endpoint::DisplaySource::reach). Any number may
    /// be open at a time.
    ///
    /// # Errors
    /// See [`EndpointError`]. Where there are several ways, the kind is that of the likeliest to
    /// pass by trying again, and the text tells of each of them.
    ///
    /// # Cancel safety
    /// If dropped, nothing stays open.
    async fn open_display(&self, _display: &ConsoleId) -> Result<DisplayLine, EndpointError> {
        let detail = "this hypervisor has no displays";
        Err(EndpointError::Unsupported(detail.to_owned()))
    }

    /// Puts a break on a serial line by the VM's monitor, for endpoints that cannot do so
    /// themselves.
    ///
    /// # Errors
    /// See [`EffectError`]. After [`EffectError::Unreachable`] it may have been sent.
    ///
    /// # Cancel safety
    /// If dropped, it may or may not be sent.
    async fn send_break(&self, _console: &ConsoleId) -> Result<(), EffectError> {
        Err(effect::unsupported())
    }

    /// Presses keys of the VM's keyboard together and lets them go.
    ///
    /// # Errors
    /// As [`Hypervisor::send_break`].
    ///
    /// # Cancel safety
    /// As [`Hypervisor::send_break`].
    async fn send_keys(&self, _vm: VmUuid, _keys: &KeyPress) -> Result<(), EffectError> {
        Err(effect::unsupported())
    }

    /// Sends a non-maskable interrupt to the VM.
    ///
    /// # Errors
    /// As [`Hypervisor::send_break`].
    ///
    /// # Cancel safety
    /// As [`Hypervisor::send_break`].
    async fn inject_nmi(&self, _vm: VmUuid) -> Result<(), EffectError> {
        Err(effect::unsupported())
    }

    /// Takes a picture of the VM's screen of this number, from 0.
    ///
    /// # Errors
    /// See [`EffectError`]; [`EffectError::Unsupported`] where there is no such screen.
    ///
    /// # Cancel safety
    /// If dropped, the picture is lost.
    async fn screenshot(&self, _vm: VmUuid, _screen: u32) -> Result<Screenshot, EffectError> {
        Err(effect::unsupported())
    }
}
