//! What side effects count.

use prometheus::{IntCounterVec, Registry as MetricRegistry};

use crate::console::SideEffectKind;
use crate::core::reason::Reason;
use crate::metrics::{MetricsError, counters};

/// What `result` says of a side effect that was done.
pub(super) const OK: &str = "OK";

/// Why side effects do not happen.
const REASONS: [Reason; 8] = [
    Reason::BadRequest,
    Reason::NotFound,
    Reason::NotRunning,
    Reason::Denied,
    Reason::Unsupported,
    Reason::EndpointLost,
    Reason::LimitReached,
    Reason::Internal,
];

/// Handles to what side effects count.
#[derive(Clone, Debug)]
pub struct EffectMetrics {
    total: IntCounterVec,
}

impl EffectMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// If a metric of the same name is registered already.
    pub fn register(registry: &MetricRegistry) -> Result<Self, MetricsError> {
        let total = counters(
            registry,
            "vmconsole_side_effects_total",
            "Side effects that were asked for, by kind and by what became of them: OK or a reason",
            &["kind", "result"],
        )?;
        for kind in SideEffectKind::ALL {
            for result in REASONS.iter().map(|reason| reason.name()).chain([OK]) {
                total.with_label_values(&[kind.name(), result]).inc_by(0);
            }
        }
        Ok(Self { total })
    }

    pub(super) fn count(&self, kind: SideEffectKind, result: Result<(), Reason>) {
        let result = result.map_or_else(Reason::name, |()| OK);
        self.total.with_label_values(&[kind.name(), result]).inc();
    }
}
