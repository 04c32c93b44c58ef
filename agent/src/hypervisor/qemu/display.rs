//! Opens the way to a VNC display of a QEMU without libvirt: by a connection that its monitor is
//! handed one end of, else by where it listens.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::QemuHypervisor;
use super::learn::Facts;
use super::order::Deed;
use crate::core::id::{ConsoleId, VmUuid};
use crate::endpoint::{DisplayLine, DisplayStream, EndpointError};
use crate::hypervisor::{EffectError, display};

impl QemuHypervisor {
    pub(super) async fn display(&self, display: &ConsoleId) -> Result<DisplayLine, EndpointError> {
        let inventory = Arc::clone(&self.inventory.borrow());
        let (vm, source) = display::locate(&inventory, display)?;
        // Its socket or port may be somebody else's by now.
        let running = vm
            .instance
            .is_some_and(|instance| self.shared.lives(vm.uuid, instance));
        let opened =
            display::open(&source, &self.direct, running, self.connection(vm.uuid)).await?;
        // Whose socket or port it was a moment ago, and who listened there, are two things.
        let lives = |instance| self.shared.lives(vm.uuid, instance);
        match vm.instance.is_some_and(lives) {
            true => Ok(opened),
            false => Err(EndpointError::NotRunning),
        }
    }

    /// A connection to the VM's first display, of which QEMU has the other end.
    ///
    /// # Cancel safety
    /// If dropped, QEMU finds its end closed, if it has got it.
    async fn connection(&self, vm: VmUuid) -> Result<DisplayStream, EndpointError> {
        let (ours, theirs) = pair()?;
        let deed = |facts: &Facts| match facts.displays.is_empty() {
            false => Ok(Deed::ServeDisplay(theirs)),
            // QEMU would take it, and say nothing on it.
            true => Err(EffectError::NotFound("it has no VNC display".to_owned())),
        };
        self.order(vm, deed).await.map_err(refused)?;
        DisplayStream::handed_over(ours)
    }
}

fn pair() -> Result<(OwnedFd, OwnedFd), EndpointError> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socketpair(AddressFamily::Unix, SockType::Stream, None, flags).map_err(|errno| {
        let why = format!("the agent cannot make a connection: {}", errno.desc());
        EndpointError::Unreachable(why)
    })
}

fn refused(error: EffectError) -> EndpointError {
    match error {
        EffectError::NotRunning => EndpointError::NotRunning,
        EffectError::NotFound(text) => EndpointError::NotFound(text),
        EffectError::Denied(text) => EndpointError::Denied(text),
        EffectError::Unsupported(text) => EndpointError::Unsupported(text),
        EffectError::NotDone(text) | EffectError::Unreachable(text) => {
            EndpointError::Unreachable(text)
        }
        EffectError::Busy(_) => EndpointError::Unreachable(error.to_string()),
    }
}
