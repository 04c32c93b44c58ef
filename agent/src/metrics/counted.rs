//! Shows numbers that a module keeps itself, in atomics: they are read when somebody scrapes, so
//! that counting costs an addition and no more. It counts nothing itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge, Registry};

use super::MetricsError;

/// Where a number is read from.
type Read<C> = fn(&C) -> &AtomicU64;

/// A metric's name, what it means, and where it is read from.
pub(crate) type Counted<C> = (&'static str, &'static str, Read<C>);

struct Shown<C> {
    source: Arc<C>,
    totals: Vec<(IntCounter, Read<C>)>,
    gauges: Vec<(IntGauge, Read<C>)>,
}

/// Has `totals`, which only grow, and `gauges` of `source` shown in `registry`.
///
/// # Errors
/// [`MetricsError`] if a metric of the same name is registered already.
pub(crate) fn show<C: Send + Sync + 'static>(
    registry: &Registry,
    source: Arc<C>,
    totals: &[Counted<C>],
    gauges: &[Counted<C>],
) -> Result<(), MetricsError> {
    let total = |(name, help, read): &Counted<C>| Ok((IntCounter::new(*name, *help)?, *read));
    let gauge = |(name, help, read): &Counted<C>| Ok((IntGauge::new(*name, *help)?, *read));
    let totals: Result<_, prometheus::Error> = totals.iter().map(total).collect();
    let gauges: Result<_, prometheus::Error> = gauges.iter().map(gauge).collect();
    let shown = Shown {
        source,
        totals: totals?,
        gauges: gauges?,
    };
    Ok(registry.register(Box::new(shown))?)
}

impl<C: Send + Sync> Collector for Shown<C> {
    fn desc(&self) -> Vec<&Desc> {
        let totals = self.totals.iter().flat_map(|(total, _)| total.desc());
        totals
            .chain(self.gauges.iter().flat_map(|(gauge, _)| gauge.desc()))
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = |read: &Read<C>| read(&self.source).load(Ordering::Relaxed);
        for (total, read) in &self.totals {
            total.inc_by(now(read).saturating_sub(total.get()));
        }
        for (gauge, read) in &self.gauges {
            gauge.set(i64::try_from(now(read)).unwrap_or(i64::MAX));
        }
        let totals = self.totals.iter().flat_map(|(total, _)| total.collect());
        totals
            .chain(self.gauges.iter().flat_map(|(gauge, _)| gauge.collect()))
            .collect()
    }
}
