//! The agent's whole path on stand-in consoles: what a real guest is too slow to show.
//!
//! After every test as many sessions are closed as were opened.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test ends by panicking, and prints the figures that it saw"
)]

mod capture;
mod limits;
mod load;
mod starts;
mod steady;
mod streams;
mod times;
mod watch;

use std::future::Future;
use std::time::Duration;

use vmconsole_tests::scrape;
use vmconsole_tests::standin::{Mode, Programs, StandinHost};

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

const PROGRAMS: Programs = Programs {
    agent: env!("CARGO_BIN_EXE_standin-agent"),
    guest: env!("CARGO_BIN_EXE_standin-guest"),
};

/// A host with these consoles.
fn host(consoles: &[(&str, Mode)], config: &str) -> StandinHost {
    let consoles: Vec<_> = consoles
        .iter()
        .map(|(name, mode)| ((*name).to_owned(), *mode))
        .collect();
    StandinHost::start(PROGRAMS, &consoles, config)
}

/// Runs a test, and then waits until all of its sessions are closed.
async fn settled(host: &StandinHost, test: impl Future<Output = ()>) {
    test.await;
    let sessions = scrape::sessions_settled(host.http, SOON).await;
    assert!(sessions > 0.0, "the test opened no session");
}
