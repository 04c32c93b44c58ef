//! VMs and consoles of libvirt.
//!
//! # Connections and threads
//! libvirtd serves five requests of a connection at a time, and then reads no more from it.
//! What may be slow is therefore kept apart:
//!
//! | connection | what goes over it | thread |
//! |---|---|---|
//! | events | domain events, keepalive | the event loop's |
//! | calls | list, state, definition, displays, breaks, keys, interrupts | `calls`: at most four in flight, one for each VM |
//! | one for each picture of a screen | the picture | that of its call |
//! | one for each attached console | its stream, both ways | output: the event loop's; the rest: the console's own, while it is needed |
//!
//! A console has a connection of its own because its guest decides how fast input is read.
//! When a guest reads nothing, 12 KiB of input fill its PTY, five more messages fill
//! libvirtd's limit, and libvirtd stops reading that connection: measured, 36 KiB of input to
//! one stopped guest took the input of all other consoles on the connection away, and after
//! another 25 s libvirtd's keepalive closed it, with all their output. With a connection for
//! each, that guest's console alone is lost after 30 s, and can be attached again at once.
//!
//! A connection costs some 50 KiB here, and libvirtd probes it each 5 s when it is silent.
//!
//! All unsafe code is in `ffi`.

mod attachment;
mod calls;
mod connector;
mod console_error;
mod counters;
mod dirty;
mod display;
mod effect_error;
mod effects;
mod endpoint;
mod ffi;
mod gate;
mod holder;
mod input;
mod lane;
mod line;
mod metrics;
mod moved;
mod reader;
mod resets;
mod rights;
mod stream_endpoint;
mod unit;
pub mod xml;

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::Registry;
use tokio::sync::{Semaphore, watch};

pub use self::connector::LibvirtTask;

use self::calls::Calls;
use self::counters::Counters;
use self::dirty::Dirty;
use self::endpoint::LibvirtEndpoint;
use self::ffi::Connection;
use self::gate::Gate;
use self::resets::Resets;
use super::{EffectError, Hypervisor, Inventory, Screenshot};
use crate::core::id::{ConsoleId, VmUuid};
use crate::core::keys::KeyPress;
use crate::endpoint::{DirectEndpoints, DisplayLine, Endpoint, EndpointError, Reach};
use crate::metrics::MetricsError;

/// Where libvirtd is looked for unless the configuration says otherwise.
pub const DEFAULT_URI: &str = "qemu:///system";
/// How long a call to libvirt may take unless the configuration says otherwise.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How many calls may be in flight unless the configuration says otherwise. libvirtd serves
/// five requests of a connection at a time.
pub const DEFAULT_CALLS_IN_FLIGHT: usize = 4;
/// How many connections for consoles may be in the making at a time. libvirtd refuses more
/// than twenty that have not said who they are (`max_anonymous_clients`).
const MAX_CONNECTING: usize = 8;

/// How libvirt is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibvirtConfig {
    /// The connection's URI, say `qemu:///system`.
    pub uri: String,
    /// How long a call may take before it is given up.
    pub call_timeout: Duration,
    /// How many calls may be in flight at a time, hung ones included; at least 1, and 0 is
    /// taken for 1. More than four only wait in libvirtd.
    pub calls_in_flight: usize,
    /// Which channels are served as consoles: names, or their beginnings with `*` after them.
    pub channels: Vec<String>,
    /// The ways by which displays may be reached, in the order in which they are tried.
    pub reach: Vec<Reach>,
}

impl Default for LibvirtConfig {
    fn default() -> Self {
        Self {
            uri: DEFAULT_URI.to_owned(),
            call_timeout: DEFAULT_CALL_TIMEOUT,
            calls_in_flight: DEFAULT_CALLS_IN_FLIGHT,
            channels: Vec::new(),
            reach: Reach::ALL.to_vec(),
        }
    }
}

/// What the parts share.
struct Shared {
    config: LibvirtConfig,
    counters: Arc<Counters>,
    calls: Calls,
    dirty: Arc<Dirty>,
    resets: Arc<Resets>,
    /// A console is opened again only when it was let go.
    consoles: Gate<ConsoleId>,
    connecting: Arc<Semaphore>,
    /// The connection for calls, while there is one.
    connection: Mutex<Weak<Connection>>,
}

/// libvirt as a source of VMs.
pub struct LibvirtHypervisor {
    shared: Arc<Shared>,
    inventory: watch::Receiver<Arc<Inventory>>,
    direct: Arc<DirectEndpoints>,
}

impl LibvirtHypervisor {
    /// A hypervisor that knows nothing until its task is run. Consoles that libvirt gives no
    /// stream for are opened by `direct`. Calls nothing yet.
    pub fn new(config: LibvirtConfig, direct: Arc<DirectEndpoints>) -> (Arc<Self>, LibvirtTask) {
        let counters = Arc::new(Counters::default());
        let in_flight = config.calls_in_flight.max(1);
        let shared = Arc::new(Shared {
            calls: Calls::new(in_flight, config.call_timeout, Arc::clone(&counters)),
            config,
            counters,
            dirty: Arc::default(),
            resets: Arc::default(),
            consoles: Gate::default(),
            connecting: Arc::new(Semaphore::new(MAX_CONNECTING)),
            connection: Mutex::default(),
        });
        let (publish, inventory) = watch::channel(Arc::default());
        let task = LibvirtTask::new(Arc::clone(&shared), publish);
        let hypervisor = Self {
            shared,
            inventory,
            direct,
        };
        (Arc::new(hypervisor), task)
    }

    /// Has what is counted of libvirt shown in `registry`.
    ///
    /// # Errors
    /// [`MetricsError`] if that was done before.
    pub fn register_metrics(&self, registry: &Registry) -> Result<(), MetricsError> {
        metrics::register(Arc::clone(&self.shared.counters), registry)
    }
}

#[async_trait::async_trait]
impl Hypervisor for LibvirtHypervisor {
    fn inventory(&self) -> watch::Receiver<Arc<Inventory>> {
        self.inventory.clone()
    }

    fn endpoint(&self, console: &ConsoleId) -> Arc<dyn Endpoint> {
        Arc::new(LibvirtEndpoint::new(
            Arc::clone(&self.shared),
            self.inventory.clone(),
            Arc::clone(&self.direct),
            console.clone(),
        ))
    }

    async fn open_display(&self, display: &ConsoleId) -> Result<DisplayLine, EndpointError> {
        self.display(display).await
    }

    async fn send_break(&self, console: &ConsoleId) -> Result<(), EffectError> {
        self.break_line(console).await
    }

    async fn send_keys(&self, vm: VmUuid, keys: &KeyPress) -> Result<(), EffectError> {
        self.press(vm, keys).await
    }

    async fn inject_nmi(&self, vm: VmUuid) -> Result<(), EffectError> {
        self.interrupt(vm).await
    }

    async fn screenshot(&self, vm: VmUuid, screen: u32) -> Result<Screenshot, EffectError> {
        self.picture(vm, screen).await
    }
}
