//! `vmconsole-agent`: reads its configuration, runs until it is told to stop.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{User, geteuid};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, warn};
use vmconsole_agent::app::{self, App};
use vmconsole_agent::config::{Config, Endpoints, TcpConsoles};
use vmconsole_agent::endpoint::{DirectEndpoints, DirectRules, TcpRule};
use vmconsole_agent::hypervisor::libvirt::{LibvirtConfig, LibvirtHypervisor};
use vmconsole_agent::metrics::Metrics;
use vmconsole_agent::shutdown::Tasks;
use vmconsole_agent::{telemetry, tls};

/// How long a stop waits for libvirt's connections to close.
const CLOSE_LIBVIRT: Duration = Duration::from_secs(5);

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

/// Which endpoints the agent may open itself.
fn direct_rules(endpoints: &Endpoints) -> DirectRules {
    let mut owners = vec![geteuid().as_raw()];
    for name in &endpoints.owners {
        match User::from_name(name) {
            Ok(Some(user)) => owners.push(user.uid.as_raw()),
            Ok(None) => debug!(%name, "no such user here: owns no console"),
            Err(error) => warn!(%name, %error, "the user is not known: owns no console"),
        }
    }
    DirectRules {
        directories: endpoints.directories.clone(),
        owners,
        tcp: match endpoints.tcp {
            TcpConsoles::Off => TcpRule::Off,
            TcpConsoles::Loopback => TcpRule::Loopback,
            TcpConsoles::Any => TcpRule::Any,
        },
    }
}

async fn serve(config: &Config, metrics: Metrics) -> Result<(), Failure> {
    // Installed before anything starts, so that a stop during the start is not missed.
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let tasks = Tasks::new();
    let direct = DirectEndpoints::new(direct_rules(&config.endpoints), tasks.clone());
    let from = LibvirtConfig {
        uri: config.libvirt.uri.clone(),
        call_timeout: config.libvirt.call_timeout,
        channels: config.libvirt.channels.clone(),
        ..LibvirtConfig::default()
    };
    let (hypervisor, libvirt) = LibvirtHypervisor::new(from, direct);
    hypervisor.register_metrics(metrics.registry())?;
    let app = App::start(config, metrics, hypervisor).await?;
    tasks.spawn("libvirt", libvirt.run(tasks.token()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let stop = async {
        app.stop().await;
        tasks.close();
        tasks.drained(CLOSE_LIBVIRT).await;
    };
    tokio::select! {
        () = stop => {}
        _ = terminate.recv() => warn!("stopped at once, by a second signal"),
        _ = interrupt.recv() => warn!("stopped at once, by a second signal"),
    }
    Ok(())
}
