//! VMs that went on to another host, in the order in which they went. It keeps the newest and
//! forgets the oldest, and does not know who is told of them.

use std::collections::VecDeque;

use crate::core::id::VmUuid;
use crate::hypervisor::MAX_MOVED;

/// At most [`MAX_MOVED`] VMs that went on to another host, oldest first.
#[derive(Debug, Default)]
pub(super) struct MovedVms(VecDeque<VmUuid>);

impl MovedVms {
    /// This VM went. Returns the one that is forgotten for it, if one has to be.
    pub(super) fn insert(&mut self, vm: VmUuid) -> Option<VmUuid> {
        self.take(vm);
        self.0.push_back(vm);
        (self.0.len() > MAX_MOVED)
            .then(|| self.0.pop_front())
            .flatten()
    }

    /// Forgets this VM. Returns whether it was known to have gone.
    pub(super) fn take(&mut self, vm: VmUuid) -> bool {
        let place = self.0.iter().position(|known| *known == vm);
        place.and_then(|place| self.0.remove(place)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(number: usize) -> VmUuid {
        VmUuid::new(uuid::Uuid::from_u128(number as u128))
    }

    #[test]
    fn the_oldest_makes_room_for_the_newest_and_who_went_twice_is_new() {
        let mut moved = MovedVms::default();
        for number in 0..MAX_MOVED {
            assert_eq!(moved.insert(vm(number)), None);
        }
        assert_eq!(moved.insert(vm(0)), None);
        assert_eq!(moved.insert(vm(MAX_MOVED)), Some(vm(1)));
        assert!(!moved.take(vm(1)));
        assert!(moved.take(vm(MAX_MOVED)));
        assert!(moved.take(vm(0)));
        assert!(!moved.take(vm(0)));
    }
}
