//! How many handshakes there are and how they ended.
//!
//! Each one that began ends under exactly one label, however it ends, so that the sum of
//! the counters is the number of connections that were accepted.

use prometheus::{IntCounterVec, IntGauge, Registry};

use super::failure::HandshakeFailure;
use crate::metrics::{MetricsError, counters, gauge};

/// A handshake that was finished.
const OK: &str = "ok";
/// A handshake that the agent itself gave up, since it stops.
const CANCELLED: &str = "cancelled";

/// The handles.
#[derive(Clone, Debug)]
pub struct HandshakeMetrics {
    total: IntCounterVec,
    pending: IntGauge,
}

impl HandshakeMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// [`MetricsError`] if they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, MetricsError> {
        let total = counters(
            registry,
            "vmconsole_tls_handshakes_total",
            "TLS handshakes with clients that ended, by how they ended.",
            &["result"],
        )?;
        let failures = HandshakeFailure::ALL.iter().map(|failure| failure.label());
        for result in failures.chain([OK, CANCELLED]) {
            total.with_label_values(&[result]);
        }
        let pending = gauge(
            registry,
            "vmconsole_tls_handshakes_pending",
            "TLS handshakes with clients that are under way.",
        )?;
        Ok(Self { total, pending })
    }

    /// Counts a handshake from now on, until it is dropped.
    pub(super) fn begin(&self) -> Underway {
        self.pending.inc();
        Underway {
            metrics: self.clone(),
            result: CANCELLED,
        }
    }
}

/// A handshake that is being counted.
pub(super) struct Underway {
    metrics: HandshakeMetrics,
    result: &'static str,
}

impl Underway {
    pub(super) fn finish(mut self, result: Result<(), HandshakeFailure>) {
        self.result = result.err().map_or(OK, HandshakeFailure::label);
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.metrics.pending.dec();
        self.metrics.total.with_label_values(&[self.result]).inc();
    }
}
