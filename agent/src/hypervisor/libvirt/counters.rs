//! What the libvirt side counts, for whoever turns it into metrics. Counts only grow, unless
//! they say that they are gauges.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the agent started. They are read one by one, so two of them may be a moment
/// apart.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that were made to libvirtd for events and calls (both together are one).
    pub connects: AtomicU64,
    /// Tries to connect that failed.
    pub connects_failed: AtomicU64,
    /// Connections for events and calls that were lost.
    pub disconnects: AtomicU64,
    /// Calls that were started.
    pub calls: AtomicU64,
    /// Calls that nobody waited for any longer when their time was up.
    pub calls_timed_out: AtomicU64,
    /// A gauge: calls that are with libvirt now, those included that timed out and hang.
    pub calls_in_flight: AtomicU64,
    /// Domain events that were received.
    pub events: AtomicU64,
    /// VMs that could not be read, each time that they could not.
    pub reads_failed: AtomicU64,
    /// Console streams that were opened.
    pub attaches: AtomicU64,
    /// Console streams that could not be opened.
    pub attaches_failed: AtomicU64,
    /// A gauge: console streams that are open, or not yet let go.
    pub attached: AtomicU64,
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
