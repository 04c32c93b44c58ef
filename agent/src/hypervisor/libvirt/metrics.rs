//! What the libvirt side's counters are called, for whoever scrapes. It counts nothing itself.

use std::sync::Arc;

use prometheus::Registry;

use super::counters::Counters;
use crate::metrics::{Counted, MetricsError, show};

const COUNTERS: [Counted<Counters>; 7] = [
    (
        "vmconsole_libvirt_connects_total",
        "Times that libvirt was connected to",
        |c| &c.connects,
    ),
    (
        "vmconsole_libvirt_connect_failures_total",
        "Tries to connect to libvirt that failed",
        |c| &c.connects_failed,
    ),
    (
        "vmconsole_libvirt_disconnects_total",
        "Times that the connection to libvirt was lost",
        |c| &c.disconnects,
    ),
    (
        "vmconsole_libvirt_calls_total",
        "Calls to libvirt that may wait on a QEMU",
        |c| &c.calls,
    ),
    (
        "vmconsole_libvirt_call_timeouts_total",
        "Calls to libvirt that were given up at libvirt.call_timeout_seconds",
        |c| &c.calls_timed_out,
    ),
    (
        "vmconsole_libvirt_events_total",
        "Events of VMs that libvirt sent",
        |c| &c.events,
    ),
    (
        "vmconsole_libvirt_read_failures_total",
        "Times that a VM could not be read from libvirt",
        |c| &c.reads_failed,
    ),
];

const GAUGES: [Counted<Counters>; 2] = [
    (
        "vmconsole_libvirt_calls_in_flight",
        "Calls that are with libvirt now, those that were given up and hang included",
        |c| &c.calls_in_flight,
    ),
    (
        "vmconsole_libvirt_streams_open",
        "Console streams of libvirt that are open or being let go",
        |c| &c.attached,
    ),
];

/// Registers what `counters` count.
///
/// # Errors
/// [`MetricsError`] if a metric of the same name is registered already.
pub(super) fn register(counters: Arc<Counters>, registry: &Registry) -> Result<(), MetricsError> {
    show(registry, counters, &COUNTERS, &GAUGES)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn what_is_counted_is_shown() {
        let (counters, metrics) = (Arc::new(Counters::default()), Metrics::new().unwrap());
        register(counters.clone(), metrics.registry()).unwrap();
        counters.connects.fetch_add(2, Ordering::Relaxed);
        counters.attached.fetch_add(3, Ordering::Relaxed);
        for _ in 0..2 {
            let text = String::from_utf8(metrics.render().unwrap()).unwrap();
            assert!(
                text.contains("vmconsole_libvirt_connects_total 2\n"),
                "{text}"
            );
            assert!(
                text.contains("vmconsole_libvirt_streams_open 3\n"),
                "{text}"
            );
        }
    }
}
