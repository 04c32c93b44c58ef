//! A byte stream of a console, which never waits for bytes to come, or of a picture, which
//! does. Whoever opens one gives it a connection of its own: see [`Stream::abort`].

use std::collections::BTreeMap;
use std::ffi::{CString, c_int, c_uint, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

use parking_lot::Mutex;

use super::connection::check;
use super::error::LibvirtError;
use super::registry::{Key, Registry};
use super::{Connection, Domain};

/// libvirt's answer where a call would have to wait.
const WOULD_BLOCK: c_int = -2;

/// How many empty messages are sent. libvirtd takes five requests from a connection at a time,
/// unless it is configured otherwise (`max_client_requests`).
const EMPTY_MESSAGES: usize = 64;

/// What a stream can do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// There is something to receive: bytes, an end or an error.
    pub(crate) readable: bool,
    /// Something can be sent.
    pub(crate) writable: bool,
}

/// What of a domain a stream is opened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamDevice<'a> {
    /// A console or serial port, by its alias.
    Console(&'a str),
    /// A channel, by the name that the guest knows.
    Channel(&'a str),
}

/// What [`Stream::receive`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing yet.
    WouldBlock,
    /// The far side closed.
    Eof,
}

/// Answers whether there were bytes.
type OnReady = dyn Fn(Readiness) -> bool + Send + Sync;
static ON_READY: Registry<OnReady> = Registry::new();

/// The streams that bytes came on lately, and how many sweeps each is still asked in.
static BUSY: Mutex<BTreeMap<Key, u32>> = Mutex::new(BTreeMap::new());
/// In how many sweeps a stream is asked in vain before it is no longer busy.
const SWEEPS: u32 = 16;

unsafe extern "C" fn ready(_: virt_sys::virStreamPtr, events: c_int, opaque: *mut c_void) {
    let is = |event: virt_sys::virStreamEventType| events & event as c_int != 0;
    let readiness = Readiness {
        readable: is(virt_sys::VIR_STREAM_EVENT_READABLE)
            || is(virt_sys::VIR_STREAM_EVENT_ERROR)
            || is(virt_sys::VIR_STREAM_EVENT_HANGUP),
        writable: is(virt_sys::VIR_STREAM_EVENT_WRITABLE),
    };
    ask(Key::from_opaque(opaque), readiness);
}

fn ask(key: Key, readiness: Readiness) {
    ON_READY.with(key.opaque(), |on_ready| {
        if on_ready(readiness) {
            BUSY.lock().insert(key, SWEEPS);
        }
    });
}

/// Asks the busy streams for what has come. On the event loop's thread.
///
/// libvirt tells of bytes by a timer that it sets anew with each message. While messages keep
/// coming to a connection, glib finds its socket ready in every turn and the timer in none:
/// without this, a flood was seen to be told of 18 times a second.
pub(super) fn sweep() {
    let mut busy = Vec::new();
    BUSY.lock().retain(|key, sweeps| {
        *sweeps -= 1;
        busy.push(*key);
        *sweeps > 0
    });
    for key in busy {
        ask(
            key,
            Readiness {
                readable: true,
                writable: false,
            },
        );
    }
}

/// An open console. To be aborted before it is dropped: else libvirt leaks some 5 KiB
/// (`virNetClientDispose` forgets its streams), and the console stays claimed until the
/// connection closes.
pub(crate) struct Stream {
    ptr: NonNull<virt_sys::_virStream>,
    callback: Mutex<Option<Key>>,
    connection: Arc<Connection>,
}

// SAFETY: a virStream is a counted object; the remote and the fd stream drivers lock their
// state and allow calls from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Stream {
    /// Opens a domain's device, and takes it from whoever has it only with `force`. May block.
    ///
    /// # Errors
    /// libvirtd's refusal: held, not there yet, not running, no such device, no permission.
    pub(crate) fn open(
        domain: &Domain,
        device: StreamDevice<'_>,
        force: bool,
    ) -> Result<Self, LibvirtError> {
        let (StreamDevice::Console(name) | StreamDevice::Channel(name)) = device;
        let name = CString::new(name)
            .map_err(|_| LibvirtError::local("a console's name contains a zero byte"))?;
        let stream = Self::new(domain.connection(), virt_sys::VIR_STREAM_NONBLOCK)?;
        let (domain, name, to) = (domain.as_ptr(), name.as_ptr(), stream.as_ptr());
        // Without FORCE the flags are 0, and not SAFE either, which drivers need not know.
        let force = u32::from(force);
        check(match device {
            StreamDevice::Console(_) => {
                let flags = force * virt_sys::VIR_DOMAIN_CONSOLE_FORCE;
                // SAFETY: domain and stream are alive; `name` ends in NUL and lives through
                // the call.
                unsafe { virt_sys::virDomainOpenConsole(domain, name, to, flags) }
            }
            StreamDevice::Channel(_) => {
                let flags = force * virt_sys::VIR_DOMAIN_CHANNEL_FORCE;
                // SAFETY: as above.
                unsafe { virt_sys::virDomainOpenChannel(domain, name, to, flags) }
            }
        })?;
        Ok(stream)
    }

    /// A stream that nothing was opened on yet. `flags`: `VIR_STREAM_NONBLOCK` or 0.
    pub(super) fn new(connection: &Arc<Connection>, flags: c_uint) -> Result<Self, LibvirtError> {
        // SAFETY: the connection is alive.
        let ptr = unsafe { virt_sys::virStreamNew(connection.as_ptr(), flags) };
        Ok(Self {
            ptr: NonNull::new(ptr).ok_or_else(LibvirtError::last)?,
            callback: Mutex::new(None),
            connection: Arc::clone(connection),
        })
    }

    /// Says that all was received. May block.
    ///
    /// # Errors
    /// The far side has an error to tell of what it sent.
    pub(super) fn finish(&self) -> Result<(), LibvirtError> {
        // SAFETY: the stream is alive.
        check(unsafe { virt_sys::virStreamFinish(self.as_ptr()) })
    }

    /// The raw pointer, valid as long as `self`.
    pub(super) fn as_ptr(&self) -> virt_sys::virStreamPtr {
        self.ptr.as_ptr()
    }

    /// The connection that it is on.
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Takes what has come, into the beginning of `buffer`. Does not wait, unless the stream
    /// was made to.
    ///
    /// # Errors
    /// The stream is broken: aborted by the far side, or its connection is closed. (A dead
    /// libvirtd does not show here: the answer stays [`Received::WouldBlock`].)
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<Received, LibvirtError> {
        // SAFETY: the stream is alive; libvirt writes at most `buffer.len()` bytes.
        let answer = unsafe {
            virt_sys::virStreamRecv(self.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
        };
        match usize::try_from(answer) {
            Ok(0) => Ok(Received::Eof),
            Ok(count) => Ok(Received::Bytes(count.min(buffer.len()))),
            Err(_) if answer == WOULD_BLOCK => Ok(Received::WouldBlock),
            Err(_) => Err(LibvirtError::last()),
        }
    }

    /// Sends the beginning of `bytes` and tells how many were taken; `None` if it would have
    /// to wait for the stream to become writable.
    ///
    /// May block all the same: libvirt's remote driver writes to libvirtd's socket and waits
    /// until it has, and libvirtd stops reading when a guest has not read five messages.
    /// Taken means that the socket has it; nothing tells when the guest does.
    ///
    /// # Errors
    /// The stream or its connection is broken.
    pub(crate) fn send(&self, bytes: &[u8]) -> Result<Option<usize>, LibvirtError> {
        // SAFETY: the stream is alive; libvirt reads at most `bytes.len()` bytes.
        let answer =
            unsafe { virt_sys::virStreamSend(self.as_ptr(), bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(answer) {
            Ok(count) => Ok(Some(count.min(bytes.len()))),
            Err(_) if answer == WOULD_BLOCK => Ok(None),
            Err(_) => Err(LibvirtError::last()),
        }
    }

    /// Lets the console go. May block until the guest has read its input: libvirtd takes up an
    /// abort only when the console can be written to. Nothing on this side ends that but the
    /// end of the connection ([`Connection::give_up`]).
    ///
    /// # Errors
    /// The connection closed. libvirtd frees the console when it notices: at once, or within
    /// 30 s (with its usual keepalive) where it has stopped reading the connection.
    pub(crate) fn abort(&self) -> Result<(), LibvirtError> {
        // SAFETY: the stream is alive.
        check(unsafe { virt_sys::virStreamAbort(self.as_ptr()) })
    }

    /// Sends messages without a byte, which a guest never sees. Where input flows they cost
    /// nothing. Where it does not, they use up the requests that libvirtd takes from the
    /// connection at a time, it hears no answer to its probes any more, and closes the
    /// connection. May block.
    ///
    /// # Errors
    /// The connection closed.
    pub(crate) fn send_empty(&self) -> Result<(), LibvirtError> {
        (0..EMPTY_MESSAGES).try_for_each(|_| self.send(&[]).map(drop))
    }

    /// Has `on_ready` called, on the event loop's thread, again and again while there is
    /// something to receive, and now and then when there is not. It answers whether it
    /// received bytes. It must not wait, and may do anything to the stream.
    ///
    /// # Errors
    /// There is such a callback already, or libvirt could not add it.
    pub(crate) fn on_ready(
        &self,
        on_ready: impl Fn(Readiness) -> bool + Send + Sync + 'static,
    ) -> Result<(), LibvirtError> {
        let mut callback = self.callback.lock();
        if callback.is_some() {
            return Err(LibvirtError::local("the stream has a callback"));
        }
        let key = ON_READY.insert(Arc::new(on_ready));
        // SAFETY: the stream is alive; `ready` treats its opaque argument as a number.
        let added = check(unsafe {
            virt_sys::virStreamEventAddCallback(
                self.as_ptr(),
                virt_sys::VIR_STREAM_EVENT_READABLE as c_int,
                Some(ready),
                key.opaque(),
                None,
            )
        });
        match added {
            Ok(()) => *callback = Some(key),
            Err(_) => ON_READY.remove(key),
        }
        added
    }

    /// Whether the callback is called for being writable, too.
    ///
    /// # Errors
    /// There is no callback.
    pub(crate) fn want_writable(&self, wanted: bool) -> Result<(), LibvirtError> {
        let mut events = virt_sys::VIR_STREAM_EVENT_READABLE;
        if wanted {
            events |= virt_sys::VIR_STREAM_EVENT_WRITABLE;
        }
        // SAFETY: the stream is alive.
        check(unsafe { virt_sys::virStreamEventUpdateCallback(self.as_ptr(), events as c_int) })
    }

    /// Ends the callbacks. One that runs on another thread may go on to its end.
    pub(crate) fn stop_ready(&self) {
        let Some(key) = self.callback.lock().take() else {
            return;
        };
        ON_READY.remove(key);
        BUSY.lock().remove(&key);
        // SAFETY: the stream is alive. If it fails, the number stands for nothing.
        unsafe { virt_sys::virStreamEventRemoveCallback(self.as_ptr()) };
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop_ready();
        // SAFETY: the reference is ours and is given back once. It is not the connection's
        // last: `connection` has one.
        unsafe { virt_sys::virStreamFree(self.as_ptr()) };
    }
}
