//! What relays count, host-wide.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::displays::DisplayError;
use crate::core::reason::Reason;
use crate::core::rfb::filter::{DropKind, Dropped};
use crate::metrics::{MetricsError, counter, counters, gauge};

/// Handles to what relays count.
#[derive(Clone, Debug)]
pub struct RelayMetrics {
    active: IntGauge,
    to_caller: IntCounter,
    to_display: IntCounter,
    opened: IntCounterVec,
    caller_failures: IntCounter,
    dropped: IntCounterVec,
    violations: IntCounter,
}

/// What came of opening a display.
const OUTCOMES: [&str; 6] = [
    "opened",
    "denied",
    "not_running",
    "unsupported",
    "lost",
    "busy",
];

impl RelayMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// If a metric of the same name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, MetricsError> {
        let bytes = counters(
            registry,
            "vmconsole_relay_bytes_total",
            "Bytes that relays passed on, by direction",
            &["direction"],
        )?;
        let metrics = Self {
            active: gauge(
                registry,
                "vmconsole_relays_active",
                "Relays of displays that run now",
            )?,
            to_caller: bytes.with_label_values(&["to_caller"]),
            to_display: bytes.with_label_values(&["to_display"]),
            opened: counters(
                registry,
                "vmconsole_display_openings_total",
                "Times that a display was to be opened, by what came of it",
                &["outcome"],
            )?,
            caller_failures: counter(
                registry,
                "vmconsole_relay_caller_handshakes_failed_total",
                "Relays whose caller did not do its part of RFB's handshake",
            )?,
            dropped: counters(
                registry,
                "vmconsole_relay_messages_dropped_total",
                "Messages of callers that a rule kept from the guest, by kind",
                &["kind"],
            )?,
            violations: counter(
                registry,
                "vmconsole_relay_violations_total",
                "Relays that ended since a rule had to look into a message and could not",
            )?,
        };
        for outcome in OUTCOMES {
            metrics.opened.with_label_values(&[outcome]).inc_by(0);
        }
        for kind in DropKind::ALL {
            metrics.dropped.with_label_values(&[kind.name()]).inc_by(0);
        }
        Ok(metrics)
    }

    pub(crate) fn begun(&self) {
        self.active.inc();
    }

    pub(crate) fn ended(&self) {
        self.active.dec();
    }

    pub(crate) fn to_caller(&self, bytes: u64) {
        self.to_caller.inc_by(bytes);
    }

    pub(crate) fn to_display(&self, bytes: u64) {
        self.to_display.inc_by(bytes);
    }

    pub(super) fn opened(&self, failed: Option<&DisplayError>) {
        let [opened, denied, not_running, unsupported, lost, busy] = OUTCOMES;
        let outcome = match failed.map(DisplayError::reason) {
            None => opened,
            Some(Reason::Denied) => denied,
            Some(Reason::NotRunning | Reason::NotFound) => not_running,
            Some(Reason::Unsupported) => unsupported,
            Some(Reason::LimitReached) => busy,
            Some(_) => lost,
        };
        self.opened.with_label_values(&[outcome]).inc();
    }

    pub(crate) fn caller_failed(&self) {
        self.caller_failures.inc();
    }

    pub(crate) fn dropped(&self, dropped: &Dropped) {
        for (kind, messages) in dropped.iter() {
            let counter = self.dropped.with_label_values(&[kind.name()]);
            counter.inc_by(messages as u64);
        }
    }

    pub(crate) fn violated(&self) {
        self.violations.inc();
    }
}
