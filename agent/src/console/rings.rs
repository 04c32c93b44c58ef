//! The rings of all consoles and the budget that they share: when one was denied memory, has
//! those that are less used give some back.
//!
//! Whoever appends never waits for that: the ring stays as large as it is meanwhile. Which
//! rings give way is decided in `core::budget`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::live::Console;
use super::registry::Directory;
use super::shared::Shared;
use crate::core::budget::{Budget, RingUse, reclaim};
use crate::core::output::OutputLog;

/// How long to wait after each time that memory was taken back.
const APART: Duration = Duration::from_millis(100);

/// What the rings of all consoles have in common.
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) budget: Arc<Budget>,
    uses: AtomicU64,
    /// Wakes [`Rings::reclaim`]: a ring was denied memory.
    denied: Notify,
}

impl Rings {
    pub(super) fn new(budget_bytes: usize) -> Self {
        Self {
            budget: Arc::new(Budget::new(budget_bytes)),
            uses: AtomicU64::new(0),
            denied: Notify::new(),
        }
    }

    /// A number larger than those before it.
    pub(super) fn next_use(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes memory back whenever a ring was denied some, at most once each [`APART`], until
    /// `token` is cancelled.
    pub(super) async fn reclaim(
        self: Arc<Self>,
        directory: watch::Receiver<Arc<Directory>>,
        token: CancellationToken,
    ) {
        let work = async {
            loop {
                self.denied.notified().await;
                self.reclaim_once(&directory.borrow().clone());
                tokio::time::sleep(APART).await;
            }
        };
        tokio::select! {
            biased; // to stop comes before everything
            () = token.cancelled() => {}
            () = work => {}
        }
    }

    fn reclaim_once(&self, directory: &Directory) {
        let consoles: Vec<_> = directory.consoles().values().collect();
        let uses: Vec<_> = consoles.iter().map(|console| console.ring_use()).collect();
        // Consoles that are no more, and still read, have some as well.
        let used = self.budget.used();
        for (index, bytes) in reclaim(self.budget.limit(), used, &uses) {
            match (consoles.get(index), uses.get(index)) {
                // It may have grown meanwhile.
                (Some(console), Some(was)) if bytes > was.bytes => console.allow_more(bytes),
                (Some(console), _) => console.shrink_ring(bytes),
                (None, _) => {}
            }
        }
    }
}

impl Console {
    fn ring_use(&self) -> RingUse {
        let mut shared = self.shared.lock();
        let (bytes, output) = (shared.allocated(), shared.output.as_mut());
        RingUse {
            bytes,
            wanted: output.map_or(0, |output| output.take_wanted()),
            viewed: !shared.seats.is_empty(),
            last_use: shared.hold.last_use,
        }
    }

    /// A ring was denied memory.
    pub(super) fn ring_denied(&self) {
        self.metrics.ring_denied.inc();
        self.rings.denied.notify_one();
    }

    fn allow_more(&self, bytes: usize) {
        if let Some(output) = self.shared.lock().output.as_mut() {
            output.allow_more(bytes);
        }
    }

    fn shrink_ring(&self, bytes: usize) {
        let mut shared = self.shared.lock();
        let before = shared.kept();
        if let Some(output) = shared.output.as_mut() {
            output.allow(bytes);
        }
        let after = shared.kept();
        self.count_kept(before, after);
        drop(shared);
        if after < before {
            self.metrics.ring_shrinks.inc();
            debug!(console = %self.id(), bytes, "keeps less, for consoles that are used more");
            // Who was behind is told of the gap.
            self.wake();
        }
    }

    /// What is kept of the console has changed.
    pub(super) fn count_kept(&self, before: Option<usize>, after: Option<usize>) {
        self.count_ring(before.unwrap_or(0), after.unwrap_or(0));
        let captured = i64::from(after.is_some()) - i64::from(before.is_some());
        self.metrics.captured.add(captured);
    }
}

impl Shared {
    /// How much memory the rings hold; `None` if nothing is kept.
    pub(super) fn kept(&self) -> Option<usize> {
        let output = self.output.as_ref().filter(|_| !self.is_display());
        output.map(OutputLog::allocated)
    }
}
