//! One at a time for each key: what is stuck for one VM holds back nothing of another.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Gives out one permit for each key.
#[derive(Debug)]
pub(super) struct Gate<K> {
    turns: Mutex<HashMap<K, Arc<Semaphore>>>,
}

impl<K> Default for Gate<K> {
    fn default() -> Self {
        Self {
            turns: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash + Clone> Gate<K> {
    /// Waits for the key's permit. Whoever waited longest gets it first.
    ///
    /// # Cancel safety
    /// Cancel safe; the place in the queue is lost.
    pub(super) async fn enter(&self, key: &K) -> Option<OwnedSemaphorePermit> {
        let turn = {
            let mut turns = self.turns.lock();
            // Keys that nobody holds or waits for are forgotten, so that the map stays as
            // small as what is going on.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1 || turn.available_permits() == 0);
            let fresh = || Arc::new(Semaphore::new(1));
            Arc::clone(turns.entry(key.clone()).or_insert_with(fresh))
        };
        turn.acquire_owned().await.ok()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.turns.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn one_key_waits_and_another_does_not() {
        let gate = Gate::default();
        let held = gate.enter(&"a").await;
        assert!(held.is_some());
        assert!(gate.enter(&"a").now_or_never().is_none());
        assert!(gate.enter(&"b").now_or_never().flatten().is_some());
        drop(held);
        assert!(gate.enter(&"a").now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn forgets_keys_that_nobody_uses() {
        let gate = Gate::default();
        for key in 0..100 {
            drop(gate.enter(&key).await);
        }
        assert!(gate.len() <= 2);
    }
}
