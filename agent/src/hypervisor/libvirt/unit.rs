//! The two connections that the inventory lives on, one for events and one for calls, which
//! come and go together. (A console's stream has a connection of its own.)

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use super::counters::Counters;
use super::dirty::Dirty;
use super::ffi::{CloseReason, Connection, DomainEventKind, LibvirtError};
use super::resets::Resets;
use crate::core::id::VmUuid;
use crate::hypervisor::Instance;

/// libvirtd is probed after this many seconds of silence, and again after as many.
const KEEPALIVE_INTERVAL_S: u32 = 5;
/// After this many unanswered probes the connection is closed.
const KEEPALIVE_PROBES: u32 = 3;

/// The connections for events and calls.
pub(super) struct Unit {
    /// Carries events. Nothing is asked over it: it has to be there.
    _events: Connection,
    /// Carries the calls.
    pub(super) calls: Arc<Connection>,
    closed: watch::Receiver<Option<CloseReason>>,
}

/// Has a connection closed whose libvirtd does not answer any more.
pub(super) fn keep_alive(connection: &Connection) {
    if let Err(error) = connection.set_keepalive(KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES) {
        // Not every driver has it (a QEMU driver inside this process has none).
        tracing::debug!(%error, "no keepalive on a libvirt connection");
    }
}

impl Unit {
    /// Connects, and has events add to `dirty`, and resets be noted in `resets`. May block for as
    /// long as libvirtd does not answer.
    pub(super) fn connect(
        uri: &str,
        dirty: &Arc<Dirty>,
        resets: &Arc<Resets>,
        counters: &Arc<Counters>,
    ) -> Result<Self, LibvirtError> {
        let (close, closed) = watch::channel(None);
        let open = || -> Result<Connection, LibvirtError> {
            let connection = Connection::open(uri)?;
            let close = close.clone();
            connection.on_close(move |reason| {
                close.send_replace(Some(reason));
            })?;
            keep_alive(&connection);
            Ok(connection)
        };
        let events = open()?;
        let (dirty, resets) = (Arc::clone(dirty), Arc::clone(resets));
        let counters = Arc::clone(counters);
        events.on_domain_event(move |event| {
            tracing::trace!(vm.uuid = %event.uuid, kind = ?event.kind, "domain event");
            Counters::bump(&counters.events);
            let vm = VmUuid::new(event.uuid);
            match (event.kind, event.id) {
                (DomainEventKind::Reboot, Some(id)) => {
                    resets.saw(vm, Instance(u64::from(id)), SystemTime::now());
                }
                (DomainEventKind::Moved, _) => dirty.moved(vm),
                _ => {}
            }
            dirty.add(vm);
        })?;
        Ok(Self {
            _events: events,
            calls: Arc::new(open()?),
            closed,
        })
    }

    /// Waits until either connection has closed by itself, and tells why.
    ///
    /// # Cancel safety
    /// Cancel safe: what has closed stays closed.
    pub(super) async fn closed(&self) -> CloseReason {
        let mut closed = self.closed.clone();
        match closed.wait_for(Option::is_some).await.map(|reason| *reason) {
            Ok(Some(reason)) => reason,
            Ok(None) | Err(_) => CloseReason::Client,
        }
    }
}
