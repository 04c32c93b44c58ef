//! Opens the way to a domain's VNC display: by a descriptor that libvirtd hands over, else by
//! where QEMU listens. Which display that is, the latest inventory says.

use std::sync::Arc;

use super::LibvirtHypervisor;
use super::calls::CallError;
use super::console_error::display as refused;
use super::ffi::Domain;
use crate::core::id::{ConsoleId, VmUuid};
use crate::endpoint::{DisplayHandle, DisplayLine, DisplayStream, EndpointError, EndpointKind};
use crate::hypervisor::{Instance, display};

impl LibvirtHypervisor {
    pub(super) async fn display(&self, display: &ConsoleId) -> Result<DisplayLine, EndpointError> {
        let inventory = Arc::clone(&self.inventory.borrow());
        let (vm, source) = display::locate(&inventory, display)?;
        // What libvirt remembers of a VM that it may not know any more: its port may be another's.
        let known = inventory.connected && !inventory.stale.contains_key(&vm.uuid);
        let running = known && vm.state.has_console();
        let descriptor = self.descriptor(vm.uuid, &source.handle);
        let opened = display::open(&source, &self.direct, running, descriptor).await?;
        if opened.way != EndpointKind::GraphicsFd {
            self.is_still(vm.uuid, vm.instance).await?;
        }
        Ok(opened)
    }

    /// Asks libvirt whether this run of the VM is the one of now: a port that is free goes to the
    /// next VM that starts, and whoever connects by what was known a moment ago would see that.
    async fn is_still(&self, vm: VmUuid, instance: Option<Instance>) -> Result<(), EndpointError> {
        let Some(connection) = self.shared.connection.lock().upgrade() else {
            let why = "libvirt cannot be asked whose display it is";
            return Err(EndpointError::Unreachable(why.to_owned()));
        };
        let look = move || Ok(Domain::lookup(&connection, &vm.to_string())?.id());
        let now = self.shared.calls.call(Some(vm), "look for the VM", look);
        match now.await {
            Ok(Some(id)) if Some(Instance(id.into())) == instance => Ok(()),
            Ok(_) => Err(EndpointError::NotRunning),
            Err(error) => Err(EndpointError::Unreachable(error.to_string())),
        }
    }

    /// A descriptor of libvirtd's. It knows better than the inventory whether the VM runs.
    ///
    /// # Cancel safety
    /// If dropped, a descriptor that comes later is closed as it comes.
    async fn descriptor(
        &self,
        vm: VmUuid,
        handle: &DisplayHandle,
    ) -> Result<DisplayStream, EndpointError> {
        let DisplayHandle::Libvirt(index) = *handle else {
            let why = "this display is not libvirt's".to_owned();
            return Err(EndpointError::Unsupported(why));
        };
        let Some(connection) = self.shared.connection.lock().upgrade() else {
            let trouble = self.inventory.borrow().trouble.clone();
            let why = format!("not connected to libvirt: {trouble}");
            return Err(EndpointError::Unreachable(why));
        };
        let open = move || Domain::lookup(&connection, &vm.to_string())?.open_graphics(index);
        let opened = self.shared.calls.call(Some(vm), "open the display", open);
        let descriptor = opened.await.map_err(|error| match error {
            CallError::Libvirt { source, .. } => refused(&source),
            CallError::NotStarted { source, .. } => EndpointError::Unreachable(source.to_string()),
            CallError::TimedOut { .. } | CallError::NotInTime { .. } | CallError::Broken { .. } => {
                EndpointError::Unreachable(error.to_string())
            }
        })?;
        DisplayStream::handed_over(descriptor)
    }
}
