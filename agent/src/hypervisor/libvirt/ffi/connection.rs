//! A connection to libvirtd. It refuses to be disposed of on the event loop's thread, or on
//! whichever thread happens to drop it.

use std::ffi::{CString, c_int, c_ulong, c_void};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

use super::DomainEvent;
use super::domain_event::{Subscription, subscribe};
use super::error::LibvirtError;
use super::event_loop;
use super::registry::{Key, Registry};

/// Keepalive on a connection that is being closed: probes each second, and gives up when two
/// went unanswered. Without it, saying goodbye to a libvirtd that does not read hangs.
const CLOSING_KEEPALIVE: (u32, u32) = (1, 2);
/// Keepalive on a connection that is given up: after a second of silence it closes, without a
/// probe.
const GIVE_UP_KEEPALIVE: (u32, u32) = (1, 0);

/// Why a connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// An I/O error.
    Error,
    /// The far side closed: libvirtd stopped, or threw the client out.
    Eof,
    /// Keepalive probes went unanswered.
    Keepalive,
    /// This side closed.
    Client,
    /// A number that libvirt 9.0 does not know.
    Other(i32),
}

impl CloseReason {
    fn from_raw(reason: c_int) -> Self {
        match u32::try_from(reason) {
            Ok(virt_sys::VIR_CONNECT_CLOSE_REASON_ERROR) => Self::Error,
            Ok(virt_sys::VIR_CONNECT_CLOSE_REASON_EOF) => Self::Eof,
            Ok(virt_sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE) => Self::Keepalive,
            Ok(virt_sys::VIR_CONNECT_CLOSE_REASON_CLIENT) => Self::Client,
            _ => Self::Other(reason),
        }
    }
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error => f.write_str("libvirt's connection broke"),
            Self::Eof => f.write_str("libvirtd closed the connection"),
            Self::Keepalive => f.write_str("libvirtd stopped answering"),
            Self::Client => f.write_str("the connection was closed from this side"),
            Self::Other(number) => write!(f, "libvirt's connection closed (reason {number})"),
        }
    }
}

type OnClose = dyn Fn(CloseReason) + Send + Sync;
static ON_CLOSE: Registry<OnClose> = Registry::new();

unsafe extern "C" fn closed(_conn: virt_sys::virConnectPtr, reason: c_int, opaque: *mut c_void) {
    ON_CLOSE.with(opaque, |on_close| on_close(CloseReason::from_raw(reason)));
}

/// One reference to a `virConnect` with what hangs on it. Dropping it forgets it; letting go
/// is [`Handle::dismantle`].
struct Handle {
    ptr: NonNull<virt_sys::_virConnect>,
    on_close: Option<Key>,
    subscriptions: Vec<Subscription>,
}

// SAFETY: libvirt locks a connection's state itself and allows calls from any thread.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    /// Lets go of the connection and waits until libvirtd has said goodbye. May block, for
    /// about three seconds if libvirtd does not read.
    fn dismantle(self) {
        let ptr = self.ptr.as_ptr();
        // SAFETY: `ptr` is a live connection of ours until the last call here. Failures are
        // of no use: what they fail to undo goes with the connection.
        unsafe {
            virt_sys::virConnectSetKeepAlive(
                ptr,
                CLOSING_KEEPALIVE.0.cast_signed(),
                CLOSING_KEEPALIVE.1,
            );
            for subscription in &self.subscriptions {
                subscription.cancel(ptr);
            }
            if let Some(key) = self.on_close {
                virt_sys::virConnectUnregisterCloseCallback(ptr, Some(closed));
                ON_CLOSE.remove(key);
            }
        }
        // A callback that still runs holds a C reference. If it were the last one, the
        // goodbye would happen on the loop's thread.
        event_loop::barrier();
        // SAFETY: the reference is ours and is given back once.
        unsafe { virt_sys::virConnectClose(ptr) };
    }
}

/// A connection to libvirtd.
pub(crate) struct Connection {
    handle: ManuallyDrop<Mutex<Handle>>,
    ptr: NonNull<virt_sys::_virConnect>,
}

// SAFETY: as for `Handle`; `ptr` is the same pointer, kept outside the lock for calls.
unsafe impl Send for Connection {}
// SAFETY: as above.
unsafe impl Sync for Connection {}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Opens a connection. May block for as long as libvirtd does not answer.
    ///
    /// # Errors
    /// The URI is not one, libvirtd does not run, or it refuses.
    pub(crate) fn open(uri: &str) -> Result<Self, LibvirtError> {
        event_loop::start()?;
        let uri = CString::new(uri)
            .map_err(|_| LibvirtError::local("the libvirt URI contains a zero byte"))?;
        // SAFETY: `uri` ends in NUL and lives through the call.
        let ptr = unsafe { virt_sys::virConnectOpen(uri.as_ptr()) };
        let ptr = NonNull::new(ptr).ok_or_else(LibvirtError::last)?;
        let handle = Handle {
            ptr,
            on_close: None,
            subscriptions: Vec::new(),
        };
        Ok(Self {
            handle: ManuallyDrop::new(Mutex::new(handle)),
            ptr,
        })
    }

    /// The raw pointer, valid as long as `self`.
    pub(super) fn as_ptr(&self) -> virt_sys::virConnectPtr {
        self.ptr.as_ptr()
    }

    /// Has libvirt probe the far side: after `interval` seconds of silence, each `interval`
    /// seconds, until `count` probes went unanswered, and then close the connection.
    ///
    /// Does not wait for anything. A connection that is probed already keeps its pace.
    ///
    /// # Errors
    /// The connection is closed, or is probed already.
    pub(crate) fn set_keepalive(&self, interval: u32, count: u32) -> Result<(), LibvirtError> {
        let interval = c_int::try_from(interval).unwrap_or(c_int::MAX);
        // SAFETY: the connection is alive as long as `self`.
        check(unsafe { virt_sys::virConnectSetKeepAlive(self.as_ptr(), interval, count) })
    }

    /// Closes this side of the connection as soon as nothing has come over it for a second, so
    /// that whatever waits on it comes back. For a connection that is to be closed, and on
    /// which somebody waits. Does not wait.
    pub(crate) fn give_up(&self) {
        if let Err(error) = self.set_keepalive(GIVE_UP_KEEPALIVE.0, GIVE_UP_KEEPALIVE.1) {
            tracing::trace!(%error, "a connection to give up is closed or probed already");
        }
    }

    /// Asks libvirtd for something trivial, of high priority, that no VM is needed for. May
    /// block. libvirtd reads a connection's messages in order, so an answer says that it has
    /// read all that was sent before.
    ///
    /// # Errors
    /// The connection is closed.
    pub(crate) fn ping(&self) -> Result<(), LibvirtError> {
        let mut version: c_ulong = 0;
        // SAFETY: the connection is alive as long as `self`; `version` outlives the call.
        check(unsafe { virt_sys::virConnectGetLibVersion(self.as_ptr(), &raw mut version) })
    }

    /// Has `on_close` called when the connection closes by itself, on any thread; it must
    /// neither wait nor call into libvirt. May block. At most one for a connection.
    ///
    /// # Errors
    /// The connection is closed, or has such a callback.
    pub(crate) fn on_close(
        &self,
        on_close: impl Fn(CloseReason) + Send + Sync + 'static,
    ) -> Result<(), LibvirtError> {
        let mut handle = self.handle.lock();
        if handle.on_close.is_some() {
            return Err(LibvirtError::local("the connection has a close callback"));
        }
        let key = ON_CLOSE.insert(Arc::new(on_close));
        // SAFETY: the connection is alive; `closed` treats its opaque argument as a number.
        let registered = check(unsafe {
            virt_sys::virConnectRegisterCloseCallback(
                self.as_ptr(),
                Some(closed),
                key.opaque(),
                None,
            )
        });
        match registered {
            Ok(()) => handle.on_close = Some(key),
            Err(_) => ON_CLOSE.remove(key),
        }
        registered
    }

    /// Has `on_event` called for what happens to any domain, on the event loop's thread; it
    /// must not wait. May block.
    ///
    /// # Errors
    /// The connection is closed, or may not have events. Nothing is subscribed then.
    pub(crate) fn on_domain_event(
        &self,
        on_event: impl Fn(DomainEvent) + Send + Sync + 'static,
    ) -> Result<(), LibvirtError> {
        let subscription = subscribe(self.as_ptr(), Arc::new(on_event))?;
        self.handle.lock().subscriptions.push(subscription);
        Ok(())
    }

    /// Closes the connection and waits for libvirtd's goodbye. May block, for about three
    /// seconds at most.
    pub(crate) fn close(self) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so its handle is taken once.
        unsafe { ManuallyDrop::take(&mut this.handle) }
            .into_inner()
            .dismantle();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: this is the only drop, and `close` skips it.
        let handle = unsafe { ManuallyDrop::take(&mut self.handle) }.into_inner();
        let spawned = thread::Builder::new()
            .name("libvirt-close".to_owned())
            .spawn(move || handle.dismantle());
        if let Err(error) = spawned {
            // Closing here could block the event loop; libvirtd frees it when we exit.
            tracing::error!(%error, "no thread to close a libvirt connection; it stays open");
        }
    }
}

/// An error unless the call answered zero or more.
pub(super) fn check(answer: c_int) -> Result<(), LibvirtError> {
    if answer < 0 {
        Err(LibvirtError::last())
    } else {
        Ok(())
    }
}
