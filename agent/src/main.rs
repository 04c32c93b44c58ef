//! `vmconsole-agent`: reads its configuration, runs until it is told to stop.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, warn};
use vmconsole_agent::app::{self, App, Hypervisors};
use vmconsole_agent::config::Config;
use vmconsole_agent::metrics::Metrics;
use vmconsole_agent::shutdown::Tasks;
use vmconsole_agent::{telemetry, tls};

/// How long a stop waits for hypervisors' connections to close.
const CLOSE_HYPERVISORS: Duration = Duration::from_secs(5);

/// Serves the consoles of this host's VMs over gRPC.
#[derive(Parser)]
#[command(name = "vmconsole-agent", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", global = true)]
    #[arg(default_value = "/etc/vmconsole-agent/config.toml")]
    config: PathBuf,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT; what is done if no command is given.
    Run,
    /// Check the configuration and the certificates that it names, and say what is wrong.
    CheckConfig,
}

/// What went wrong, for a person: the error and what caused it, on one line.
struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Self(text)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        None | Some(Command::Run) => run(&arguments.config),
        Some(Command::CheckConfig) => check(&arguments.config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(text)) => {
            say(&mut std::io::stderr(), &format!("vmconsole-agent: {text}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a line for whoever called; nobody can be told if that fails.
fn say(to: &mut impl std::io::Write, line: &str) {
    let _ = writeln!(to, "{line}");
}

fn check(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path)?;
    let grpc = &config.grpc;
    tls::server_config(&grpc.certificate, &grpc.private_key, &grpc.client_ca)?;
    say(&mut std::io::stdout(), &format!("{}: good", path.display()));
    Ok(())
}

fn run(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path)?;
    let logging = telemetry::start(&config.log)?;
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(app::workers())
        .thread_name("vmconsole")
        .enable_all()
        .build()?;
    let metrics = Metrics::new()?;
    logging.register(metrics.registry())?;
    runtime.block_on(serve(&config, metrics))
}

/// Takes as many descriptors as it may have: each console and each connection has some.
fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard));
    match raised {
        Ok(limit) => debug!(limit, "descriptors"),
        Err(error) => warn!(%error, "the limit of descriptors stays as it is"),
    }
}

/// Tells whoever supervises the agent how far it is; without one, nobody is told
/// (sd_notify(3)).
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "systemd was not told");
    }
}

/// How long a stop may take, in microseconds: streams, then consoles, then hypervisors.
fn stop_usec(drain: Duration) -> u32 {
    let longest = drain + app::LET_GO + CLOSE_HYPERVISORS + Duration::from_secs(5);
    u32::try_from(longest.as_micros()).unwrap_or(u32::MAX)
}

async fn serve(config: &Config, metrics: Metrics) -> Result<(), Failure> {
    // Installed before anything starts, so that a stop during the start is not missed.
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let tasks = Tasks::new();
    let hypervisors = Hypervisors::new(config, metrics.registry(), &tasks)?;
    let app = App::start(config, metrics, hypervisors.merged()).await?;
    hypervisors.run(&tasks);
    tell_systemd(NotifyState::Ready);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tell_systemd(NotifyState::Stopping);
    tell_systemd(NotifyState::ExtendTimeoutUsec(stop_usec(config.grpc.drain)));
    let stop = async {
        app.stop().await;
        tasks.close();
        tasks.drained(CLOSE_HYPERVISORS).await;
    };
    tokio::select! {
        () = stop => {}
        _ = terminate.recv() => warn!("stopped at once, by a second signal"),
        _ = interrupt.recv() => warn!("stopped at once, by a second signal"),
    }
    Ok(())
}
