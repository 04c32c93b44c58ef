//! Numbers that stand in for pointers in callbacks. A number is never used again, so a
//! callback that comes late finds nothing, where a pointer would find freed memory.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

/// What a callback's number stands for.
pub(super) struct Registry<T: ?Sized> {
    entries: RwLock<BTreeMap<usize, Arc<T>>>,
    next: AtomicUsize,
}

/// One entry's number, as libvirt keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(usize);

impl Key {
    /// The number in the form that libvirt takes. It is never followed as a pointer.
    pub(super) fn opaque(self) -> *mut c_void {
        std::ptr::without_provenance_mut(self.0)
    }

    /// The number that libvirt hands back.
    pub(super) fn from_opaque(opaque: *mut c_void) -> Self {
        Self(opaque.addr())
    }
}

impl<T: ?Sized> Registry<T> {
    /// An empty registry.
    pub(super) const fn new() -> Self {
        Self {
            entries: RwLock::new(BTreeMap::new()),
            next: AtomicUsize::new(1),
        }
    }

    /// Adds an entry.
    pub(super) fn insert(&self, entry: Arc<T>) -> Key {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        self.entries.write().insert(key, entry);
        Key(key)
    }

    /// Forgets an entry. A callback that is running with it goes on to its end.
    pub(super) fn remove(&self, key: Key) {
        let entry = self.entries.write().remove(&key.0);
        // Whatever the entry holds is dropped with the lock released.
        drop(entry);
    }

    /// Calls `f` with what `opaque` stands for, if it is still there. A panic ends here: it
    /// must not unwind into C.
    pub(super) fn with(&self, opaque: *mut c_void, f: impl FnOnce(&T)) {
        let entry = self.entries.read().get(&opaque.addr()).cloned();
        let Some(entry) = entry else { return };
        let ran = catch_unwind(AssertUnwindSafe(move || {
            f(&entry);
            drop(entry);
        }));
        if ran.is_err() {
            tracing::error!("a libvirt callback panicked; its event is lost");
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.read().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_callback_finds_nothing() {
        let registry: Registry<AtomicUsize> = Registry::new();
        let counter = Arc::new(AtomicUsize::new(0));
        let key = registry.insert(Arc::clone(&counter));
        let bump = |c: &AtomicUsize| {
            c.fetch_add(1, Ordering::Relaxed);
        };
        registry.with(key.opaque(), bump);
        registry.remove(key);
        registry.with(key.opaque(), bump);
        assert_eq!(counter.load(Ordering::Relaxed), 1);
        assert_eq!(registry.len(), 0);
        assert_ne!(registry.insert(counter), key, "a number is not used again");
    }

    #[test]
    fn a_panic_stays_inside_and_an_entry_may_remove_itself() {
        let registry: Registry<AtomicUsize> = Registry::new();
        let key = registry.insert(Arc::new(AtomicUsize::new(0)));
        registry.with(key.opaque(), |_| panic!("on purpose"));
        registry.with(key.opaque(), |_| registry.remove(key));
        assert_eq!(registry.len(), 0);
    }
}
