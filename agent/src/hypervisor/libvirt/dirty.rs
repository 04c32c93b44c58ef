//! Which VMs have to be read again. Events only add to it, so however many come, what waits
//! is bounded by the number of VMs.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ffi::MAX_DOMAINS;
use crate::core::id::VmUuid;
use crate::hypervisor::MAX_MOVED;

/// The most VMs that are kept by name; beyond that, the whole list is read again. Above what
/// a list may hold: a list alone never asks for the next one.
pub(super) const MAX_DIRTY: usize = 2 * MAX_DOMAINS;

/// The VMs to read again, and a bell.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    state: Mutex<State>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct State {
    vms: BTreeSet<VmUuid>,
    everything: bool,
    /// Those that went on to another host, of which nobody took note yet.
    moved: BTreeSet<VmUuid>,
}

impl Dirty {
    /// Adds a VM and rings the bell.
    pub(super) fn add(&self, vm: VmUuid) {
        self.extend([vm]);
    }

    /// This VM stopped since it went on to another host. To be added beside.
    pub(super) fn moved(&self, vm: VmUuid) {
        let mut state = self.state.lock();
        if state.moved.len() < MAX_MOVED {
            state.moved.insert(vm);
        }
    }

    /// Whether this VM went on to another host, as far as nobody asked before.
    pub(super) fn take_moved(&self, vm: VmUuid) -> bool {
        self.state.lock().moved.remove(&vm)
    }

    /// Adds VMs and rings the bell.
    pub(super) fn extend(&self, vms: impl IntoIterator<Item = VmUuid>) {
        {
            let mut state = self.state.lock();
            for vm in vms {
                state.vms.insert(vm);
                if state.vms.len() > MAX_DIRTY {
                    state.vms.clear();
                    state.everything = true;
                }
            }
        }
        self.bell.notify_one();
    }

    /// Takes out one VM for which `free` holds. The others stay.
    pub(super) fn take(&self, free: impl Fn(VmUuid) -> bool) -> Option<VmUuid> {
        let mut state = self.state.lock();
        let vm = state.vms.iter().copied().find(|vm| free(*vm))?;
        state.vms.remove(&vm);
        Some(vm)
    }

    /// Whether VMs were added beyond the limit since this was last asked.
    pub(super) fn take_everything(&self) -> bool {
        std::mem::take(&mut self.state.lock().everything)
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        *self.state.lock() = State::default();
    }

    /// Whether nothing is left to do.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.vms.is_empty() && !state.everything
    }

    /// Waits until something was added since the last time.
    ///
    /// # Cancel safety
    /// Cancel safe: a bell that nobody heard rings for the next who waits.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(number: u128) -> VmUuid {
        VmUuid::new(uuid::Uuid::from_u128(number))
    }

    #[tokio::test]
    async fn many_events_of_one_vm_are_one_task() {
        let dirty = Dirty::default();
        for _ in 0..1000 {
            dirty.add(vm(1));
        }
        dirty.rung().await;
        assert_eq!(dirty.take(|_| true), Some(vm(1)));
        assert!(dirty.is_empty());
    }

    #[test]
    fn what_is_being_read_waits() {
        let dirty = Dirty::default();
        dirty.extend([vm(1), vm(2)]);
        assert_eq!(dirty.take(|it| it != vm(1)), Some(vm(2)));
        assert_eq!(dirty.take(|it| it != vm(1)), None);
        assert!(!dirty.is_empty());
    }

    #[test]
    fn too_many_become_a_whole_list_once() {
        let dirty = Dirty::default();
        dirty.extend((0..=MAX_DIRTY as u128).map(vm));
        assert!(!dirty.is_empty());
        assert!(dirty.take_everything());
        assert!(!dirty.take_everything());
    }
}
