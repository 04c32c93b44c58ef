//! How many side effects are under way, and the limits of that.
//!
//! A place moves into what is done, and comes back when that is dropped. Refuses to queue:
//! who finds no place is told so at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::core::id::VmUuid;

/// The most side effects under way on the host.
pub const MAX_EFFECTS: usize = 32;

/// The most of them at one VM: one whose QEMU has stopped is not to take the others' places.
pub const MAX_EFFECTS_PER_VM: usize = 4;

/// The most screenshots that are taken, computed or being read by their callers. One may
/// need some 192 MiB for a moment, and 64 MiB until it is read.
pub const MAX_SCREENSHOTS: usize = 2;

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    screenshots: usize,
    of_vm: BTreeMap<VmUuid, usize>,
}

/// Who is under way.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: Mutex<Taken>,
}

/// A place among those under way; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    vm: VmUuid,
    screenshot: bool,
}

impl Places {
    /// Takes a place.
    ///
    /// # Errors
    /// Which limit is reached.
    pub(super) fn take(
        this: &Arc<Self>,
        vm: VmUuid,
        screenshot: bool,
    ) -> Result<Place, &'static str> {
        let mut taken = this.taken.lock();
        let of_vm = taken.of_vm.get(&vm).copied().unwrap_or(0);
        if taken.all >= MAX_EFFECTS {
            return Err("as many side effects are under way on this host as may be");
        }
        if of_vm >= MAX_EFFECTS_PER_VM {
            return Err("as many side effects are under way at this VM as may be");
        }
        if screenshot && taken.screenshots >= MAX_SCREENSHOTS {
            return Err("as many screenshots are being taken or read as may be");
        }
        taken.all += 1;
        taken.screenshots += usize::from(screenshot);
        taken.of_vm.insert(vm, of_vm + 1);
        Ok(Place {
            places: this.clone(),
            vm,
            screenshot,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        taken.screenshots -= usize::from(self.screenshot);
        if let Some(count) = taken.of_vm.get_mut(&self.vm) {
            *count -= 1;
            if *count == 0 {
                taken.of_vm.remove(&self.vm);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    proptest! {
        #[test]
        fn limits_hold_and_places_come_back(asks in proptest::collection::vec((any::<bool>(), 0u128..12, any::<bool>()), 0..200)) {
            let places = Arc::new(Places::default());
            let mut held: Vec<Place> = Vec::new();
            for (leave, vm, screenshot) in asks {
                if leave {
                    held.pop();
                    continue;
                }
                let vm = VmUuid::new(Uuid::from_u128(vm));
                let free = held.len() < MAX_EFFECTS
                    && held.iter().filter(|place| place.vm == vm).count() < MAX_EFFECTS_PER_VM
                    && !(screenshot && held.iter().filter(|place| place.screenshot).count() >= MAX_SCREENSHOTS);
                let place = Places::take(&places, vm, screenshot);
                prop_assert_eq!(place.is_ok(), free);
                held.extend(place);
            }
            held.clear();
            let taken = places.taken.lock();
            prop_assert_eq!((taken.all, taken.screenshots, taken.of_vm.len()), (0, 0, 0));
        }
    }
}
