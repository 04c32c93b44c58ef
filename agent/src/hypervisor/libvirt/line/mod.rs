//! One console while it is attached: its connection, its stream, and the two directions.
//!
//! ```text
//!  opening ──▶ open ──▶ over: ended by itself, the sink is told ──▶ released
//!     └──────────┴────▶ over: closed by us, nobody is told ───────▶ released
//! ```
//! Output goes to the sink on libvirt's event loop thread. Opening, sending and releasing
//! happen on the console's own lane, one after another, so that nothing of another console
//! waits for this one.

mod receive;
mod send;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Shared;
use super::console_error::opening;
use super::counters::Held;
use super::ffi::event_loop;
use super::ffi::{CloseReason, Connection, Domain, LibvirtError, Stream, StreamDevice};
use super::input::Input;
use super::lane::{Lane, LaneError};
use super::xml::CHANNEL_PREFIX;
use crate::core::id::ConsoleId;
use crate::endpoint::{Claim, EndpointError, OutputSink};

/// How long libvirtd may take to let a console go before the connection is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(1);
/// How long that may take before libvirtd is made to end the connection.
const UNBLOCK_AFTER: Duration = Duration::from_secs(3);

/// Where output goes.
enum Tap {
    /// Nowhere yet.
    Opening,
    /// To the sink.
    Open(Arc<dyn OutputSink>),
    /// Nowhere any more, and why.
    Over(String),
}

/// An attached console.
pub(super) struct Line {
    console: ConsoleId,
    shared: Arc<Shared>,
    lane: Lane,
    tap: Mutex<Tap>,
    connection: Mutex<Option<Arc<Connection>>>,
    stream: Mutex<Option<Arc<Stream>>>,
    /// How often bytes were received.
    received: AtomicU64,
    input: Mutex<Input>,
    /// Rings when there is something new of input that was handed over.
    news: Notify,
    _gauge: Held,
}

impl Line {
    /// A console that is not open yet.
    pub(super) fn new(shared: Arc<Shared>, console: ConsoleId) -> Arc<Self> {
        Arc::new(Self {
            _gauge: Held::new(&shared.counters, |c| &c.attached),
            console,
            lane: Lane::new("libvirt-console"),
            tap: Mutex::new(Tap::Opening),
            connection: Mutex::default(),
            stream: Mutex::default(),
            received: AtomicU64::new(0),
            input: Mutex::default(),
            news: Notify::new(),
            shared,
        })
    }

    /// How long to wait for libvirt at most.
    pub(super) fn patience(&self) -> Duration {
        self.shared.config.call_timeout
    }

    /// Runs `work` on the console's own thread, after what was given to it before.
    pub(super) fn run(&self, work: impl FnOnce() + Send + 'static) -> Result<(), LaneError> {
        self.lane.run(work)
    }

    /// Opens the console, with output to `sink` from then on. May block. `connecting` is
    /// dropped once libvirtd has answered. Others are displaced only by [`Claim::Displace`].
    ///
    /// # Errors
    /// See [`EndpointError`]; the sink is not told of anything then.
    pub(super) fn open<P>(
        self: &Arc<Self>,
        sink: Arc<dyn OutputSink>,
        claim: Claim,
        connecting: P,
    ) -> Result<(), EndpointError> {
        self.open_stream(claim, connecting)
            .and_then(|stream| self.let_flow(&stream, sink))
    }

    fn open_stream<P>(
        self: &Arc<Self>,
        claim: Claim,
        connecting: P,
    ) -> Result<Arc<Stream>, EndpointError> {
        self.still_wanted()?;
        let connection = Connection::open(&self.shared.config.uri).map_err(|e| opening(&e))?;
        drop(connecting);
        let connection = Arc::new(connection);
        *self.connection.lock() = Some(Arc::clone(&connection));
        self.still_wanted()?;
        let line = Arc::downgrade(self);
        let on_close = move |reason: CloseReason| {
            // libvirt holds a lock here, and the thread may be any.
            let Some(line) = line.upgrade() else { return };
            let lost = move |line: &Arc<Self>| line.lost(reason.to_string());
            if let Err(error) = line.after(Duration::ZERO, lost) {
                tracing::error!(console = %line.console, %error, "its end is not told");
            }
        };
        connection.on_close(on_close).map_err(|e| opening(&e))?;
        let uuid = self.console.vm.to_string();
        let domain = Domain::lookup(&connection, &uuid).map_err(|e| opening(&e))?;
        let alias = self.console.alias.as_str();
        let device = match alias.strip_prefix(CHANNEL_PREFIX) {
            Some(name) => StreamDevice::Channel(name),
            None => StreamDevice::Console(alias),
        };
        let stream = Stream::open(&domain, device, claim == Claim::Displace);
        stream.map(Arc::new).map_err(|e| opening(&e))
    }

    /// Connects stream and sink.
    fn let_flow(
        self: &Arc<Self>,
        stream: &Arc<Stream>,
        sink: Arc<dyn OutputSink>,
    ) -> Result<(), EndpointError> {
        *self.stream.lock() = Some(Arc::clone(stream));
        {
            let mut tap = self.tap.lock();
            if let Tap::Over(why) = &*tap {
                return Err(EndpointError::Unreachable(why.clone()));
            }
            *tap = Tap::Open(sink);
        }
        let line = Arc::downgrade(self);
        let ready = move |readiness| line.upgrade().is_some_and(|line| line.ready(readiness));
        stream.on_ready(ready).map_err(|error| {
            *self.tap.lock() = Tap::Over("the stream could not be watched".to_owned());
            opening(&error)
        })
    }

    /// An error if the attachment was given up, or lost, meanwhile.
    fn still_wanted(&self) -> Result<(), EndpointError> {
        match &*self.tap.lock() {
            Tap::Over(why) => Err(EndpointError::Unreachable(why.clone())),
            Tap::Opening | Tap::Open(_) => Ok(()),
        }
    }

    /// Ends the flow from this side: the sink is called no more, not even to be told so. To be
    /// followed by [`Line::release`] on the lane, and sees to it that this comes to an end.
    /// Does not wait.
    pub(super) fn close(self: &Arc<Self>, why: &str) {
        let tap = std::mem::replace(&mut *self.tap.lock(), Tap::Over(why.to_owned()));
        drop(tap);
        self.news.notify_one();
        let hurry = self.after(GIVE_UP_AFTER, |line| {
            if let Some(connection) = &*line.connection.lock() {
                connection.give_up();
            }
        });
        let unblock = self.after(UNBLOCK_AFTER, |line| line.unblock());
        if let Err(error) = hurry.and(unblock) {
            tracing::error!(console = %self.console, %error, "letting go may take long");
        }
    }

    /// Has `work` done on the event loop's thread, unless the console is gone by then.
    fn after(
        self: &Arc<Self>,
        delay: Duration,
        work: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> Result<(), LibvirtError> {
        let line = Arc::downgrade(self);
        event_loop::run_after(delay, move || {
            if let Some(line) = line.upgrade() {
                work(&line);
            }
        })
    }

    /// Has libvirtd end a connection that does not fall silent, because the guest writes all
    /// the time and reads nothing.
    fn unblock(&self) {
        let Some(stream) = self.stream.lock().clone() else {
            return;
        };
        let sent = Lane::new("libvirt-unblock").run(move || {
            if let Err(error) = stream.send_empty() {
                tracing::trace!(%error, "the stream to unblock is over");
            }
        });
        if let Err(error) = sent {
            tracing::error!(console = %self.console, %error, "letting go may take long");
        }
    }

    /// Lets the console go, after [`Line::close`], and waits until others may have it. May
    /// block: for a moment where the guest reads its input, else for a second, and for up to
    /// 30 s where the guest also writes all the time. Where it has left much input unread,
    /// libvirtd may refuse the console to all, as held, for as long.
    pub(super) fn release(&self) {
        let stream = self.stream.lock().clone();
        if let Some(stream) = stream {
            // What still comes is received, into nothing: it would pile up in libvirt.
            if let Err(error) = stream.abort() {
                tracing::debug!(console = %self.console, %error, "the console was not let go");
            }
            stream.stop_ready();
            *self.stream.lock() = None;
        }
        let Some(connection) = self.connection.lock().take() else {
            return;
        };
        // A callback on the loop's thread may still hold the stream, and with it the
        // connection.
        event_loop::barrier();
        match Arc::try_unwrap(connection) {
            Ok(connection) => connection.close(),
            // Whoever has it drops it, which closes it.
            Err(connection) => drop(connection),
        }
    }
}
