//! The endpoint of a console of a QEMU without libvirt. It looks up where the console is each
//! time that it is attached, and opens nothing itself.

use std::sync::Arc;

use tokio::sync::watch;

use super::Shared;
use crate::core::id::ConsoleId;
use crate::endpoint::display::no_bytes;
use crate::endpoint::{
    Attachment, Claim, Direct, DirectEndpoints, Endpoint, EndpointError, Holder, OutputSink, Source,
};
use crate::hypervisor::Inventory;

/// One console.
pub(super) struct QemuEndpoint {
    direct: Arc<DirectEndpoints>,
    shared: Arc<Shared>,
    inventory: watch::Receiver<Arc<Inventory>>,
    console: ConsoleId,
}

impl QemuEndpoint {
    pub(super) fn new(
        direct: Arc<DirectEndpoints>,
        shared: Arc<Shared>,
        inventory: watch::Receiver<Arc<Inventory>>,
        console: ConsoleId,
    ) -> Self {
        Self {
            direct,
            shared,
            inventory,
            console,
        }
    }

    /// Where the console's far end is now.
    fn locate(&self) -> Result<Direct, EndpointError> {
        let not_found = || EndpointError::NotFound(self.console.to_string());
        let inventory = self.inventory.borrow();
        let vm = inventory.vms.get(&self.console.vm).ok_or_else(not_found)?;
        let mut devices = vm.consoles.iter();
        let device = devices
            .find(|device| device.alias == self.console.alias)
            .ok_or_else(not_found)?;
        let instance = vm.instance.ok_or(EndpointError::NotRunning)?;
        match &device.source {
            Source::Direct(direct) if self.shared.lives(vm.uuid, instance) => Ok(direct.clone()),
            // Its terminal may be somebody else's by now.
            Source::Direct(_) => Err(EndpointError::NotRunning),
            Source::Display(_) => Err(no_bytes()),
            Source::Unserved(why) => Err(EndpointError::Unsupported(why.clone())),
            Source::LibvirtConsole | Source::LibvirtChannel => Err(EndpointError::Unsupported(
                "this VM is not libvirt's".to_owned(),
            )),
        }
    }
}

#[async_trait::async_trait]
impl Endpoint for QemuEndpoint {
    async fn attach(
        &self,
        sink: Arc<dyn OutputSink>,
        _claim: Claim,
    ) -> Result<Box<dyn Attachment>, EndpointError> {
        let direct = self.locate()?;
        self.direct.attach(&direct, sink).await
    }

    async fn holder(&self) -> Option<Holder> {
        let direct = self.locate().ok()?;
        self.direct.holder(&direct).await
    }
}
