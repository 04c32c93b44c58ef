//! The real agent in a process of its own, on consoles that are unix sockets:
//! `standin-agent CONFIG SOCKET…`.
//!
//! Says `ready GRPC_ADDRESS HTTP_ADDRESS` once it serves. SIGTERM stops it in good order.
#![allow(clippy::print_stdout, reason = "its standard output is its interface")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use vmconsole_agent::app::{self, App};
use vmconsole_agent::config::Config;
use vmconsole_agent::metrics::Metrics;
use vmconsole_agent::shutdown::Tasks;
use vmconsole_agent::telemetry;
use vmconsole_tests::standin::StandinHypervisor;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let config = arguments
        .next()
        .ok_or("usage: standin-agent CONFIG SOCKET…")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(app::workers())
        .enable_all()
        .build()?;
    runtime.block_on(run(&config, arguments.collect()))
}

async fn run(config: &Path, sockets: Vec<PathBuf>) -> Result<(), Failure> {
    let config = Config::load(config)?;
    let _logging = telemetry::start(&config.log)?;
    let tasks = Tasks::new();
    let hypervisor = StandinHypervisor::new(sockets, tasks.clone());
    let app = App::start(&config, Metrics::new()?, Arc::new(hypervisor)).await?;
    println!("ready {} {}", app.grpc_addresses()[0], app.http_address());
    let mut terminate = signal(SignalKind::terminate())?;
    terminate.recv().await;
    let in_time = app.stop().await;
    tasks.close();
    if in_time {
        Ok(())
    } else {
        Err("not everything ended in time".into())
    }
}
