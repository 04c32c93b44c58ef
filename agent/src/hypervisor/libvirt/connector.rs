//! Keeps the inventory: connects to libvirtd, reads every VM, and then each that something
//! happened to. It asks for nothing that nothing happened to.
//!
//! ```text
//!            ┌────────────── backoff ◀──────────────┐
//!            ▼                                      │
//!  connecting ── both connections ──▶ listing ──▶ following
//!            └──────── failed ──────▶ backoff       │ a connection closed
//! ```

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::calls::CallError;
use super::counters::Counters;
use super::lane::Lane;
use super::moved::MovedVms;
use super::reader::{self, Reading};
use super::rights::not_allowed;
use super::unit::Unit;
use crate::core::id::VmUuid;
use crate::hypervisor::backoff::{Backoff, LONGEST_CONNECT, LONGEST_READ};
use crate::hypervisor::{Inventory, Provider, Vm, VmState};

/// The most VMs that are read or wait to be read at a time. More than may be in flight, so
/// that VMs that are stuck do not take every place.
const MAX_READS: usize = 64;

type Read = Pin<Box<dyn Future<Output = (VmUuid, Result<Reading, CallError>)> + Send>>;

/// The task that keeps the inventory. It does nothing until it is [run](Self::run).
pub struct LibvirtTask {
    shared: Arc<Shared>,
    publish: watch::Sender<Arc<Inventory>>,
    lane: Lane,
    inventory: Inventory,
    /// The inventory's `moved`, in order.
    moved: MovedVms,
}

/// What is under way while connected.
struct Following {
    unit: Arc<Unit>,
    reads: FuturesUnordered<Read>,
    reading: BTreeSet<VmUuid>,
    failed: BTreeSet<VmUuid>,
    backoff: Backoff,
    retry_at: Option<Instant>,
}

impl LibvirtTask {
    pub(super) fn new(shared: Arc<Shared>, publish: watch::Sender<Arc<Inventory>>) -> Self {
        let lane = Lane::new("libvirt-connect");
        Self {
            shared,
            publish,
            lane,
            inventory: Inventory::default(),
            moved: MovedVms::default(),
        }
    }

    /// Keeps the inventory until `token` is cancelled.
    pub async fn run(mut self, token: CancellationToken) {
        let mut backoff = Backoff::new(LONGEST_CONNECT);
        loop {
            let trouble = tokio::select! {
                biased; // A stop comes before everything else.
                () = token.cancelled() => break,
                trouble = self.connect_and_follow(&mut backoff) => trouble,
            };
            self.lost(trouble);
            tokio::select! {
                biased; // As above.
                () = token.cancelled() => break,
                () = sleep(backoff.next(rand::random())) => {}
            }
        }
    }

    /// Connects and follows what happens until that is over, and tells why it is.
    async fn connect_and_follow(&mut self, backoff: &mut Backoff) -> String {
        let unit = match self.connect().await {
            Ok(unit) => Arc::new(unit),
            Err(trouble) => {
                Counters::bump(&self.shared.counters.connects_failed);
                return trouble;
            }
        };
        Counters::bump(&self.shared.counters.connects);
        *self.shared.connection.lock() = Arc::downgrade(&unit.calls);
        let trouble = match self.list(&unit).await {
            Ok(()) => {
                backoff.reset();
                tracing::info!(vms = self.inventory.vms.len(), "connected to libvirt");
                self.follow(unit).await
            }
            Err(error) => chain(&error),
        };
        Counters::bump(&self.shared.counters.disconnects);
        trouble
    }

    /// Connects. Where libvirtd does not answer, that is said after the time of a call, and
    /// waited for all the same: a second try would hang beside the first.
    async fn connect(&mut self) -> Result<Unit, String> {
        // Before the events' subscription: what comes after it is news.
        self.shared.dirty.clear();
        let (tell, mut told) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        self.lane
            .run(move || {
                let Shared {
                    dirty,
                    resets,
                    counters,
                    ..
                } = &*shared;
                let unit = Unit::connect(&shared.config.uri, dirty, resets, counters);
                let _unheard = tell.send(unit);
            })
            .map_err(|error| chain(&error))?;
        let limit = self.shared.config.call_timeout;
        let answer = match tokio::time::timeout(limit, &mut told).await {
            Ok(answer) => answer,
            Err(_) => {
                self.lost(format!(
                    "libvirtd did not answer within {limit:?}: see if it hangs"
                ));
                told.await
            }
        };
        match answer {
            Ok(unit) => unit.map_err(|error| error.to_string()),
            Err(_) => Err("connecting to libvirt broke off".to_owned()),
        }
    }

    /// Lists all VMs, forgets those that are gone, and has the others read.
    async fn list(&mut self, unit: &Arc<Unit>) -> Result<(), CallError> {
        let calls = Arc::clone(&unit.calls);
        let list = move || reader::list(&calls);
        let listed = self.shared.calls.call(None, "list the VMs", list).await?;
        let present: BTreeSet<VmUuid> = listed.iter().copied().collect();
        self.retain(&present);
        if !self.inventory.connected {
            // What happened meanwhile, no event will tell.
            self.all_stale("libvirt is back, and the VM is being read again");
        }
        self.inventory.connected = true;
        self.inventory.trouble.clear();
        self.shared.dirty.extend(listed);
        self.publish();
        Ok(())
    }

    /// Reads what is dirty until a connection closes.
    async fn follow(&mut self, unit: Arc<Unit>) -> String {
        let mut following = Following {
            unit: Arc::clone(&unit),
            reads: FuturesUnordered::new(),
            reading: BTreeSet::new(),
            failed: BTreeSet::new(),
            backoff: Backoff::new(LONGEST_READ),
            retry_at: None,
        };
        let shared = Arc::clone(&self.shared);
        loop {
            if shared.dirty.take_everything()
                && let Err(error) = self.list(&unit).await
            {
                return chain(&error);
            }
            following.start_reads(&shared);
            if following.reading.is_empty() && shared.dirty.is_empty() && !self.inventory.synced {
                self.inventory.synced = true;
                tracing::info!(vms = self.inventory.vms.len(), "every VM was read");
                self.publish();
            }
            let retry_at = following.retry_at.unwrap_or_else(Instant::now);
            tokio::select! {
                biased; // What a dead connection has to say does not matter any more.
                reason = unit.closed() => return reason.to_string(),
                Some((vm, read)) = following.reads.next() => self.take(&mut following, vm, read),
                () = shared.dirty.rung() => {}
                () = sleep_until(retry_at), if following.retry_at.is_some() => {
                    following.retry(&shared);
                }
            }
        }
    }

    /// Takes in what was read of a VM.
    fn take(&mut self, following: &mut Following, vm: VmUuid, read: Result<Reading, CallError>) {
        following.reading.remove(&vm);
        match read {
            Ok(Reading::Present(found)) => {
                following.backoff.reset();
                if !self.present(vm, found) {
                    return;
                }
            }
            Ok(Reading::Gone) => {
                following.backoff.reset();
                if !self.gone(vm) {
                    return;
                }
            }
            Err(error) => {
                Counters::bump(&self.shared.counters.reads_failed);
                tracing::warn!(vm.uuid = %vm, error = %chain(&error), "the VM was not read");
                following.put_off(vm);
                return;
            }
        }
        self.publish();
    }

    /// This VM is there. Returns whether that is news.
    fn present(&mut self, vm: VmUuid, found: Arc<Vm>) -> bool {
        let runs = matches!(found.state, VmState::Running | VmState::Paused);
        if runs && found.instance.is_some() {
            self.shared.dirty.runs(vm);
        }
        let was_stale = self.inventory.stale.remove(&vm).is_some();
        if self.inventory.vms.get(&vm) == Some(&found) && !was_stale {
            return false;
        }
        self.moved.take(vm);
        self.inventory.moved.remove(&vm);
        tracing::debug!(vm.uuid = %vm, state = ?found.state, "VM read");
        self.inventory.vms.insert(vm, found);
        true
    }

    /// This VM is not there (any longer). Returns whether that is news.
    fn gone(&mut self, vm: VmUuid) -> bool {
        let moved = self.shared.dirty.take_moved(vm);
        self.shared.resets.forget(vm);
        self.inventory.stale.remove(&vm);
        if self.inventory.vms.remove(&vm).is_none() {
            return false;
        }
        if moved {
            if let Some(oldest) = self.moved.insert(vm) {
                self.inventory.moved.remove(&oldest);
            }
            self.inventory.moved.insert(vm);
        }
        tracing::debug!(vm.uuid = %vm, moved, "VM gone");
        true
    }

    /// No VMs are there but these.
    fn retain(&mut self, present: &BTreeSet<VmUuid>) {
        let known = self.inventory.vms.keys().copied();
        let gone: Vec<VmUuid> = known.filter(|vm| !present.contains(vm)).collect();
        for vm in gone {
            self.gone(vm);
        }
        self.inventory.stale.retain(|vm, _| present.contains(vm));
        self.shared.resets.retain(present);
    }

    /// Says that libvirtd is not there, and why. The VMs stay as last known.
    fn lost(&mut self, trouble: String) {
        if self.inventory.connected || self.inventory.trouble != trouble {
            tracing::warn!(%trouble, "not connected to libvirt");
        }
        self.inventory.connected = false;
        self.all_stale(&trouble);
        self.inventory.trouble = trouble;
        self.publish();
    }

    /// Nothing is certain of any VM, for this reason.
    fn all_stale(&mut self, why: &str) {
        let why: Arc<str> = why.into();
        let vms = self.inventory.vms.keys();
        self.inventory.stale = vms.map(|vm| (*vm, Arc::clone(&why))).collect();
    }

    fn publish(&mut self) {
        let trouble = match self.inventory.connected {
            true => not_allowed(&self.shared.config.uri),
            false => &self.inventory.trouble,
        };
        self.inventory.providers = vec![Provider {
            name: "libvirt",
            place: self.shared.config.uri.clone(),
            connected: self.inventory.connected,
            trouble: trouble.to_owned(),
        }];
        self.publish.send_if_modified(|published| {
            let changed = **published != self.inventory;
            if changed {
                *published = Arc::new(self.inventory.clone());
            }
            changed
        });
    }
}

impl Following {
    /// Starts reading what is dirty and not being read, as far as there is room.
    fn start_reads(&mut self, shared: &Arc<Shared>) {
        while self.reading.len() < MAX_READS {
            let Some(vm) = shared.dirty.take(|vm| !self.reading.contains(&vm)) else {
                return;
            };
            self.reading.insert(vm);
            self.failed.remove(&vm);
            let (shared, connection) = (Arc::clone(shared), Arc::clone(&self.unit.calls));
            self.reads.push(Box::pin(async move {
                let known = Arc::clone(&shared);
                let read = move || reader::read(&connection, vm, &known.config, &known.resets);
                (vm, shared.calls.call(Some(vm), "read a VM", read).await)
            }));
        }
    }

    /// Has a VM that could not be read read again, later.
    fn put_off(&mut self, vm: VmUuid) {
        self.failed.insert(vm);
        if self.retry_at.is_none() {
            self.retry_at = Some(Instant::now() + self.backoff.next(rand::random()));
        }
    }

    fn retry(&mut self, shared: &Shared) {
        self.retry_at = None;
        shared.dirty.extend(std::mem::take(&mut self.failed));
    }
}

/// An error with its causes, in one line for the operator.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
