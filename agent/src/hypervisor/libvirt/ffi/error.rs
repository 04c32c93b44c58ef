//! libvirt's errors as a type. libvirt keeps one per thread; it is copied out at once.

use std::ffi::{CStr, c_void};
use std::sync::Once;

/// The longest message that is taken from libvirt, in bytes.
const MAX_MESSAGE_BYTES: usize = 2048;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $source:ident;)+) => {
        /// The numbers of libvirt's errors, and of the parts of it that report them, that the
        /// agent tells apart.
        pub(crate) mod code {
            $($(#[doc = $doc])+ pub(crate) const $name: i32 = virt_sys::$source as i32;)+
        }
    };
}

codes! {
    /// Something failed inside; also: a domain has no such device.
    INTERNAL_ERROR = VIR_ERR_INTERNAL_ERROR;
    /// The driver does not know the call.
    NO_SUPPORT = VIR_ERR_NO_SUPPORT;
    /// An argument makes no sense: there is no such screen.
    INVALID_ARG = VIR_ERR_INVALID_ARG;
    /// The driver cannot do this to such a domain.
    CONFIG_UNSUPPORTED = VIR_ERR_CONFIG_UNSUPPORTED;
    /// The driver does not know the argument.
    ARGUMENT_UNSUPPORTED = VIR_ERR_ARGUMENT_UNSUPPORTED;
    /// The driver cannot do this, or this QEMU cannot.
    OPERATION_UNSUPPORTED = VIR_ERR_OPERATION_UNSUPPORTED;
    /// The operation failed: a console is held, or not there yet.
    OPERATION_FAILED = VIR_ERR_OPERATION_FAILED;
    /// The connection's permissions forbid the call (a read-only connection).
    OPERATION_DENIED = VIR_ERR_OPERATION_DENIED;
    /// A system call failed; [`LibvirtError::errno`](super::LibvirtError) says how.
    SYSTEM_ERROR = VIR_ERR_SYSTEM_ERROR;
    /// The far side ended the stream, or the protocol was broken.
    RPC = VIR_ERR_RPC;
    /// No such domain.
    NO_DOMAIN = VIR_ERR_NO_DOMAIN;
    /// Authentication failed.
    AUTH_FAILED = VIR_ERR_AUTH_FAILED;
    /// The domain is not running.
    OPERATION_INVALID = VIR_ERR_OPERATION_INVALID;
    /// Authentication was given up.
    AUTH_CANCELLED = VIR_ERR_AUTH_CANCELLED;
    /// The access driver forbids the call.
    ACCESS_DENIED = VIR_ERR_ACCESS_DENIED;
    /// There is nobody to authenticate with.
    AUTH_UNAVAILABLE = VIR_ERR_AUTH_UNAVAILABLE;
    /// Reported by: D-Bus, which is how polkit is asked.
    FROM_DBUS = VIR_FROM_DBUS;
    /// Reported by: polkit.
    FROM_POLKIT = VIR_FROM_POLKIT;
    /// Reported by: streams.
    FROM_STREAMS = VIR_FROM_STREAMS;
}

/// An error that libvirt reported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (libvirt error {code}, domain {domain})")]
pub(crate) struct LibvirtError {
    /// What it is (`virErrorNumber`); see [`code`].
    pub(crate) code: i32,
    /// Which part of libvirt says so (`virErrorDomain`).
    pub(crate) domain: i32,
    /// 1 for a warning, 2 for an error; 0 if libvirt gave none.
    pub(crate) level: u32,
    /// The system's error number where `code` is [`code::SYSTEM_ERROR`], else 0.
    pub(crate) errno: i32,
    /// libvirt's message, in the language that libvirtd runs in; at most 2 KiB.
    pub(crate) message: String,
}

impl LibvirtError {
    /// An error that was found on this side of libvirt.
    pub(super) fn local(message: &str) -> Self {
        Self {
            code: code::INTERNAL_ERROR,
            domain: 0,
            level: 2,
            errno: 0,
            message: message.to_owned(),
        }
    }

    /// The calling thread's last error. To be asked for at once after a failed call, on the
    /// thread that made it.
    pub(super) fn last() -> Self {
        // SAFETY: no arguments; what comes back is null or valid until this thread's next call
        // into libvirt, and everything is copied before that.
        let error = unsafe { virt_sys::virGetLastError() };
        if error.is_null() {
            return Self::local("the call failed and libvirt gave no reason");
        }
        // SAFETY: not null, and this thread's own.
        let error = unsafe { &*error };
        Self {
            code: error.code,
            domain: error.domain,
            level: error.level,
            errno: if error.code == code::SYSTEM_ERROR {
                error.int1
            } else {
                0
            },
            message: bounded_text(error.message, MAX_MESSAGE_BYTES),
        }
    }
}

/// Copies a C string, replacing what is not UTF-8, up to `limit` bytes; empty for null.
pub(super) fn bounded_text(text: *const std::ffi::c_char, limit: usize) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: libvirt's strings end in NUL, and the caller holds whatever owns this one.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
    String::from_utf8_lossy(&bytes[..bytes.len().min(limit)]).into_owned()
}

/// Keeps libvirt from writing errors to stderr: they are returned, and logged by whom they
/// concern.
pub(super) fn silence() {
    unsafe extern "C" fn ignore(_: *mut c_void, _: virt_sys::virErrorPtr) {}
    static ONCE: Once = Once::new();
    // SAFETY: the function ignores its arguments and lives as long as the program.
    ONCE.call_once(|| unsafe { virt_sys::virSetErrorFunc(std::ptr::null_mut(), Some(ignore)) });
}
