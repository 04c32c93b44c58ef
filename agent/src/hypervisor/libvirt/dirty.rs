//! Which VMs have to be read again. Events only add to it, so however many come, what waits
//! is bounded by the number of VMs.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ffi::MAX_DOMAINS;
use super::moved::MovedVms;
use crate::core::id::VmUuid;

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
    moved: MovedVms,
}

impl State {
    fn add(&mut self, vm: VmUuid) {
        self.vms.insert(vm);
        if self.vms.len() > MAX_DIRTY {
            self.vms.clear();
            self.everything = true;
        }
    }
}

impl Dirty {
    /// Adds a VM and rings the bell.
    pub(super) fn add(&self, vm: VmUuid) {
        self.extend([vm]);
    }

    /// This VM stopped since it went on to another host. Adds it too, in one go.
    pub(super) fn moved(&self, vm: VmUuid) {
        let mut state = self.state.lock();
        state.moved.insert(vm);
        state.add(vm);
        drop(state);
        self.bell.notify_one();
    }

    /// Whether this VM, which is gone, went on to another host, as far as nobody asked before.
    pub(super) fn take_moved(&self, vm: VmUuid) -> bool {
        self.state.lock().moved.take(vm)
    }

    /// This VM was read, and runs here: that it went is over, unless it is to be read again,
    /// for then it may have gone meanwhile.
    pub(super) fn runs(&self, vm: VmUuid) {
        let mut state = self.state.lock();
        if !state.everything && !state.vms.contains(&vm) {
            state.moved.take(vm);
        }
    }

    /// Adds VMs and rings the bell.
    pub(super) fn extend(&self, vms: impl IntoIterator<Item = VmUuid>) {
        {
            let mut state = self.state.lock();
            vms.into_iter().for_each(|vm| state.add(vm));
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

    /// Forgets what there is to read. Which VMs went stays: no event tells that twice.
    pub(super) fn clear(&self) {
        let mut state = self.state.lock();
        state.vms.clear();
        state.everything = false;
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
    fn that_a_vm_went_is_known_until_it_is_asked_or_the_vm_runs_here_again() {
        let dirty = Dirty::default();
        dirty.moved(vm(1));
        dirty.runs(vm(1)); // A read that was under way when it went.
        assert_eq!(dirty.take(|_| true), Some(vm(1)));
        dirty.clear();
        assert!(dirty.take_moved(vm(1)));
        assert!(!dirty.take_moved(vm(1)));
        dirty.moved(vm(1));
        assert_eq!(dirty.take(|_| true), Some(vm(1)));
        dirty.runs(vm(1));
        assert!(!dirty.take_moved(vm(1)), "it came back");
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
