//! Which consoles there are: follows the hypervisor's inventory, starts a pump for each
//! console that appears and retires those that are gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::capture::Capture;
use super::changes::ChangeBook;
use super::display;
use super::live::{Console, Terms};
use super::metrics::ConsoleMetrics;
use super::pump;
use super::rings::Rings;
use super::state::Target;
use crate::config;
use crate::core::id::{Alias, ConsoleId, VmUuid};
use crate::hypervisor::{ConsoleDevice, ConsoleKind, Hypervisor, Inventory, Vm};
use crate::shutdown::Tasks;

/// What a registry needs to know.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// The most output that each console keeps, in bytes.
    pub ring_bytes: usize,
    /// The most sessions at one console.
    pub max_viewers: usize,
    /// When consoles are held, and how much is kept of all of them.
    pub capture: config::Capture,
}

/// The consoles at a moment, in the order of VM UUID and alias.
#[derive(Debug, Default)]
pub struct Directory {
    consoles: BTreeMap<ConsoleId, Arc<Console>>,
    vms: BTreeMap<VmUuid, Arc<Vm>>,
    /// Whether the hypervisor was ever read whole.
    pub synced: bool,
    /// Whether the hypervisor is connected.
    pub connected: bool,
}

impl Directory {
    /// Every console.
    pub const fn consoles(&self) -> &BTreeMap<ConsoleId, Arc<Console>> {
        &self.consoles
    }

    /// One console.
    pub fn console(&self, id: &ConsoleId) -> Option<&Arc<Console>> {
        self.consoles.get(id)
    }

    /// The VM of this UUID, if it is known.
    pub fn vm(&self, uuid: VmUuid) -> Option<&Arc<Vm>> {
        self.vms.get(&uuid)
    }

    /// The VMs of this name: libvirt allows one.
    pub fn vms_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Arc<Vm>> {
        self.vms.values().filter(move |vm| &*vm.name == name)
    }
}

/// The alias that is meant where none is named: the first serial console, else the first that
/// carries bytes. A display does not.
pub fn default_alias(vm: &Vm) -> Option<&Alias> {
    let mut carrying = vm
        .consoles
        .iter()
        .filter(|device| device.kind != ConsoleKind::Vnc);
    let first = carrying.clone().next();
    let serial = carrying.find(|device| device.kind == ConsoleKind::Serial);
    serial.or(first).map(|device| &device.alias)
}

struct Driven {
    console: Arc<Console>,
    target: watch::Sender<Target>,
    token: CancellationToken,
}

/// Follows the inventory.
pub struct Registry {
    hypervisor: Arc<dyn Hypervisor>,
    config: RegistryConfig,
    metrics: ConsoleMetrics,
    rings: Arc<Rings>,
    tasks: Tasks,
    directory: watch::Sender<Arc<Directory>>,
    book: Arc<ChangeBook>,
    driven: BTreeMap<ConsoleId, Driven>,
}

impl Registry {
    /// A registry with no consoles yet; see [`Registry::run`].
    pub fn new(
        hypervisor: Arc<dyn Hypervisor>,
        config: RegistryConfig,
        metrics: ConsoleMetrics,
        tasks: Tasks,
    ) -> Self {
        let rings = Rings::new(config.capture.budget_bytes);
        let budget = i64::try_from(rings.budget.limit()).unwrap_or(i64::MAX);
        metrics.ring_budget.set(budget);
        Self {
            hypervisor,
            config,
            book: Arc::new(ChangeBook::new(metrics.clone())),
            metrics,
            rings: Arc::new(rings),
            tasks,
            directory: watch::Sender::default(),
            driven: BTreeMap::new(),
        }
    }

    /// The consoles now and as they come and go.
    pub fn directory(&self) -> watch::Receiver<Arc<Directory>> {
        self.directory.subscribe()
    }

    /// What changed of what a list of consoles shows, save output.
    pub fn book(&self) -> Arc<ChangeBook> {
        self.book.clone()
    }

    /// Follows the inventory until `token` is cancelled, and then stops every pump.
    pub async fn run(mut self, token: CancellationToken) {
        let mut inventory = self.hypervisor.inventory();
        let reclaim = self.rings.clone().reclaim(self.directory(), token.clone());
        self.tasks.spawn("reclaim", reclaim);
        loop {
            let now = inventory.borrow_and_update().clone();
            self.follow(&now, &token);
            tokio::select! {
                biased; // to stop comes before everything
                () = token.cancelled() => return,
                changed = inventory.changed() => if changed.is_err() { return },
            }
        }
    }

    fn follow(&mut self, inventory: &Inventory, token: &CancellationToken) {
        let mut gone = std::mem::take(&mut self.driven);
        let (mut kept, mut new) = (BTreeMap::new(), Vec::new());
        for vm in inventory.vms.values() {
            for device in &vm.consoles {
                let id = ConsoleId {
                    vm: vm.uuid,
                    alias: device.alias.clone(),
                };
                let target = target(inventory, vm, device);
                let driven = match gone.remove(&id) {
                    Some(driven) => driven,
                    None => {
                        new.push(id.clone());
                        self.start(&id, &target, token)
                    }
                };
                if driven.target.borrow().vm_name != vm.name {
                    driven.console.set_capture(self.capture(&id, &target));
                }
                driven.target.send_if_modified(|now| {
                    let news = *now != target;
                    *now = target;
                    news
                });
                kept.insert(id, driven);
            }
        }
        self.driven = kept;
        self.publish(inventory);
        let went: Vec<_> = gone.keys().collect();
        self.book.published(&new, &went, inventory.synced);
        for (id, driven) in gone {
            driven.token.cancel();
            let moved = inventory.moved.contains(&id.vm);
            driven
                .console
                .retire(!inventory.vms.contains_key(&id.vm), moved);
        }
    }

    /// Goes through every rule: not to be asked at all news.
    fn capture(&self, id: &ConsoleId, target: &Target) -> Capture {
        match target.device.kind {
            ConsoleKind::Vnc => Capture::OF_DISPLAY,
            ConsoleKind::Serial | ConsoleKind::Virtio | ConsoleKind::Channel => {
                Capture::of(&self.config.capture, id, &target.vm_name)
            }
        }
    }

    fn start(&self, id: &ConsoleId, target: &Target, token: &CancellationToken) -> Driven {
        let terms = Terms {
            capture: self.capture(id, target),
            ring_bytes: self.config.ring_bytes,
            max_viewers: self.config.max_viewers,
            rings: self.rings.clone(),
        };
        let console = Arc::new(Console::new(
            id.clone(),
            target.clone(),
            terms,
            self.book.clone(),
            self.metrics.clone(),
        ));
        let (sender, receiver) = watch::channel(target.clone());
        let token = token.child_token();
        if console.is_display() {
            let display = display::run(console.clone(), receiver, token.clone());
            self.tasks.spawn("display", display);
        } else {
            let pump = pump::run(
                console.clone(),
                self.hypervisor.endpoint(id),
                self.hypervisor.clone(),
                receiver,
                token.clone(),
            );
            self.tasks.spawn("pump", pump);
        }
        Driven {
            console,
            target: sender,
            token,
        }
    }

    fn publish(&self, inventory: &Inventory) {
        let consoles = self
            .driven
            .iter()
            .map(|(id, driven)| (id.clone(), driven.console.clone()))
            .collect();
        let directory = Directory {
            consoles,
            vms: inventory.vms.clone(),
            synced: inventory.synced,
            connected: inventory.connected,
        };
        self.directory.send_replace(Arc::new(directory));
    }
}

fn target(inventory: &Inventory, vm: &Vm, device: &ConsoleDevice) -> Target {
    let stale = inventory.stale.get(&vm.uuid);
    Target {
        connected: stale.is_none(),
        trouble: stale.map(|trouble| trouble.to_string()).unwrap_or_default(),
        vm_name: vm.name.clone(),
        vm_state: vm.state,
        instance: vm.instance,
        last_reset: vm.last_reset,
        device: device.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{DisplayHandle, DisplaySource, Reach, Source};
    use crate::hypervisor::VmState;

    fn device(alias: &str, kind: ConsoleKind) -> ConsoleDevice {
        let source = match kind {
            ConsoleKind::Vnc => Source::Display(DisplaySource {
                number: 0,
                handle: DisplayHandle::Libvirt(0),
                socket: None,
                address: None,
                reach: Reach::ALL.to_vec(),
            }),
            _ => Source::LibvirtConsole,
        };
        ConsoleDevice {
            alias: Alias::new(alias).unwrap(),
            kind,
            source,
            backend: String::new(),
        }
    }

    fn default(consoles: &[(&str, ConsoleKind)]) -> Option<String> {
        let consoles = consoles.iter().map(|(alias, kind)| device(alias, *kind));
        let vm = Vm {
            uuid: "c3ca651d-ff60-4eee-8814-66c8ffd2ecec".parse().unwrap(),
            name: "vm".into(),
            state: VmState::Running,
            instance: None,
            last_reset: None,
            consoles: consoles.collect(),
        };
        default_alias(&vm).map(Alias::to_string)
    }

    #[test]
    fn a_display_is_never_the_console_that_is_meant() {
        use ConsoleKind::{Serial, Virtio, Vnc};
        let (display, virtio, serial) = (("vnc0", Vnc), ("console0", Virtio), ("serial0", Serial));
        assert_eq!(default(&[]), None);
        assert_eq!(default(&[display]), None);
        let first = default(&[display, virtio]);
        assert_eq!(first.as_deref(), Some("console0"));
        let serial = default(&[display, virtio, serial]);
        assert_eq!(serial.as_deref(), Some("serial0"));
    }
}
