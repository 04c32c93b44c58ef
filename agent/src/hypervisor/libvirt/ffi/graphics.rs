//! A connection to a domain's display, handed over by libvirtd as a descriptor. Nothing is said
//! on it here.

use std::os::fd::{FromRawFd as _, OwnedFd};

use super::Domain;
use super::connection::check;
use super::error::LibvirtError;

impl Domain {
    /// A new connection to the graphics device of this number among all of the domain's, on which
    /// QEMU asks for no authentication. It is whatever libvirtd sent, as yet unchecked. May block.
    ///
    /// # Errors
    /// The domain does not run or has no such device, the call is forbidden or failed, or the
    /// way to libvirtd carries no descriptors.
    pub(crate) fn open_graphics(&self, index: u32) -> Result<OwnedFd, LibvirtError> {
        // SAFETY: the domain is alive.
        let descriptor = unsafe {
            virt_sys::virDomainOpenGraphicsFD(
                self.as_ptr(),
                index,
                virt_sys::VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH,
            )
        };
        check(descriptor)?;
        // SAFETY: not negative, so open, and from now on ours alone: libvirt's client received it
        // for this call and keeps no number of it.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}
