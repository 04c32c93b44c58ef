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
use super::counters::{Counters, Held};
use super::ffi::event_loop;
use super::ffi::{CloseReason, Connection, Domain, Stream};
use super::input::Input;
use super::lane::{Lane, LaneError};
use crate::core::id::ConsoleId;
use crate::endpoint::{EndpointError, OutputSink};

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
    /// Rings when input may be offered again.
    room: Notify,
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
            room: Notify::new(),
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
    /// dropped once libvirtd has answered.
    ///
    /// # Errors
    /// See [`EndpointError`]; the sink is not told of anything then.
    pub(super) fn open<P>(
        self: &Arc<Self>,
        sink: Arc<dyn OutputSink>,
        connecting: P,
    ) -> Result<(), EndpointError> {
        let opened = self
            .open_stream(connecting)
            .and_then(|stream| self.let_flow(&stream, sink));
        let counters = &self.shared.counters;
        Counters::bump(match &opened {
            Ok(()) => &counters.attaches,
            Err(error) => {
                tracing::debug!(console = %self.console, %error, "the console was not opened");
                &counters.attaches_failed
            }
        });
        opened
    }

    fn open_stream<P>(self: &Arc<Self>, connecting: P) -> Result<Arc<Stream>, EndpointError> {
        self.still_wanted()?;
        let connection = Connection::open(&self.shared.config.uri).map_err(|e| opening(&e))?;
        drop(connecting);
        let connection = Arc::new(connection);
        *self.connection.lock() = Some(Arc::clone(&connection));
        self.still_wanted()?;
        let line = Arc::downgrade(self);
        let on_close = move |reason: CloseReason| {
            // libvirt holds a lock here, and the thread may be any.
            let line = line.clone();
            let told = event_loop::run_soon(move || {
                if let Some(line) = line.upgrade() {
                    line.lost(reason.to_string());
                }
            });
            if let Err(error) = told {
                tracing::error!(%error, "a console's end is not told");
            }
        };
        connection.on_close(on_close).map_err(|e| opening(&e))?;
        let uuid = self.console.vm.to_string();
        let domain = Domain::lookup(&connection, &uuid).map_err(|e| opening(&e))?;
        let stream = Stream::open_console(&domain, self.console.alias.as_str());
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
            self.close("the stream could not be watched");
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

    /// Ends the flow from this side: the sink is called no more, not even to be told so.
    /// Whatever waits for libvirtd on the lane comes back within about three seconds. Does
    /// not wait.
    pub(super) fn close(&self, why: &str) {
        let tap = std::mem::replace(&mut *self.tap.lock(), Tap::Over(why.to_owned()));
        drop(tap);
        if let Some(connection) = &*self.connection.lock() {
            connection.stop_waiting();
        }
        self.room.notify_one();
    }

    /// Lets the console go, after [`Line::close`], and waits until others may have it. May
    /// block, for about three seconds at most while libvirtd runs.
    pub(super) fn release(&self) {
        let stream = self.stream.lock().take();
        if let Some(stream) = &stream {
            stream.stop_ready();
        }
        drop(stream);
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
        // libvirtd says goodbye first and frees the console right after, in the same turn of
        // its loop. An answer that it gives later proves that the turn is over.
        let unit = self.shared.unit.read().clone();
        if let Some(unit) = unit
            && let Err(error) = unit.events.ping()
        {
            tracing::debug!(%error, "libvirtd is gone, and with it every claim to a console");
        }
    }
}
