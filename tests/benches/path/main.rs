//! Measures the whole path from a guest's far side to a client, beside a plain TLS relay
//! and socat doing the same work in the same run: `make bench`.
//!
//! Endpoint, server and client are processes of their own, TLS 1.3 with certificates on
//! both sides. Relays of displays are measured beside haproxy, websockify and sshd too.
//! Rounds of all of them are interleaved, and what is told is the median of the
//! rounds. Absolute figures are the machine's; the ratios are what counts.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its results and ends by panicking"
)]

mod idle;
mod relays;
mod scenarios;
mod server;
mod table;
mod work;

use std::process::ExitCode;
use std::time::Instant;

use tokio::task::JoinSet;

/// File descriptors that the largest scenario takes, in each process.
const DESCRIPTORS: u64 = 4096;

fn main() -> ExitCode {
    check_limits();
    // Words after `--` choose scenarios by name; cargo adds --bench.
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    // The client's work is on a worker, and on one: waking another thread for each message
    // costs more than what there is to do with it, whichever way it came.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime starts");
    let begun = Instant::now();
    let work = async {
        JoinSet::from_iter([scenarios::run(chosen)])
            .join_all()
            .await
    };
    let rows = runtime.block_on(work).concat();
    let missed = table::print(&rows);
    println!(
        "\n{missed} goals missed; medians of interleaved rounds, {} s in all",
        begun.elapsed().as_secs()
    );
    ExitCode::SUCCESS
}

fn check_limits() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    assert!(
        soft.is_none_or(|soft: u64| soft >= DESCRIPTORS),
        "at most {soft:?} open files are allowed: run `make bench`, which raises that"
    );
}
