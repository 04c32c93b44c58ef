//! What the agent logs, and where to: events of the `tracing` crate, as text or JSON, to
//! stderr, from where journald takes them.
//!
//! It never waits for whoever reads stderr: a thread of its own writes, from a bounded
//! queue, and lines that find it full are lost, counted and told of. A host whose journal
//! hangs must not hang the guests' consoles. It keeps no file, and lets no library say
//! what it received from a peer.
//!
//! The levels: *error*, the agent broke a promise or cannot go on; *warn*, something
//! failed that it gets over, or that an operator should look at; *info*, what callers and
//! consoles did; *debug*, what led to it; *trace*, each step. Neither guest output nor a
//! secret is logged at any level.

mod lines;

use std::any::Any;
use std::io::{self, IsTerminal};
use std::panic::Location;
use std::time::Duration;

use prometheus::Registry;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, FilterFn, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Log, LogFormat, LogLevel};
use crate::metrics::MetricsError;
use lines::Lines;

/// The environment variable that takes the place of `log.level`, in the form of
/// [`EnvFilter`].
pub const FILTER_VARIABLE: &str = "VMCONSOLE_LOG";
/// How the targets of this project's own events begin.
const OWN_TARGETS: &str = "vmconsole";
/// How long the end of the process waits for the lines that are queued.
const FLUSH: Duration = Duration::from_secs(1);

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The environment variable makes no sense.
    #[error(
        "the environment variable {FILTER_VARIABLE} is not a log filter; unset it, or write \
             one such as \"info\" or \"info,vmconsole_agent::console=debug\""
    )]
    Filter(#[source] ParseError),
    /// The environment variable is not UTF-8.
    #[error("the environment variable {FILTER_VARIABLE} is not UTF-8; unset it")]
    NotText,
    /// The thread that writes could not be started.
    #[error("cannot start the thread that writes the log")]
    Thread(#[source] io::Error),
    /// Logging was set up already. A fault in the agent.
    #[error("logging was set up twice (this is a fault in the agent)")]
    Twice,
}

/// Keeps the log going. Dropping it waits up to a second until what is queued is written.
#[derive(Debug)]
pub struct Logging {
    lines: Lines,
}

impl Logging {
    /// Registers the count of lost lines.
    ///
    /// # Errors
    /// [`MetricsError`] if it is registered already.
    pub fn register(&self, registry: &Registry) -> Result<(), MetricsError> {
        registry.register(Box::new(self.lines.lost().clone()))?;
        Ok(())
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.lines.flush(FLUSH);
    }
}

/// Sets up logging for the whole process: once, early. Panics are logged from then on, by
/// where they happened.
///
/// # Errors
/// [`TelemetryError`]; nothing was set up.
pub fn start(log: &Log) -> Result<Logging, TelemetryError> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) => filter(log.level, Some(&text))?,
        Err(std::env::VarError::NotPresent) => filter(log.level, None)?,
        Err(std::env::VarError::NotUnicode(_)) => return Err(TelemetryError::NotText),
    };
    let colours = io::stderr().is_terminal();
    let lines = Lines::start(io::stderr(), log.format).map_err(TelemetryError::Thread)?;
    let subscriber = subscriber(log.format, colours, filter, lines.clone());
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Twice)?;
    std::panic::set_hook(Box::new(|panic| {
        report_panic(panic.payload(), panic.location())
    }));
    Ok(Logging { lines })
}

/// Logs a panic by where it happened. Its text is logged if it is a literal; one that was
/// put together at run time may quote a guest or a peer.
fn report_panic(payload: &(dyn Any + Send), location: Option<&Location<'_>>) {
    let literal = payload.downcast_ref::<&'static str>().copied();
    let text = literal.unwrap_or("(withheld)");
    let location = location.map(ToString::to_string);
    tracing::error!(
        panic.text = text,
        location,
        "panic: this is a fault in the agent"
    );
}

/// What is logged: as the environment says, else this project's events from `level` on,
/// and warnings of libraries.
fn filter(level: LogLevel, environment: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let directives = match (environment, level) {
        (Some(text), _) if !text.trim().is_empty() => text,
        (_, LogLevel::Error) => "error",
        (_, LogLevel::Warn) => "warn",
        (_, LogLevel::Info) => "warn,vmconsole_agent=info",
        (_, LogLevel::Debug) => "warn,vmconsole_agent=debug",
        (_, LogLevel::Trace) => "warn,vmconsole_agent=trace",
    };
    EnvFilter::builder()
        .parse(directives)
        .map_err(TelemetryError::Filter)
}

/// Whether an event may be logged whatever the filter says. Below *info*, the HTTP/2 and
/// TLS libraries describe what peers send, headers with their secrets among it.
fn is_discreet(event: &Metadata<'_>) -> bool {
    event.target().starts_with(OWN_TARGETS) || *event.level() <= Level::INFO
}

fn subscriber(
    format: LogFormat,
    colours: bool,
    filter: EnvFilter,
    lines: Lines,
) -> impl Subscriber + Send + Sync {
    let filter = filter.and(FilterFn::new(is_discreet));
    tracing_subscriber::registry().with(layer(format, colours, lines).with_filter(filter))
}

fn layer<S>(format: LogFormat, colours: bool, lines: Lines) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(lines);
    match format {
        LogFormat::Text => layer.with_ansi(colours).boxed(),
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
    }
}

#[cfg(test)]
mod tests {
    use tracing::{debug, error, info, trace, warn};

    use super::lines::testing::Captured;
    use super::*;

    /// What `log` writes under a filter.
    fn logged(format: LogFormat, filter: EnvFilter, log: impl FnOnce()) -> String {
        let captured = Captured::default();
        let lines = Lines::start(captured.clone(), format).expect("a thread");
        let subscriber = subscriber(format, false, filter, lines.clone());
        tracing::subscriber::with_default(subscriber, log);
        drop(Logging { lines });
        captured.text()
    }

    fn events() {
        error!(target: "vmconsole_agent::x", "own error");
        info!(target: "vmconsole_agent::x", bytes = 3, vm.name = "a\nb", "own info");
        debug!(target: "vmconsole_agent::x", "own debug");
        warn!(target: "h2", "foreign warn");
        info!(target: "h2", "foreign info");
        trace!(target: "h2", "foreign trace");
    }

    fn messages(level: LogLevel, environment: Option<&str>) -> Vec<String> {
        let filter = filter(level, environment).expect("a filter");
        let text = logged(LogFormat::Json, filter, events);
        let start = "\"message\":\"";
        let messages = text.lines().map(|line| {
            let at = line.find(start).expect("each line has a message") + start.len();
            line[at..].split('"').next().expect("it ends").to_owned()
        });
        messages.collect()
    }

    #[test]
    fn the_level_is_for_our_own_events_and_libraries_only_warn() {
        let error = messages(LogLevel::Error, None);
        assert_eq!(error, ["own error"]);
        let info = messages(LogLevel::Info, None);
        assert_eq!(info, ["own error", "own info", "foreign warn"]);
        let debug = messages(LogLevel::Debug, Some(" "));
        assert_eq!(
            debug,
            ["own error", "own info", "own debug", "foreign warn"]
        );
    }

    #[test]
    fn the_environment_takes_the_levels_place_but_cannot_make_libraries_talk() {
        let all = messages(LogLevel::Error, Some("trace"));
        assert_eq!(
            all,
            [
                "own error",
                "own info",
                "own debug",
                "foreign warn",
                "foreign info"
            ]
        );
        assert_eq!(messages(LogLevel::Trace, Some("h2=warn")), ["foreign warn"]);
        let error = filter(LogLevel::Info, Some("a=b=c")).expect_err("no filter");
        assert!(matches!(error, TelemetryError::Filter(_)), "{error}");
    }

    #[test]
    fn a_panic_is_logged_by_its_place_and_not_by_what_it_may_quote() {
        let here = Location::caller();
        let filter = filter(LogLevel::Info, None).expect("a filter");
        let text = logged(LogFormat::Json, filter, || {
            report_panic(&"a literal", Some(here));
            report_panic(&String::from("quotes a guest"), None);
        });
        assert!(text.contains(&format!("\"location\":\"{here}\"")), "{text}");
        assert!(text.contains("\"panic.text\":\"a literal\""), "{text}");
        assert!(text.contains("\"panic.text\":\"(withheld)\""), "{text}");
        assert!(!text.contains("guest"), "{text}");
    }

    #[test]
    fn an_event_is_one_line_with_its_fields() {
        let only = || filter(LogLevel::Info, Some("vmconsole_agent::x=info")).expect("a filter");
        let text = logged(LogFormat::Text, only(), events);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("INFO vmconsole_agent::x: own info"), "{text}");
        assert!(text.contains("bytes=3"), "{text}");
        let json = logged(LogFormat::Json, only(), events);
        assert_eq!(json.lines().count(), 2, "{json}");
        assert!(json.contains(r#""bytes":3,"vm.name":"a\nb""#), "{json}");
    }
}
