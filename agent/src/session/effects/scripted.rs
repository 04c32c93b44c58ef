//! A hypervisor that does side effects as a test tells it to.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::{EffectMetrics, Effects};
use crate::console::scripted::Host;
use crate::core::id::{ConsoleId, PeerIdentity, VmUuid};
use crate::core::keys::KeyPress;
use crate::endpoint::Endpoint;
use crate::hypervisor::{EffectError, Hypervisor, Inventory, Screenshot};

/// What a hypervisor was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Keys(VmUuid, KeyPress),
    Nmi(VmUuid),
    Screenshot(VmUuid, u32),
}

pub(crate) struct Deeds {
    inventory: watch::Receiver<Arc<Inventory>>,
    pub(crate) asked: Mutex<Vec<Asked>>,
    /// What every call meets.
    pub(crate) refusal: Mutex<Option<EffectError>>,
    pub(crate) picture: Mutex<Vec<u8>>,
    /// Each call takes one of these, and waits for it.
    pub(crate) turns: Semaphore,
}

impl Deeds {
    async fn done(&self, asked: Asked) -> Result<(), EffectError> {
        self.asked.lock().push(asked);
        self.turns.acquire().await.expect("open").forget();
        self.refusal.lock().clone().map_or(Ok(()), Err)
    }
}

#[async_trait::async_trait]
impl Hypervisor for Deeds {
    fn inventory(&self) -> watch::Receiver<Arc<Inventory>> {
        self.inventory.clone()
    }

    fn endpoint(&self, _: &ConsoleId) -> Arc<dyn Endpoint> {
        panic!("the consoles have theirs from the scripted host")
    }

    async fn send_keys(&self, vm: VmUuid, keys: &KeyPress) -> Result<(), EffectError> {
        self.done(Asked::Keys(vm, keys.clone())).await
    }

    async fn inject_nmi(&self, vm: VmUuid) -> Result<(), EffectError> {
        self.done(Asked::Nmi(vm)).await
    }

    async fn screenshot(&self, vm: VmUuid, screen: u32) -> Result<Screenshot, EffectError> {
        self.done(Asked::Screenshot(vm, screen)).await?;
        Ok(Screenshot(self.picture.lock().clone()))
    }
}

/// A picture of 2 times 1 points, as QEMU writes it.
pub(crate) const PPM: &[u8] = b"P6\n2 1\n255\nabcdef";

/// Side effects on the host's one VM, which are all done until told otherwise.
pub(crate) fn effects(host: &Host) -> (Effects, Arc<Deeds>) {
    let deeds = Arc::new(Deeds {
        inventory: host.inventory.subscribe(),
        asked: Mutex::default(),
        refusal: Mutex::default(),
        picture: Mutex::new(PPM.to_vec()),
        turns: Semaphore::new(1000),
    });
    let metrics = EffectMetrics::register(host.metrics.registry()).expect("metrics");
    let (directory, tasks) = (host.directory.clone(), host.tasks.child());
    (
        Effects::new(deeds.clone(), directory, tasks, metrics),
        deeds,
    )
}

pub(crate) fn proxy() -> PeerIdentity {
    PeerIdentity::new("spiffe://test/proxy")
}
