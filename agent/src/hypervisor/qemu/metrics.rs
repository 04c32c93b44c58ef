//! What the counters of QEMUs without libvirt are called, for whoever scrapes. It counts
//! nothing itself.

use std::sync::Arc;

use prometheus::Registry;

use super::counters::Counters;
use crate::metrics::{Counted, MetricsError, show};

const COUNTERS: [Counted<Counters>; 8] = [
    (
        "vmconsole_qemu_connects_total",
        "QMP monitors that were connected to and told of their QEMU",
        |c| &c.connects,
    ),
    (
        "vmconsole_qemu_connect_failures_total",
        "Tries to be served by a QMP monitor that failed",
        |c| &c.connects_failed,
    ),
    (
        "vmconsole_qemu_disconnects_total",
        "QMP monitors that were lost after they had served",
        |c| &c.disconnects,
    ),
    (
        "vmconsole_qemu_commands_total",
        "QMP commands that were sent",
        |c| &c.commands,
    ),
    (
        "vmconsole_qemu_command_timeouts_total",
        "QMP commands that were not answered in time",
        |c| &c.commands_timed_out,
    ),
    (
        "vmconsole_qemu_events_total",
        "QMP events that were received",
        |c| &c.events,
    ),
    (
        "vmconsole_qemu_breaches_total",
        "QMP connections that were given up because the peer broke the protocol",
        |c| &c.breaches,
    ),
    (
        "vmconsole_qemu_conflicts_total",
        "Claims to a VM's UUID by a second QMP socket that were refused",
        |c| &c.conflicts,
    ),
];

const GAUGES: [Counted<Counters>; 3] = [
    (
        "vmconsole_qemu_sockets",
        "QMP sockets that are looked after",
        |c| &c.sockets,
    ),
    (
        "vmconsole_qemu_sockets_left_out",
        "QMP sockets beyond the limit of 1024, which are not looked after",
        |c| &c.left_out,
    ),
    (
        "vmconsole_qemu_sockets_served",
        "QMP sockets whose QEMU is connected now",
        |c| &c.served,
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
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn what_is_counted_is_shown() {
        let (counters, metrics) = (Arc::new(Counters::default()), Metrics::new().unwrap());
        register(Arc::clone(&counters), metrics.registry()).unwrap();
        Counters::bump(&counters.conflicts);
        Counters::set(&counters.left_out, 3);
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        for line in [
            "vmconsole_qemu_conflicts_total 1\n",
            "vmconsole_qemu_sockets_left_out 3\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
