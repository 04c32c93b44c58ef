//! Where VMs come from.
//!
//! A hypervisor publishes what VMs there are and hands out endpoints to their consoles.
//! It keeps itself connected: what it publishes says whether it is.

pub mod libvirt;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;

use crate::core::id::{Alias, ConsoleId, VmUuid};
use crate::endpoint::{Endpoint, EndpointKind};

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
    /// Not known.
    Unknown,
}

impl VmState {
    /// Whether a QEMU process is there, and with it a console to attach.
    pub const fn has_console(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Stopping)
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
}

/// One console, as the VM's definition has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleDevice {
    /// Its name.
    pub alias: Alias,
    /// What sort of device it is.
    pub kind: ConsoleKind,
    /// How it is reached; `None` for a type that the agent cannot serve.
    pub endpoint: Option<EndpointKind>,
    /// The type as the definition names it (`pty`, `unix`, …), for messages.
    pub backend: String,
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
    /// Those of them that were not read since the hypervisor is connected again: their QEMU
    /// may be another one by now.
    pub stale: BTreeSet<VmUuid>,
}

/// A source of VMs.
pub trait Hypervisor: Send + Sync + 'static {
    /// The inventory now and as it changes.
    fn inventory(&self) -> watch::Receiver<Arc<Inventory>>;

    /// The way to one console. Makes no call: whether the console exists shows when it is
    /// attached.
    fn endpoint(&self, console: &ConsoleId) -> Arc<dyn Endpoint>;
}
