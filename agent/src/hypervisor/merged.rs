//! Several hypervisors as one. The first that knows a VM has it; what a later one says of a VM
//! of that identity is refused, and reported as a conflict.
//!
//! Nothing of a later hypervisor is certain before all earlier ones were read whole: else a
//! QEMU that claims another VM's identity would be served as that VM until libvirt is heard.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::select_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Conflict, EffectError, Hypervisor, Inventory, MAX_CONFLICTS, Screenshot, new_conflicts,
};
use crate::core::id::{ConsoleId, VmUuid};
use crate::core::keys::KeyPress;
use crate::endpoint::{
    Attachment, Claim, DisplayLine, Endpoint, EndpointError, Holder, OutputSink,
};

/// Which of the hypervisors has a VM, by its place among them.
type Owners = BTreeMap<VmUuid, usize>;

/// What the task publishes and the hypervisor reads.
#[derive(Clone, Debug, Default)]
struct Merge {
    inventory: Arc<Inventory>,
    owners: Arc<Owners>,
}

/// Several hypervisors as one.
pub struct MergedHypervisor {
    hypervisors: Arc<[Arc<dyn Hypervisor>]>,
    inventory: watch::Receiver<Arc<Inventory>>,
    owners: watch::Receiver<Arc<Owners>>,
}

/// Keeps the one inventory.
pub struct MergeTask {
    inventories: Vec<(&'static str, watch::Receiver<Arc<Inventory>>)>,
    publish: watch::Sender<Arc<Inventory>>,
    owners: watch::Sender<Arc<Owners>>,
}

impl MergedHypervisor {
    /// Merges `hypervisors`, each with the name of its table in the configuration; an earlier
    /// one wins over a later one. Knows nothing until its task is run.
    pub fn new(hypervisors: Vec<(&'static str, Arc<dyn Hypervisor>)>) -> (Arc<Self>, MergeTask) {
        let (publish, inventory) = watch::channel(Arc::default());
        let (owners, owned) = watch::channel(Arc::default());
        let task = MergeTask {
            inventories: hypervisors
                .iter()
                .map(|(name, it)| (*name, it.inventory()))
                .collect(),
            publish,
            owners,
        };
        let merged = Self {
            hypervisors: hypervisors.into_iter().map(|(_, it)| it).collect(),
            inventory,
            owners: owned,
        };
        (Arc::new(merged), task)
    }

    fn owner(&self, vm: VmUuid) -> Result<Arc<dyn Hypervisor>, EffectError> {
        let owner = self.owners.borrow().get(&vm).copied();
        let owner = owner.and_then(|place| self.hypervisors.get(place));
        owner
            .cloned()
            .ok_or_else(|| EffectError::NotFound(format!("no hypervisor has VM {vm}")))
    }
}

impl MergeTask {
    /// Follows the inventories until `token` is cancelled, or one of them is kept no more.
    pub async fn run(mut self, token: CancellationToken) {
        loop {
            let now: Vec<_> = self
                .inventories
                .iter_mut()
                .map(|(name, inventory)| (*name, Arc::clone(&inventory.borrow_and_update())))
                .collect();
            self.publish(merge(&now));
            let changes = self
                .inventories
                .iter_mut()
                .map(|(_, it)| Box::pin(it.changed()));
            tokio::select! {
                biased; // to stop comes before everything
                () = token.cancelled() => return,
                (changed, _, _) = select_all(changes) => if changed.is_err() { return },
            }
        }
    }

    fn publish(&self, merge: Merge) {
        // First who has a VM, then that it is there: whoever sees it finds its owner.
        self.owners.send_replace(merge.owners);
        let known = self.publish.borrow().conflicts.clone();
        for conflict in new_conflicts(&known, &merge.inventory.conflicts) {
            // A source reports by itself what two of its own claim.
            if self
                .inventories
                .iter()
                .any(|(name, _)| conflict.holder == *name)
            {
                tracing::warn!(
                    vm.uuid = %conflict.uuid,
                    claimant = conflict.claimant,
                    holder = conflict.holder,
                    "two sources claim one UUID: the first has it; give the other VM another one"
                );
            }
        }
        self.publish.send_if_modified(|published| {
            let news = **published != *merge.inventory;
            *published = merge.inventory;
            news
        });
    }
}

/// One inventory of many.
fn merge(inventories: &[(&'static str, Arc<Inventory>)]) -> Merge {
    let mut merged = Inventory {
        connected: inventories.iter().all(|(_, it)| it.connected),
        synced: inventories.iter().all(|(_, it)| it.synced),
        ..Inventory::default()
    };
    let mut owners = Owners::new();
    // The first that was not read yet, if there is one among the earlier ones.
    let mut unread: Option<&str> = None;
    for (place, (name, inventory)) in inventories.iter().enumerate() {
        for (uuid, vm) in &inventory.vms {
            if let Some(holder) = owners.get(uuid) {
                let holder = inventories.get(*holder);
                let conflict = Conflict {
                    uuid: *uuid,
                    claimant: format!("{name}: {}", vm.name),
                    holder: holder
                        .map(|(name, _)| (*name).to_owned())
                        .unwrap_or_default(),
                };
                merged.conflicts.push(conflict);
                continue;
            }
            owners.insert(*uuid, place);
            merged.vms.insert(*uuid, Arc::clone(vm));
            if let Some(why) = inventory.stale.get(uuid) {
                merged.stale.insert(*uuid, Arc::clone(why));
            } else if let Some(earlier) = unread {
                merged.stale.insert(*uuid, not_read(earlier));
            }
        }
        merged.moved.extend(&inventory.moved);
        merged.conflicts.extend(inventory.conflicts.iter().cloned());
        merged.providers.extend(inventory.providers.iter().cloned());
        if !inventory.synced {
            unread.get_or_insert(name);
        }
        if !inventory.connected && merged.trouble.is_empty() {
            merged.trouble = format!("{name}: {}", inventory.trouble);
        }
    }
    merged.conflicts.truncate(MAX_CONFLICTS);
    Merge {
        inventory: Arc::new(merged),
        owners: Arc::new(owners),
    }
}

fn not_read(name: &str) -> Arc<str> {
    format!(
        "{name}, which may know a VM of this identity, was not read yet; set {name}.enabled = \
         false where there is none"
    )
    .into()
}

fn no_hypervisor(vm: VmUuid) -> EndpointError {
    EndpointError::NotFound(format!("no hypervisor has VM {vm}"))
}

/// A console's endpoint, of whichever hypervisor has its VM at the time.
struct MergedEndpoint {
    console: ConsoleId,
    hypervisors: Arc<[Arc<dyn Hypervisor>]>,
    owners: watch::Receiver<Arc<Owners>>,
}

impl MergedEndpoint {
    fn endpoint(&self) -> Option<Arc<dyn Endpoint>> {
        let owner = self.owners.borrow().get(&self.console.vm).copied()?;
        Some(self.hypervisors.get(owner)?.endpoint(&self.console))
    }
}

#[async_trait::async_trait]
impl Endpoint for MergedEndpoint {
    async fn attach(
        &self,
        sink: Arc<dyn OutputSink>,
        claim: Claim,
    ) -> Result<Box<dyn Attachment>, EndpointError> {
        let Some(endpoint) = self.endpoint() else {
            return Err(no_hypervisor(self.console.vm));
        };
        endpoint.attach(sink, claim).await
    }

    async fn holder(&self) -> Option<Holder> {
        self.endpoint()?.holder().await
    }
}

#[async_trait::async_trait]
impl Hypervisor for MergedHypervisor {
    fn inventory(&self) -> watch::Receiver<Arc<Inventory>> {
        self.inventory.clone()
    }

    fn endpoint(&self, console: &ConsoleId) -> Arc<dyn Endpoint> {
        Arc::new(MergedEndpoint {
            console: console.clone(),
            hypervisors: Arc::clone(&self.hypervisors),
            owners: self.owners.clone(),
        })
    }

    async fn open_display(&self, display: &ConsoleId) -> Result<DisplayLine, EndpointError> {
        let owner = self.owner(display.vm);
        let owner = owner.map_err(|_| no_hypervisor(display.vm))?;
        owner.open_display(display).await
    }

    async fn send_break(&self, console: &ConsoleId) -> Result<(), EffectError> {
        self.owner(console.vm)?.send_break(console).await
    }

    async fn send_keys(&self, vm: VmUuid, keys: &KeyPress) -> Result<(), EffectError> {
        self.owner(vm)?.send_keys(vm, keys).await
    }

    async fn inject_nmi(&self, vm: VmUuid) -> Result<(), EffectError> {
        self.owner(vm)?.inject_nmi(vm).await
    }

    async fn screenshot(&self, vm: VmUuid, screen: u32) -> Result<Screenshot, EffectError> {
        self.owner(vm)?.screenshot(vm, screen).await
    }
}

#[cfg(test)]
mod tests;
