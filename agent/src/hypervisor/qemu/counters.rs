//! What is counted of QEMUs without libvirt; `metrics` shows it. Counts only grow, unless they
//! say that they are gauges.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the agent started. They are read one by one, so two of them may be a moment
/// apart.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Monitors that greeted, and whose QEMU told what it is.
    pub(super) connects: AtomicU64,
    /// Tries to be served by a monitor that failed.
    pub(super) connects_failed: AtomicU64,
    /// Monitors that were served by, and lost.
    pub(super) disconnects: AtomicU64,
    /// Commands that were sent.
    pub(super) commands: AtomicU64,
    /// Commands whose answer did not come in time.
    pub(super) commands_timed_out: AtomicU64,
    /// Events that were received.
    pub(super) events: AtomicU64,
    /// Connections that were given up because the peer broke the protocol.
    pub(super) breaches: AtomicU64,
    /// Claims to a UUID that were refused, each once as long as it lasts.
    pub(super) conflicts: AtomicU64,
    /// A gauge: sockets that are looked after.
    pub(super) sockets: AtomicU64,
    /// A gauge: sockets beyond the limit, which are not.
    pub(super) left_out: AtomicU64,
    /// A gauge: sockets whose QEMU is served now.
    pub(super) served: AtomicU64,
}

impl Counters {
    /// Adds one.
    pub(super) fn bump(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub(super) fn set(gauge: &AtomicU64, value: usize) {
        gauge.store(u64::try_from(value).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
