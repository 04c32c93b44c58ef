//! When a connection last gave a sign of life.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
struct Inner {
    begun: Instant,
    /// Milliseconds from then.
    heard: AtomicU64,
}

/// When anything last came over a connection: bytes of whatever sort, so that an idle client
/// shows that it lives by answering HTTP/2's pings.
#[derive(Clone, Debug)]
pub struct LastHeard(Arc<Inner>);

impl Default for LastHeard {
    fn default() -> Self {
        Self::now()
    }
}

impl LastHeard {
    /// Of a connection that is heard of now.
    pub fn now() -> Self {
        Self(Arc::new(Inner {
            begun: Instant::now(),
            heard: AtomicU64::new(0),
        }))
    }

    /// Something came.
    pub fn note(&self) {
        let millis = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.heard.store(millis, Ordering::Relaxed);
    }

    /// When something last came, to the millisecond.
    pub fn when(&self) -> Instant {
        self.0.begun + Duration::from_millis(self.0.heard.load(Ordering::Relaxed))
    }
}
