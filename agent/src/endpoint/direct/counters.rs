//! What direct endpoints count, and how that is shown to whoever scrapes: it is read when that
//! happens, so that counting costs an addition and no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGaugeVec, Opts, Registry};

use crate::endpoint::EndpointKind;
use crate::metrics::MetricsError;

/// Counts since the agent started. They are read one by one, so two of them may be a moment
/// apart.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Reads that gave something.
    reads: AtomicU64,
    /// Bytes that they gave.
    bytes: AtomicU64,
    /// Rests between reads.
    pub(super) rests: AtomicU64,
    /// Connections of which the kernel did not tell whether QEMU took them.
    pub(super) unverified: AtomicU64,
    /// A gauge for each kind: what is attached.
    open: [AtomicU64; KINDS.len()],
}

const KINDS: [(EndpointKind, &str); 3] = [
    (EndpointKind::Pty, "pty"),
    (EndpointKind::UnixSocket, "unix"),
    (EndpointKind::TcpSocket, "tcp"),
];

type Read = fn(&Counters) -> &AtomicU64;

const COUNTERS: [(&str, &str, Read); 4] = [
    (
        "vmconsole_direct_reads_total",
        "Reads of terminals and sockets that gave something",
        |c| &c.reads,
    ),
    (
        "vmconsole_direct_read_bytes_total",
        "Bytes that were read from terminals and sockets",
        |c| &c.bytes,
    ),
    (
        "vmconsole_direct_rests_total",
        "Times that reading waited a moment, so that small pieces gathered",
        |c| &c.rests,
    ),
    (
        "vmconsole_direct_unverified_total",
        "Connections to sockets of which the kernel did not tell whether QEMU took them",
        |c| &c.unverified,
    ),
];

impl Counters {
    /// Adds one.
    pub(super) fn bump(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A read gave so many bytes.
    pub(super) fn read(&self, bytes: usize) {
        Self::bump(&self.reads);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts one of `kind` as attached while what this returns lives.
    pub(super) fn open(self: &Arc<Self>, kind: EndpointKind) -> Held {
        let index = KINDS.iter().position(|(it, _)| *it == kind);
        let held = Held {
            counters: self.clone(),
            index: index.unwrap_or(KINDS.len()),
        };
        if let Some(gauge) = held.gauge() {
            Self::bump(gauge);
        }
        held
    }
}

/// Keeps a gauge one higher while it lives.
#[derive(Debug)]
pub(super) struct Held {
    counters: Arc<Counters>,
    index: usize,
}

impl Held {
    fn gauge(&self) -> Option<&AtomicU64> {
        self.counters.open.get(self.index)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(gauge) = self.gauge() {
            gauge.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

struct Shown {
    counters: Arc<Counters>,
    totals: Vec<(IntCounter, Read)>,
    open: IntGaugeVec,
}

/// Registers what `counters` count.
///
/// # Errors
/// [`MetricsError`] if a metric of the same name is registered already.
pub(super) fn register(counters: Arc<Counters>, registry: &Registry) -> Result<(), MetricsError> {
    let total = |(name, help, read)| Ok((IntCounter::new(name, help)?, read));
    let totals = COUNTERS.map(total).into_iter();
    let open = Opts::new(
        "vmconsole_direct_endpoints_open",
        "Terminals and sockets that are attached",
    );
    let shown = Shown {
        counters,
        totals: totals.collect::<Result<_, prometheus::Error>>()?,
        open: IntGaugeVec::new(open, &["endpoint"])?,
    };
    Ok(registry.register(Box::new(shown))?)
}

impl Collector for Shown {
    fn desc(&self) -> Vec<&Desc> {
        let totals = self.totals.iter().flat_map(|(total, _)| total.desc());
        totals.chain(self.open.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (total, read) in &self.totals {
            let now = read(&self.counters).load(Ordering::Relaxed);
            total.inc_by(now.saturating_sub(total.get()));
        }
        for ((_, label), open) in KINDS.iter().zip(&self.counters.open) {
            let now = open.load(Ordering::Relaxed);
            let gauge = self.open.with_label_values(&[label]);
            gauge.set(i64::try_from(now).unwrap_or(i64::MAX));
        }
        let totals = self.totals.iter().flat_map(|(total, _)| total.collect());
        totals.chain(self.open.collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn what_is_counted_is_shown() {
        let (counters, metrics) = (Arc::new(Counters::default()), Metrics::new().unwrap());
        register(counters.clone(), metrics.registry()).unwrap();
        counters.read(10);
        counters.read(7);
        let held = counters.open(EndpointKind::Pty);
        let has = |line: &str| {
            let text = String::from_utf8(metrics.render().unwrap()).unwrap();
            assert!(text.contains(line), "{text}");
        };
        has("vmconsole_direct_reads_total 2\n");
        has("vmconsole_direct_read_bytes_total 17\n");
        has("vmconsole_direct_endpoints_open{endpoint=\"pty\"} 1\n");
        has("vmconsole_direct_endpoints_open{endpoint=\"tcp\"} 0\n");
        drop(held);
        has("vmconsole_direct_endpoints_open{endpoint=\"pty\"} 0\n");
    }
}
