//! Calls to libvirtd that may wait for a QEMU, off the async threads, each with its time.
//!
//! A call that hangs cannot be taken back: it keeps its thread and its permit until libvirt
//! lets it go. So there is a fixed number of permits, and one VM can hold only one of them:
//! a stopped QEMU uses up one, and the calls for other VMs go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::counters::{Counters, Held};
use super::ffi::LibvirtError;
use super::gate::Gate;
use super::lane::{Lane, LaneError};
use crate::core::id::VmUuid;

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// libvirt answered with an error.
    #[error("libvirt could not {what}")]
    Libvirt {
        /// What it was asked to do.
        what: &'static str,
        /// Its answer.
        #[source]
        source: LibvirtError,
    },
    /// No answer in time.
    #[error(
        "libvirt did not {what} within {after:?}: look for a QEMU that is stopped or a libvirtd \
         that hangs"
    )]
    TimedOut {
        /// What it was asked to do.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// Calls before it took all the time: it was not made, and will not be.
    #[error(
        "libvirt was not asked to {what}: calls before it were not answered within {after:?}; \
         look for a QEMU that is stopped or a libvirtd that hangs"
    )]
    NotInTime {
        /// What it was to be asked.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The call could not be started.
    #[error("libvirt was not asked to {what}")]
    NotStarted {
        /// What it was to be asked.
        what: &'static str,
        /// Why not.
        #[source]
        source: LaneError,
    },
    /// The call broke off (it panicked; the log has it).
    #[error("the call to {what} broke off")]
    Broken {
        /// What it was.
        what: &'static str,
    },
}

/// Makes calls.
pub(super) struct Calls {
    permits: Arc<Semaphore>,
    /// As many lanes as permits: whoever has a permit finds one here.
    lanes: Arc<Mutex<Vec<Lane>>>,
    vms: Gate<Option<VmUuid>>,
    limit: Duration,
    counters: Arc<Counters>,
}

/// What a running call keeps, and gives back when it is over.
struct Running {
    lane: Lane,
    lanes: Arc<Mutex<Vec<Lane>>>,
    // Given back in this order: who gets the turn next finds the rest in place.
    _gauge: Held,
    _permit: OwnedSemaphorePermit,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Before the permit goes (fields are dropped after this).
        self.lanes.lock().push(self.lane.clone());
    }
}

impl Calls {
    /// At most `in_flight` calls at a time, each given up after `limit`.
    pub(super) fn new(in_flight: usize, limit: Duration, counters: Arc<Counters>) -> Self {
        let lanes = (0..in_flight)
            .map(|n| Lane::new(&format!("libvirt-call-{n}")))
            .collect();
        Self {
            permits: Arc::new(Semaphore::new(in_flight)),
            lanes: Arc::new(Mutex::new(lanes)),
            vms: Gate::default(),
            limit,
            counters,
        }
    }

    /// Runs `call` on a thread of its own and waits for its answer. `vm` is whom it is about:
    /// there is one call at a time for each VM, and one that is about none. `what` completes
    /// "libvirt could not …".
    ///
    /// # Errors
    /// See [`CallError`].
    ///
    /// # Cancel safety
    /// If dropped, the call either was not started or goes on to its end unheard.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        vm: Option<VmUuid>,
        what: &'static str,
        call: impl FnOnce() -> Result<T, LibvirtError> + Send + 'static,
    ) -> Result<T, CallError> {
        let (deadline, after) = (Instant::now() + self.limit, self.limit);
        let begun = AtomicBool::new(false);
        match timeout_at(deadline, self.unlimited(vm, what, call, &begun)).await {
            Ok(answer) => answer,
            Err(_) => {
                Counters::bump(&self.counters.calls_timed_out);
                Err(if begun.load(Ordering::Relaxed) {
                    CallError::TimedOut { what, after }
                } else {
                    CallError::NotInTime { what, after }
                })
            }
        }
    }

    async fn unlimited<T: Send + 'static>(
        &self,
        vm: Option<VmUuid>,
        what: &'static str,
        call: impl FnOnce() -> Result<T, LibvirtError> + Send + 'static,
        begun: &AtomicBool,
    ) -> Result<T, CallError> {
        // The VM's turn first: whoever waits for a stuck VM must not sit on a permit.
        let turn = self.vms.enter(&vm).await;
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| CallError::Broken { what })?;
        let lane = self.lanes.lock().pop().ok_or(CallError::Broken { what })?;
        let running = Running {
            lane: lane.clone(),
            lanes: Arc::clone(&self.lanes),
            _turn: turn,
            _permit: permit,
            _gauge: Held::new(&self.counters, |c| &c.calls_in_flight),
        };
        Counters::bump(&self.counters.calls);
        let (tell, told) = oneshot::channel();
        begun.store(true, Ordering::Relaxed);
        lane.run(move || {
            let answer = call();
            // All is given back before the answer is out, and on a panic too.
            drop(running);
            let _unheard = tell.send(answer);
        })
        .map_err(|source| CallError::NotStarted { what, source })?;
        match told.await {
            Ok(answer) => answer.map_err(|source| CallError::Libvirt { what, source }),
            Err(_) => Err(CallError::Broken { what }),
        }
    }
}

#[cfg(test)]
mod tests;
