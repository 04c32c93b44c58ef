//! When each VM was last reset, as libvirt's events told. An event names the run that was reset,
//! so that a reset never counts for the run after it.
//!
//! It asks nobody, and what it keeps is bounded by the number of VMs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::ffi::MAX_DOMAINS;
use crate::core::id::VmUuid;
use crate::hypervisor::Instance;

/// The last reset of each VM that was seen to be reset.
#[derive(Debug, Default)]
pub(super) struct Resets {
    seen: Mutex<BTreeMap<VmUuid, (Instance, SystemTime)>>,
}

impl Resets {
    /// This run of the VM was reset, at `time`.
    pub(super) fn saw(&self, vm: VmUuid, run: Instance, time: SystemTime) {
        let mut seen = self.seen.lock();
        if seen.len() < MAX_DOMAINS || seen.contains_key(&vm) {
            seen.insert(vm, (run, time));
        }
    }

    /// When this run of the VM was last reset, if it was seen to be. Without a run, all that was
    /// seen of the VM is forgotten: libvirt's numbers begin anew when it does, so that a later
    /// run may have the number of an earlier one.
    pub(super) fn last(&self, vm: VmUuid, run: Option<Instance>) -> Option<SystemTime> {
        if run.is_none() {
            self.forget(vm);
        }
        let seen = self.seen.lock().get(&vm).copied();
        seen.filter(|(reset, _)| Some(*reset) == run)
            .map(|(_, time)| time)
    }

    /// Forgets all VMs but these.
    pub(super) fn retain(&self, present: &BTreeSet<VmUuid>) {
        self.seen.lock().retain(|vm, _| present.contains(vm));
    }

    /// Forgets a VM.
    pub(super) fn forget(&self, vm: VmUuid) {
        self.seen.lock().remove(&vm);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn vm(number: usize) -> VmUuid {
        VmUuid::new(uuid::Uuid::from_u128(number as u128))
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_reset_is_of_the_run_that_it_happened_to_and_the_last_one_counts() {
        let resets = Resets::default();
        assert_eq!(resets.last(vm(1), Some(Instance(7))), None);
        resets.saw(vm(1), Instance(7), at(1));
        resets.saw(vm(1), Instance(7), at(2));
        assert_eq!(resets.last(vm(1), Some(Instance(7))), Some(at(2)));
        assert_eq!(resets.last(vm(1), Some(Instance(8))), None);
        assert_eq!(resets.last(vm(2), Some(Instance(7))), None);
    }

    #[test]
    fn a_reset_is_not_of_a_later_run_that_has_the_number_of_an_earlier_one() {
        let resets = Resets::default();
        resets.saw(vm(1), Instance(1), at(1));
        assert_eq!(resets.last(vm(1), None), None);
        assert_eq!(resets.last(vm(1), Some(Instance(1))), None);
        resets.saw(vm(1), Instance(1), at(2));
        assert_eq!(resets.last(vm(1), Some(Instance(1))), Some(at(2)));
    }

    #[test]
    fn what_is_kept_is_bounded_and_goes_with_the_vms() {
        let resets = Resets::default();
        for number in 0..=MAX_DOMAINS {
            resets.saw(vm(number), Instance(1), at(1));
        }
        assert_eq!(resets.last(vm(MAX_DOMAINS), Some(Instance(1))), None);
        resets.saw(vm(0), Instance(1), at(2));
        assert_eq!(resets.last(vm(0), Some(Instance(1))), Some(at(2)));
        resets.forget(vm(0));
        resets.retain(&BTreeSet::from([vm(1)]));
        assert_eq!(resets.last(vm(0), Some(Instance(1))), None);
        assert_eq!(resets.last(vm(1), Some(Instance(1))), Some(at(1)));
        assert_eq!(resets.seen.lock().len(), 1);
    }
}
