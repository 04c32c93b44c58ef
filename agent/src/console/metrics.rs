//! What consoles count.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry as MetricRegistry};

use super::state::{Availability, ConsoleState};
use crate::core::changes::ResetReason;
use crate::core::output::GapReason;
use crate::endpoint::EndpointError;
use crate::metrics::{MetricsError, counter, counters, gauge, gauges};

/// Handles to what consoles count, host-wide: per VM would be a label set without limit.
#[derive(Clone, Debug)]
pub struct ConsoleMetrics {
    consoles: IntGaugeVec,
    pub(super) silent: IntGauge,
    wedged: IntGauge,
    pub(super) output_bytes: IntCounter,
    pub(super) input_bytes: IntCounter,
    pub(super) gaps: IntCounterVec,
    pub(super) interruptions: IntCounter,
    pub(super) ring_bytes: IntGauge,
    pub(super) ring_budget: IntGauge,
    pub(super) ring_denied: IntCounter,
    pub(super) ring_shrinks: IntCounter,
    pub(super) captured: IntGauge,
    pub(super) attached: IntCounter,
    pub(super) attach_failures: IntCounterVec,
    pub(super) tombstones: IntGauge,
    watch_resets: IntCounterVec,
}

impl ConsoleMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// If a metric of the same name is registered already.
    pub fn register(registry: &MetricRegistry) -> Result<Self, MetricsError> {
        let metrics = Self {
            consoles: gauges(
                registry,
                "vmconsole_consoles",
                "Consoles of this host's VMs by availability",
                &["availability"],
            )?,
            silent: gauge(
                registry,
                "vmconsole_consoles_silent",
                "Consoles that are attached and of which no output was seen since",
            )?,
            wedged: gauge(
                registry,
                "vmconsole_consoles_wedged",
                "Consoles whose input makes no progress",
            )?,
            output_bytes: counter(
                registry,
                "vmconsole_console_output_bytes_total",
                "Bytes that guests wrote to their consoles while the agent was attached",
            )?,
            input_bytes: counter(
                registry,
                "vmconsole_console_input_bytes_total",
                "Bytes that guests' endpoints took as input",
            )?,
            gaps: counters(
                registry,
                "vmconsole_gaps_total",
                "Gaps in output that were told to viewers",
                &["reason"],
            )?,
            interruptions: counter(
                registry,
                "vmconsole_console_interruptions_total",
                "Times that a console was attached again to the same QEMU, or after a start of its VM",
            )?,
            ring_bytes: gauge(
                registry,
                "vmconsole_ring_bytes",
                "Bytes of memory that all output rings together hold",
            )?,
            ring_budget: gauge(
                registry,
                "vmconsole_ring_budget_bytes",
                "The most memory that all output rings together may hold",
            )?,
            ring_denied: counter(
                registry,
                "vmconsole_ring_growths_denied_total",
                "Times that an output ring was to grow and the budget did not allow it",
            )?,
            ring_shrinks: counter(
                registry,
                "vmconsole_ring_shrinks_total",
                "Times that an output ring was made smaller for one that is used more",
            )?,
            captured: gauge(
                registry,
                "vmconsole_consoles_captured",
                "Consoles whose output is kept: attached, or to be attached when they can be",
            )?,
            attached: counter(
                registry,
                "vmconsole_console_attachments_total",
                "Times that a console was attached",
            )?,
            attach_failures: counters(
                registry,
                "vmconsole_console_attach_failures_total",
                "Times that a console could not be attached",
                &["reason"],
            )?,
            tombstones: gauge(
                registry,
                "vmconsole_watch_tombstones",
                "Consoles that are gone and are remembered for watchers",
            )?,
            watch_resets: counters(
                registry,
                "vmconsole_watch_resets_total",
                "Times that a watcher of consoles was told to begin anew",
                &["reason"],
            )?,
        };
        metrics.preset();
        Ok(metrics)
    }

    /// Makes every label value visible before anything of it happened.
    fn preset(&self) {
        for availability in Availability::ALL {
            self.consoles
                .with_label_values(&[availability.name()])
                .set(0);
        }
        for reason in [
            GapReason::Overrun,
            GapReason::NotAttached,
            GapReason::GenerationPassed,
        ] {
            self.gaps.with_label_values(&[gap_name(reason)]).inc_by(0);
        }
        for reason in FAILURES {
            self.attach_failures.with_label_values(&[reason]).inc_by(0);
        }
        for why in [ResetReason::Unknown, ResetReason::Forgotten] {
            let reset = self.watch_resets.with_label_values(&[reset_name(why)]);
            reset.inc_by(0);
        }
    }

    /// A console's state is another one. `None` before it is there, and when it is no more.
    pub(super) fn state_changed(
        &self,
        before: Option<&ConsoleState>,
        after: Option<&ConsoleState>,
    ) {
        for (state, change) in [(before, -1), (after, 1)] {
            let Some(state) = state else { continue };
            let name = state.availability.name();
            self.consoles.with_label_values(&[name]).add(change);
            self.silent
                .add(change * i64::from(state.silent_since.is_some()));
            self.wedged
                .add(change * i64::from(state.wedged_since.is_some()));
        }
    }

    pub(super) fn gap(&self, reason: GapReason) {
        self.gaps.with_label_values(&[gap_name(reason)]).inc();
    }

    pub(super) fn watch_reset(&self, why: ResetReason) {
        self.watch_resets
            .with_label_values(&[reset_name(why)])
            .inc();
    }

    pub(super) fn attach_failed(&self, error: &EndpointError) {
        self.attach_failures
            .with_label_values(&[failure_name(error)])
            .inc();
    }
}

const fn reset_name(why: ResetReason) -> &'static str {
    match why {
        ResetReason::Unknown => "unknown",
        ResetReason::Forgotten => "forgotten",
    }
}

const fn gap_name(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Overrun => "overrun",
        GapReason::NotAttached => "not_attached",
        GapReason::GenerationPassed => "generation_passed",
    }
}

const FAILURES: [&str; 7] = [
    "not_running",
    "not_ready",
    "held_by_other",
    "denied",
    "unsupported",
    "not_found",
    "unreachable",
];

const fn failure_name(error: &EndpointError) -> &'static str {
    match error {
        EndpointError::NotRunning => FAILURES[0],
        EndpointError::NotReady(_) => FAILURES[1],
        EndpointError::HeldByOther(_) => FAILURES[2],
        EndpointError::Denied(_) => FAILURES[3],
        EndpointError::Unsupported(_) => FAILURES[4],
        EndpointError::NotFound(_) => FAILURES[5],
        EndpointError::Unreachable(_) => FAILURES[6],
    }
}
