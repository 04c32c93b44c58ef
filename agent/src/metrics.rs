//! The one registry of metrics, and how a module adds its own to it.
//!
//! Each module keeps a struct of handles that it registers at start and that is passed
//! in; there are no globals. Label values come from closed sets and are all created at
//! registration, so that a rate can be taken from the first scrape on. Nothing here knows
//! what a metric means.

mod counted;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use prometheus::{Histogram, HistogramOpts, TextEncoder};

pub(crate) use counted::{Counted, show};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What this agent is, for `vmconsole_build_info`.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A metric could not be registered or written out: two metrics of one name, or a label
/// that is not allowed. A fault in the agent, found by its tests.
#[derive(Debug, thiserror::Error)]
#[error("a metric is defined wrongly (this is a fault in the agent)")]
pub struct MetricsError(#[from] prometheus::Error);

/// The registry that all modules share.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// A registry that holds what is known of the process and of the build.
    ///
    /// # Errors
    /// [`MetricsError`] if the process collector cannot be registered.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let info = gauges(
            &registry,
            "vmconsole_build_info",
            "Always 1; the labels say which build of the agent runs.",
            &["version"],
        )?;
        info.with_label_values(&[VERSION]).set(1);
        Ok(Self { registry })
    }

    /// Where modules register their own.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// All metrics in Prometheus's text format 0.0.4.
    ///
    /// # Errors
    /// [`MetricsError`] if a metric cannot be written out.
    pub fn render(&self) -> Result<Vec<u8>, MetricsError> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, one: C) -> Result<C, MetricsError> {
    registry.register(Box::new(one.clone()))?;
    Ok(one)
}

/// Registers a counter. Its name ends in `_total`.
///
/// # Errors
/// [`MetricsError`] if the name is taken or not allowed; so for all functions below.
pub fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
    add(registry, IntCounter::new(name, help)?)
}

/// Registers a family of counters told apart by labels.
///
/// # Errors
/// See [`counter`].
pub fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, MetricsError> {
    add(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

/// Registers a gauge.
///
/// # Errors
/// See [`counter`].
pub fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
    add(registry, IntGauge::new(name, help)?)
}

/// Registers a family of gauges told apart by labels.
///
/// # Errors
/// See [`counter`].
pub fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, MetricsError> {
    add(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

/// Registers a histogram with the upper bounds `buckets`, rising.
///
/// # Errors
/// See [`counter`].
pub fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> Result<Histogram, MetricsError> {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    add(registry, Histogram::with_opts(options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.render().expect("renders")).expect("is UTF-8")
    }

    #[test]
    fn build_and_process_are_there_from_the_start() {
        let text = text(&Metrics::new().expect("registers"));
        assert!(text.contains(&format!(
            "vmconsole_build_info{{version=\"{VERSION}\"}} 1\n"
        )));
        assert!(text.contains("# TYPE process_resident_memory_bytes gauge\n"));
        assert!(text.contains("\nprocess_open_fds "));
    }

    #[test]
    fn what_modules_register_is_rendered() {
        let metrics = Metrics::new().expect("registers");
        let registry = metrics.registry();
        counter(registry, "vmconsole_a_total", "A.")
            .expect("new")
            .inc_by(3);
        let family = counters(registry, "vmconsole_b_total", "B.", &["result"]).expect("new");
        family.with_label_values(&["ok"]).inc();
        gauge(registry, "vmconsole_c", "C.").expect("new").set(-4);
        let times = histogram(registry, "vmconsole_d_seconds", "D.", &[0.1, 1.0]).expect("new");
        times.observe(0.5);
        let text = text(&metrics);
        for line in [
            "vmconsole_a_total 3\n",
            "vmconsole_b_total{result=\"ok\"} 1\n",
            "vmconsole_c -4\n",
            "vmconsole_d_seconds_bucket{le=\"0.1\"} 0\n",
            "vmconsole_d_seconds_bucket{le=\"1\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn one_name_is_registered_once() {
        let metrics = Metrics::new().expect("registers");
        gauge(metrics.registry(), "vmconsole_c", "C.").expect("new");
        gauge(metrics.registry(), "vmconsole_c", "C.").expect_err("taken");
    }
}
