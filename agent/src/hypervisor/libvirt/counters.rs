//! What the libvirt side counts; `metrics` shows it. Counts only grow, unless
//! they say that they are gauges.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the agent started. They are read one by one, so two of them may be a moment
/// apart.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Connections that were made to libvirtd for events and calls (both together are one).
    pub(super) connects: AtomicU64,
    /// Tries to connect that failed.
    pub(super) connects_failed: AtomicU64,
    /// Connections for events and calls that were lost.
    pub(super) disconnects: AtomicU64,
    /// Calls that were started.
    pub(super) calls: AtomicU64,
    /// Calls that nobody waited for any longer when their time was up.
    pub(super) calls_timed_out: AtomicU64,
    /// A gauge: calls that are with libvirt now, those included that timed out and hang.
    pub(super) calls_in_flight: AtomicU64,
    /// Domain events that were received.
    pub(super) events: AtomicU64,
    /// VMs that could not be read, each time that they could not.
    pub(super) reads_failed: AtomicU64,
    /// A gauge: console streams that are open, or not yet let go.
    pub(super) attached: AtomicU64,
}

impl Counters {
    /// Adds one.
    pub(super) fn bump(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Keeps a gauge one higher while it lives.
pub(super) struct Held {
    counters: Arc<Counters>,
    gauge: fn(&Counters) -> &AtomicU64,
}

impl Held {
    /// Raises the gauge.
    pub(super) fn new(counters: &Arc<Counters>, gauge: fn(&Counters) -> &AtomicU64) -> Self {
        gauge(counters).fetch_add(1, Ordering::Relaxed);
        Self {
            counters: Arc::clone(counters),
            gauge,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.gauge)(&self.counters).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_falls_when_its_holder_is_gone() {
        let counters = Arc::new(Counters::default());
        let one = Held::new(&counters, |c| &c.calls_in_flight);
        let two = Held::new(&counters, |c| &c.calls_in_flight);
        assert_eq!(counters.calls_in_flight.load(Ordering::Relaxed), 2);
        drop((one, two));
        assert_eq!(counters.calls_in_flight.load(Ordering::Relaxed), 0);
    }
}
