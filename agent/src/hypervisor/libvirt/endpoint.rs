//! The way to one console of a domain. Where its far end is, the latest inventory says each
//! time that it is attached: a VM may have been given another definition meanwhile.

use std::sync::Arc;

use tokio::sync::watch;

use super::Shared;
use super::holder::find_holder;
use super::stream_endpoint::StreamEndpoint;
use crate::core::id::ConsoleId;
use crate::endpoint::display::no_bytes;
use crate::endpoint::{
    Attachment, Claim, Direct, DirectEndpoints, Endpoint, EndpointError, Holder, OutputSink, Source,
};
use crate::hypervisor::{Inventory, Vm};

/// One console.
pub(super) struct LibvirtEndpoint {
    console: ConsoleId,
    inventory: watch::Receiver<Arc<Inventory>>,
    stream: StreamEndpoint,
    direct: Arc<DirectEndpoints>,
}

impl LibvirtEndpoint {
    pub(super) fn new(
        shared: Arc<Shared>,
        inventory: watch::Receiver<Arc<Inventory>>,
        direct: Arc<DirectEndpoints>,
        console: ConsoleId,
    ) -> Self {
        Self {
            stream: StreamEndpoint::new(shared, console.clone()),
            console,
            inventory,
            direct,
        }
    }

    /// The VM and where the console's far end is, as of now.
    fn locate(&self) -> Result<(Arc<Vm>, Source), EndpointError> {
        let inventory = Arc::clone(&self.inventory.borrow());
        let unknown = || EndpointError::NotFound(self.console.to_string());
        let vm = inventory.vms.get(&self.console.vm).ok_or_else(unknown)?;
        let mut consoles = vm.consoles.iter();
        let device = consoles.find(|device| device.alias == self.console.alias);
        Ok((Arc::clone(vm), device.ok_or_else(unknown)?.source.clone()))
    }

    async fn attach_direct(
        &self,
        vm: &Vm,
        direct: &Direct,
        sink: Arc<dyn OutputSink>,
    ) -> Result<Box<dyn Attachment>, EndpointError> {
        // What lies there while no QEMU of this VM runs is somebody else's.
        if !vm.state.has_console() {
            return Err(EndpointError::NotRunning);
        }
        match direct {
            Direct::Unix(path) if path.as_os_str().is_empty() => Err(EndpointError::NotReady(
                "the running VM's definition, which names its socket, was not read yet".to_owned(),
            )),
            direct => self.direct.attach(direct, sink).await,
        }
    }
}

#[async_trait::async_trait]
impl Endpoint for LibvirtEndpoint {
    async fn attach(
        &self,
        sink: Arc<dyn OutputSink>,
        claim: Claim,
    ) -> Result<Box<dyn Attachment>, EndpointError> {
        let (vm, source) = self.locate()?;
        match source {
            // libvirtd knows better than the inventory whether the VM runs: its consoles open a
            // quarter of a second before it says that it does.
            Source::LibvirtConsole | Source::LibvirtChannel => {
                self.stream.attach(sink, claim).await
            }
            Source::Direct(direct) => self.attach_direct(&vm, &direct, sink).await,
            Source::Display(_) => Err(no_bytes()),
            Source::Unserved(why) => Err(EndpointError::Unsupported(why)),
        }
    }

    async fn holder(&self) -> Option<Holder> {
        let (vm, source) = self.locate().ok()?;
        match source {
            Source::LibvirtConsole => find_holder(vm, self.console.alias.clone()).await,
            Source::Direct(direct) => self.direct.holder(&direct).await,
            // No client that opens channels is known by its command line, and a display has as many
            // as come.
            Source::LibvirtChannel | Source::Display(_) | Source::Unserved(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
