//! What is done to a domain beside reading it: its monitor is asked, keys are pressed, an
//! interrupt is sent. Nothing here is tried twice.

use std::ffi::{CString, c_char, c_int, c_uint};
use std::time::Duration;

use super::Domain;
use super::connection::check;
use super::domain::free;
use super::error::{LibvirtError, bounded_text};

/// The longest answer of a monitor that is read, in bytes. What is asked is answered in a
/// hundred.
const MAX_ANSWER_BYTES: usize = 64 << 10;

impl Domain {
    /// Has QEMU's monitor carry out a command in JSON, and returns its answer, an error of its
    /// own included. libvirt marks the domain as tainted by it, until it is started anew. May
    /// block.
    ///
    /// # Errors
    /// The domain does not run, the call is forbidden, it failed, or the answer is longer than
    /// [`MAX_ANSWER_BYTES`].
    pub(crate) fn monitor_command(&self, command: &str) -> Result<String, LibvirtError> {
        let command = CString::new(command)
            .map_err(|_| LibvirtError::local("a monitor command contains a zero byte"))?;
        let mut answer: *mut c_char = std::ptr::null_mut();
        // SAFETY: the domain is alive; `command` ends in NUL and lives through the call;
        // `answer` outlives it.
        check(unsafe {
            virt_sys::virDomainQemuMonitorCommand(
                self.as_ptr(),
                command.as_ptr(),
                &raw mut answer,
                virt_sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT,
            )
        })?;
        let text = bounded_text(answer, MAX_ANSWER_BYTES + 1);
        // SAFETY: null, or allocated by libvirt with malloc, and freed once.
        unsafe { free(answer.cast()) };
        if text.len() > MAX_ANSWER_BYTES {
            return Err(LibvirtError::local("the monitor's answer is too long"));
        }
        Ok(text)
    }

    /// Presses keys together, by Linux's numbers, and lets them go after `hold`. May block, but
    /// not for as long.
    ///
    /// # Errors
    /// The domain does not run, a key is unknown, the call is forbidden or failed, or there are
    /// none or more than libvirt takes (16).
    pub(crate) fn send_keys(&self, keys: &[u16], hold: Duration) -> Result<(), LibvirtError> {
        let mut codes: Vec<c_uint> = keys.iter().map(|&key| key.into()).collect();
        let count = c_int::try_from(codes.len()).unwrap_or(c_int::MAX);
        let hold = c_uint::try_from(hold.as_millis()).unwrap_or(c_uint::MAX);
        // SAFETY: the domain is alive; `codes` has `count` numbers and lives through the call,
        // which checks their count before it reads them.
        check(unsafe {
            virt_sys::virDomainSendKey(
                self.as_ptr(),
                virt_sys::VIR_KEYCODE_SET_LINUX,
                hold,
                codes.as_mut_ptr(),
                count,
                0,
            )
        })
    }

    /// Sends a non-maskable interrupt to the guest. May block.
    ///
    /// # Errors
    /// The domain does not run, its machine has none, or the call is forbidden or failed.
    pub(crate) fn inject_nmi(&self) -> Result<(), LibvirtError> {
        // SAFETY: the domain is alive.
        check(unsafe { virt_sys::virDomainInjectNMI(self.as_ptr(), 0) })
    }
}
