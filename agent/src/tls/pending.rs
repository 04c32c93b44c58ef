//! A bounded number of places, where the oldest yields to the newest.
//!
//! Nobody is refused a place: a peer that opens connections and never finishes would
//! otherwise keep everybody out until its time is up.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The places.
#[derive(Debug)]
pub(super) struct Pending {
    limit: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// By age: the first is the oldest.
    places: BTreeMap<u64, CancellationToken>,
}

impl Pending {
    /// `limit` places, at least one.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: limit.max(1),
            taken: Mutex::default(),
        })
    }

    /// Takes a place. If all are taken, the oldest taker loses its own.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let evicted = CancellationToken::new();
        let mut taken = self.taken.lock();
        while taken.places.len() >= self.limit
            && let Some((_, oldest)) = taken.places.pop_first()
        {
            oldest.cancel();
        }
        let number = taken.next;
        taken.next += 1;
        taken.places.insert(number, evicted.clone());
        Place {
            pending: Arc::clone(self),
            number,
            evicted,
        }
    }
}

/// A place that was taken. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    pending: Arc<Pending>,
    number: u64,
    evicted: CancellationToken,
}

impl Place {
    /// Waits until the place is lost to a newer taker.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pending.taken.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_oldest_yields_and_a_place_given_back_is_free() {
        let pending = Pending::new(2);
        let (first, second) = (pending.enter(), pending.enter());
        let third = pending.enter();
        assert!(first.evicted.is_cancelled());
        drop(second);
        let fourth = pending.enter();
        assert!(!third.evicted.is_cancelled() && !fourth.evicted.is_cancelled());
        drop(first);
        let _fifth = pending.enter();
        assert!(
            third.evicted.is_cancelled(),
            "an evicted taker gives nothing back"
        );
    }

    proptest! {
        /// Whoever comes and goes, exactly the newest `limit` of those present stay.
        #[test]
        fn the_newest_of_those_present_stay(
            limit in 1..5_usize,
            steps in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..60),
        ) {
            let pending = Pending::new(limit);
            let mut held: Vec<Place> = Vec::new();
            for (enters, which) in steps {
                if enters || held.is_empty() {
                    held.push(pending.enter());
                } else {
                    held.remove(which.index(held.len()));
                }
                held.retain(|place| !place.evicted.is_cancelled());
                prop_assert!(held.len() <= limit);
                prop_assert_eq!(pending.taken.lock().places.len(), held.len());
            }
        }
    }
}
