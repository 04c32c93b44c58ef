//! VMs whose QEMU runs without libvirt, by their QMP sockets.
//!
//! ```text
//!  directory ─ inotify ─▶ keeper ── one task a socket ──▶ monitor ─ QMP ─▶ QEMU
//!  list ────────────────▶   │  ◀────── reports ─────────    ▲
//!                           ▼                               │ orders (break, keys, …)
//!                    watch<Inventory>              QemuHypervisor
//! ```
//!
//! Each socket of the directory, and each of the list, is the monitor of one QEMU, and a
//! monitor serves one client: it has to be the agent's own (`-qmp
//! unix:/run/vmconsole/qmp/NAME,server=on,wait=off`). What its QEMU is, is asked once and again
//! after events; nothing is polled. A device that is plugged in while the VM runs shows with the
//! next event, since QEMU sends none for it.
//!
//! Whoever may create a socket in the directory, or be one of the trusted users, may claim to
//! be any VM: see [`claims`]. What they send is bounded in length, depth, number and rate, and
//! each wait for them has a limit.
//!
//! The QMP client is the agent's own. The `qapi` crate (0.15) keeps a line without bound until
//! its end comes, cannot send a descriptor along with a command, has no limit of time, and spawns
//! its reader by itself.

mod canvas;
mod chardev;
mod claims;
mod connect;
mod counters;
mod devices;
mod display;
mod displays;
mod effect;
mod endpoint;
mod identity;
mod keeper;
mod learn;
mod metrics;
mod monitor;
mod order;
mod process;
pub mod qmp;
mod scan;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::Registry;
use tokio::sync::{mpsc, watch as tokio_watch};

pub use self::keeper::QemuTask;

use self::connect::Peer;
use self::counters::Counters;
use self::endpoint::QemuEndpoint;
use self::learn::Facts;
use self::order::{Deed, Order, Target};
use super::{ConsoleKind, EffectError, Hypervisor, Instance, Inventory, Screenshot};
use crate::core::id::{ConsoleId, VmUuid};
use crate::core::keys::KeyPress;
use crate::endpoint::{DirectEndpoints, DisplayLine, Endpoint, EndpointError, Reach};
use crate::metrics::MetricsError;
use crate::shutdown::Tasks;

/// How long a monitor may take to greet, unless the configuration says otherwise. A QEMU that
/// runs greets within milliseconds.
pub const DEFAULT_GREETING_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a command may take, unless the configuration says otherwise.
pub const DEFAULT_COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// How many commands' time a side effect may take: it may wait for others, and a picture takes
/// three.
const EFFECT_COMMANDS: u32 = 3;

/// Where QEMUs are looked for, and who is trusted to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuConfig {
    /// The directory whose sockets are QMP monitors: an absolute path. It need not exist.
    pub directory: PathBuf,
    /// Further QMP sockets: absolute paths. Only so many that with those of the directory there
    /// are 1024 are looked after; these come first.
    pub sockets: Vec<PathBuf>,
    /// The ids of the users whom the sockets, and the processes behind them, may belong to,
    /// beside the agent's own.
    pub owners: Vec<u32>,
    /// How long a monitor may take to greet.
    pub greeting_timeout: Duration,
    /// How long a command may take before it is given up.
    pub command_timeout: Duration,
    /// The ways by which displays may be reached, in the order in which they are tried.
    pub reach: Vec<Reach>,
}

/// What the parts share.
struct Shared {
    config: QemuConfig,
    counters: Arc<Counters>,
    tasks: Tasks,
    /// The way to each VM's monitor.
    routes: Mutex<BTreeMap<VmUuid, Route>>,
}

impl Shared {
    /// Whether the QEMU that was read is still there, as far as that can be seen.
    fn lives(&self, vm: VmUuid, instance: Instance) -> bool {
        let routes = self.routes.lock();
        let peer = routes.get(&vm).and_then(|route| route.peer);
        peer.is_some_and(|peer| {
            peer.instance == instance && peer.process.is_none_or(|process| process.lives())
        })
    }
}

/// The way to one VM's monitor.
struct Route {
    orders: mpsc::Sender<Order>,
    facts: Arc<Facts>,
    /// Its QEMU, unless that has ended.
    peer: Option<Peer>,
}

/// QEMUs without libvirt as a source of VMs.
pub struct QemuHypervisor {
    shared: Arc<Shared>,
    direct: Arc<DirectEndpoints>,
    inventory: tokio_watch::Receiver<Arc<Inventory>>,
}

impl QemuHypervisor {
    /// A hypervisor that knows nothing until its task is run. Consoles are opened by `direct`;
    /// what looks after the sockets runs among `tasks`.
    pub fn new(
        mut config: QemuConfig,
        direct: Arc<DirectEndpoints>,
        tasks: Tasks,
    ) -> (Arc<Self>, QemuTask) {
        config.directory = scan::resolved(&config.directory);
        config.sockets = config.sockets.iter().map(|it| scan::resolved(it)).collect();
        let shared = Arc::new(Shared {
            config,
            counters: Arc::default(),
            tasks,
            routes: Mutex::default(),
        });
        let (publish, inventory) = tokio_watch::channel(Arc::default());
        let task = QemuTask::new(Arc::clone(&shared), publish);
        let hypervisor = Self {
            shared,
            direct,
            inventory,
        };
        (Arc::new(hypervisor), task)
    }

    /// Has what is counted of these QEMUs shown in `registry`.
    ///
    /// # Errors
    /// [`MetricsError`] if that was done before.
    pub fn register_metrics(&self, registry: &Registry) -> Result<(), MetricsError> {
        metrics::register(Arc::clone(&self.shared.counters), registry)
    }

    /// Has what `deed` makes of what is known of the VM done to its QEMU of now.
    async fn order(
        &self,
        vm: VmUuid,
        deed: impl FnOnce(&Facts) -> Result<Deed, EffectError>,
    ) -> Result<Vec<u8>, EffectError> {
        let (orders, target, deed) = {
            let routes = self.shared.routes.lock();
            let route = routes.get(&vm);
            let route = route.ok_or_else(|| EffectError::NotFound(vm.to_string()))?;
            let deed = deed(&route.facts)?;
            let peer = route.peer.ok_or(EffectError::NotRunning)?;
            let target = Target {
                uuid: vm,
                instance: peer.instance,
            };
            (route.orders.clone(), target, deed)
        };
        let limit = self.shared.config.command_timeout * EFFECT_COMMANDS;
        order::give(&orders, target, deed, limit).await
    }
}

/// The label of a console's chardev, if the console is a line that a break can be put on:
/// QEMU takes the command for any chardev, and a virtio console forgets it.
fn line(facts: &Facts, console: &ConsoleId) -> Result<String, EffectError> {
    let no_line = || {
        EffectError::Unsupported(format!(
            "{} is no serial line: there is no break on it",
            console.alias
        ))
    };
    let mut consoles = facts.consoles.iter();
    let mut displays = facts.displays.iter();
    match consoles.find(|known| known.device.alias == console.alias) {
        None if displays.any(|it| it.alias == console.alias) => Err(no_line()),
        None => Err(EffectError::NotFound(console.to_string())),
        Some(known) if known.device.kind == ConsoleKind::Serial => Ok(known.label.clone()),
        Some(_) => Err(no_line()),
    }
}

#[async_trait::async_trait]
impl Hypervisor for QemuHypervisor {
    fn inventory(&self) -> tokio_watch::Receiver<Arc<Inventory>> {
        self.inventory.clone()
    }

    fn endpoint(&self, console: &ConsoleId) -> Arc<dyn Endpoint> {
        Arc::new(QemuEndpoint::new(
            Arc::clone(&self.direct),
            Arc::clone(&self.shared),
            self.inventory.clone(),
            console.clone(),
        ))
    }

    async fn open_display(&self, display: &ConsoleId) -> Result<DisplayLine, EndpointError> {
        self.display(display).await
    }

    async fn send_break(&self, console: &ConsoleId) -> Result<(), EffectError> {
        let deed = |facts: &Facts| line(facts, console).map(Deed::Break);
        self.order(console.vm, deed).await.map(|_| ())
    }

    async fn send_keys(&self, vm: VmUuid, keys: &KeyPress) -> Result<(), EffectError> {
        let keys = Deed::Keys(keys.clone());
        self.order(vm, |_| Ok(keys)).await.map(|_| ())
    }

    async fn inject_nmi(&self, vm: VmUuid) -> Result<(), EffectError> {
        self.order(vm, |_| Ok(Deed::Nmi)).await.map(|_| ())
    }

    async fn screenshot(&self, vm: VmUuid, screen: u32) -> Result<Screenshot, EffectError> {
        let deed = Deed::Screenshot(screen);
        self.order(vm, |_| Ok(deed)).await.map(Screenshot)
    }
}
