//! A domain as libvirt hands it out: a name, a UUID, and calls that ask libvirtd.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

use uuid::Uuid;

use super::Connection;
use super::connection::check;
use super::error::{LibvirtError, bounded_text};

/// The longest domain definition that is read, in bytes. libvirt itself sends at most 4 MiB.
pub(crate) const MAX_XML_BYTES: usize = 4 << 20;
/// The longest name that is read, in bytes.
const MAX_NAME_BYTES: usize = 1024;
/// The most domains that are listed (libvirt's own limit is 16,384).
pub(crate) const MAX_DOMAINS: usize = 16_384;
/// A UUID in text with its NUL.
const UUID_STRING_BYTES: usize = 37;

/// What libvirt says a domain is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawState {
    /// Running, or waiting for a resource.
    Running,
    /// Paused.
    Paused,
    /// Asked to shut down, and still there.
    ShuttingDown,
    /// Off.
    Off,
    /// Off, since it went on to another host.
    Moved,
    /// Crashed.
    Crashed,
    /// Suspended by the guest's power management.
    Suspended,
    /// None, or one that libvirt 9.0 does not know.
    None,
}

/// A domain.
pub(crate) struct Domain {
    ptr: NonNull<virt_sys::_virDomain>,
    connection: Arc<Connection>,
}

// SAFETY: a virDomain is a locked, counted object; libvirt allows calls from any thread.
unsafe impl Send for Domain {}
// SAFETY: as above.
unsafe impl Sync for Domain {}

impl std::fmt::Debug for Domain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Domain")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

impl Domain {
    /// Finds a domain by its UUID in text. May block.
    ///
    /// # Errors
    /// There is none ([`code::NO_DOMAIN`](super::code::NO_DOMAIN)), or the call failed.
    pub(crate) fn lookup(connection: &Arc<Connection>, uuid: &str) -> Result<Self, LibvirtError> {
        let uuid =
            CString::new(uuid).map_err(|_| LibvirtError::local("a UUID contains a zero byte"))?;
        // SAFETY: the connection is alive; `uuid` ends in NUL and lives through the call.
        let ptr =
            unsafe { virt_sys::virDomainLookupByUUIDString(connection.as_ptr(), uuid.as_ptr()) };
        let ptr = NonNull::new(ptr).ok_or_else(LibvirtError::last)?;
        Ok(Self {
            ptr,
            connection: Arc::clone(connection),
        })
    }

    /// The UUIDs of all domains, running or not, [`MAX_DOMAINS`] at most. May block.
    ///
    /// # Errors
    /// The call failed.
    pub(crate) fn list(connection: &Connection) -> Result<Vec<Uuid>, LibvirtError> {
        let mut array: *mut virt_sys::virDomainPtr = std::ptr::null_mut();
        // SAFETY: the connection is alive; libvirt sets `array` to an array of ours to free.
        let count =
            unsafe { virt_sys::virConnectListAllDomains(connection.as_ptr(), &raw mut array, 0) };
        check(count)?;
        let count = usize::try_from(count).unwrap_or(0);
        let mut uuids = Vec::with_capacity(count.min(MAX_DOMAINS));
        for index in 0..count {
            // SAFETY: `array` has `count` domains, each a reference of ours that is freed once.
            unsafe {
                let domain = *array.add(index);
                if uuids.len() < MAX_DOMAINS {
                    uuids.extend(uuid_of(domain));
                }
                virt_sys::virDomainFree(domain);
            }
        }
        if !array.is_null() {
            // SAFETY: libvirt allocated the array with malloc, and it is freed once.
            unsafe { free(array.cast()) };
        }
        Ok(uuids)
    }

    /// The raw pointer, valid as long as `self`.
    pub(super) fn as_ptr(&self) -> virt_sys::virDomainPtr {
        self.ptr.as_ptr()
    }

    /// The connection that it was found on.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The number of its run, as of when it was looked up; `None` of one that is off.
    pub(crate) fn id(&self) -> Option<u32> {
        // SAFETY: the pointer is a domain's as long as this value is there.
        unsafe { id_of(self.as_ptr()) }
    }

    /// Its name, at most 1 KiB of it.
    pub(crate) fn name(&self) -> String {
        // SAFETY: the domain is alive and owns the string, which is copied.
        bounded_text(
            unsafe { virt_sys::virDomainGetName(self.as_ptr()) },
            MAX_NAME_BYTES,
        )
    }

    /// What it is doing. May block.
    ///
    /// # Errors
    /// It is gone, or the call failed.
    pub(crate) fn state(&self) -> Result<RawState, LibvirtError> {
        let (mut state, mut reason): (c_int, c_int) = (0, 0);
        // SAFETY: the domain is alive; both numbers outlive the call.
        check(unsafe {
            virt_sys::virDomainGetState(self.as_ptr(), &raw mut state, &raw mut reason, 0)
        })?;
        Ok(match u32::try_from(state) {
            Ok(virt_sys::VIR_DOMAIN_RUNNING | virt_sys::VIR_DOMAIN_BLOCKED) => RawState::Running,
            Ok(virt_sys::VIR_DOMAIN_PAUSED) => RawState::Paused,
            Ok(virt_sys::VIR_DOMAIN_SHUTDOWN) => RawState::ShuttingDown,
            Ok(virt_sys::VIR_DOMAIN_SHUTOFF)
                if u32::try_from(reason) == Ok(virt_sys::VIR_DOMAIN_SHUTOFF_MIGRATED) =>
            {
                RawState::Moved
            }
            Ok(virt_sys::VIR_DOMAIN_SHUTOFF) => RawState::Off,
            Ok(virt_sys::VIR_DOMAIN_CRASHED) => RawState::Crashed,
            Ok(virt_sys::VIR_DOMAIN_PMSUSPENDED) => RawState::Suspended,
            _ => RawState::None,
        })
    }

    /// Its definition, without secrets: the running one's if it runs. May block.
    ///
    /// # Errors
    /// It is gone, the call failed, or the definition is longer than [`MAX_XML_BYTES`].
    pub(crate) fn xml(&self) -> Result<String, LibvirtError> {
        // SAFETY: the domain is alive.
        let text = unsafe { virt_sys::virDomainGetXMLDesc(self.as_ptr(), 0) };
        if text.is_null() {
            return Err(LibvirtError::last());
        }
        let xml = bounded_text(text, MAX_XML_BYTES + 1);
        // SAFETY: libvirt allocated the text with malloc, and it is freed once.
        unsafe { free(text.cast()) };
        if xml.len() > MAX_XML_BYTES {
            return Err(LibvirtError::local(
                "the domain's definition is longer than 4 MiB",
            ));
        }
        Ok(xml)
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: the reference is ours and is given back once.
        unsafe { virt_sys::virDomainFree(self.as_ptr()) };
    }
}

unsafe extern "C" {
    /// The C library's `free`, which is what libvirt's documentation asks for.
    pub(super) fn free(memory: *mut c_void);
}

/// A domain's UUID.
///
/// # Safety
/// `domain` must be null or a live domain.
pub(super) unsafe fn uuid_of(domain: virt_sys::virDomainPtr) -> Option<Uuid> {
    let mut text = [0 as c_char; UUID_STRING_BYTES];
    // SAFETY: the caller vouches for `domain`, and libvirt refuses null; the buffer has the
    // length that libvirt documents (VIR_UUID_STRING_BUFLEN).
    let answer = unsafe { virt_sys::virDomainGetUUIDString(domain, text.as_mut_ptr()) };
    if answer < 0 {
        return None;
    }
    Uuid::try_parse(&bounded_text(text.as_ptr(), UUID_STRING_BYTES)).ok()
}

/// The id of a domain's run, as the object has it; asks nobody.
///
/// # Safety
/// `domain` must be null or a live domain.
pub(super) unsafe fn id_of(domain: virt_sys::virDomainPtr) -> Option<u32> {
    // SAFETY: the caller vouches for `domain`, and libvirt refuses null.
    let id = unsafe { virt_sys::virDomainGetID(domain) };
    // (unsigned int) -1 stands for a domain that is off, and for an error.
    (id != c_uint::MAX).then_some(id)
}
