//! What sessions count, and the record that makes each of them end exactly once.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry as MetricRegistry};
use tracing::info;

use super::SessionPermit;
use crate::core::id::{ConsoleId, PeerIdentity, SessionId, StreamId};
use crate::core::reason::Reason;
use crate::metrics::{MetricsError, counter, counters, gauge};

/// Handles to what sessions count.
#[derive(Clone, Debug)]
pub struct SessionMetrics {
    opened: IntCounter,
    closed: IntCounterVec,
    active: IntGauge,
    refused: IntCounterVec,
    away: IntGauge,
    resumed: IntCounter,
}

impl SessionMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// If a metric of the same name is registered already.
    pub fn register(registry: &MetricRegistry) -> Result<Self, MetricsError> {
        let metrics = Self {
            opened: counter(
                registry,
                "vmconsole_sessions_opened_total",
                "Sessions that were opened",
            )?,
            closed: counters(
                registry,
                "vmconsole_sessions_closed_total",
                "Sessions that ended, by reason",
                &["reason"],
            )?,
            active: gauge(
                registry,
                "vmconsole_sessions_active",
                "Sessions that there are now, those included that are away",
            )?,
            refused: counters(
                registry,
                "vmconsole_sessions_refused_total",
                "Streams that were refused before they became sessions, by reason",
                &["reason"],
            )?,
            away: gauge(
                registry,
                "vmconsole_sessions_away",
                "Sessions whose stream broke and that may be taken up again",
            )?,
            resumed: counter(
                registry,
                "vmconsole_sessions_resumed_total",
                "Times that a session was taken up again by another stream",
            )?,
        };
        for reason in Reason::ALL {
            metrics.closed.with_label_values(&[reason.name()]).inc_by(0);
            metrics
                .refused
                .with_label_values(&[reason.name()])
                .inc_by(0);
        }
        Ok(metrics)
    }

    pub(super) fn refused(&self, reason: Reason) {
        self.refused.with_label_values(&[reason.name()]).inc();
    }

    pub(super) fn away(&self, sessions: usize) {
        self.away.set(i64::try_from(sessions).unwrap_or(i64::MAX));
    }

    pub(super) fn resumed(&self, stream: StreamId, console: &ConsoleId) {
        let StreamId { session, number } = stream;
        info!(session.id = %session, console = %console, stream = number, "session resumed");
        self.resumed.inc();
    }

    pub(super) fn opened(
        &self,
        session: SessionId,
        console: ConsoleId,
        proxy: PeerIdentity,
        permit: SessionPermit,
    ) -> Record {
        info!(session.id = %session, console = %console, peer.name = %proxy, "session opened");
        self.opened.inc();
        self.active.inc();
        Record {
            metrics: self.clone(),
            session,
            console,
            end: None,
            _permit: permit,
        }
    }
}

/// One session's entry: counted as opened when it is made, as closed when it is dropped.
#[derive(Debug)]
pub(super) struct Record {
    metrics: SessionMetrics,
    session: SessionId,
    console: ConsoleId,
    end: Option<Reason>,
    _permit: SessionPermit,
}

impl Record {
    /// Says why the session ends; the first word counts.
    pub(super) fn end(&mut self, reason: Reason) {
        self.end.get_or_insert(reason);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let reason = self.end.unwrap_or(Reason::TransportLost);
        info!(session.id = %self.session, console = %self.console, %reason, "session closed");
        self.metrics
            .closed
            .with_label_values(&[reason.name()])
            .inc();
        self.metrics.active.dec();
    }
}
