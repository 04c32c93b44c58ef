//! Which work is done how often, and what becomes of its figures.

use std::time::Duration;

use vmconsole_tests::standin::{Mode, SELL_UNIT};

use super::idle::{idle, memory};
use super::relays;
use super::server::{Kind, Server, Session};
use super::table::{Goal, Row, median};
use super::work::{self, Cost, UART_RATE};

pub(crate) const ROUNDS: usize = 5;

/// What one round of bulk transfers: 256 MiB.
const LOTS: usize = 1024;

/// Round trips, attachments on new connections and on a warm one, each round.
pub(crate) const ROUND_TRIPS: usize = 2000;
const NEW_ATTACHMENTS: usize = 20;
pub(crate) const WARM_ATTACHMENTS: usize = 200;

/// How long what is paced by time goes on, each round.
pub(crate) const PACED: Duration = Duration::from_secs(2);
pub(crate) const PACED_ROUNDS: usize = 3;
pub(crate) const FAIRNESS: Duration = Duration::from_secs(4);

/// Keystroke streams beside one bulk stream.
const OTHERS: usize = 199;

pub(crate) fn row(
    what: impl Into<String>,
    figures: impl Into<Vec<Option<f64>>>,
    goal: Goal,
) -> Row {
    Row {
        what: what.into(),
        figures: figures.into(),
        goal,
    }
}

pub(crate) fn medians<const N: usize>(rounds: [Vec<f64>; N]) -> [Option<f64>; N] {
    rounds.map(|rounds| (!rounds.is_empty()).then(|| median(rounds)))
}

/// The value below which this share of all lies, in microseconds.
pub(crate) fn percentile(times: &mut [Duration], share: f64) -> f64 {
    times.sort();
    let index = ((times.len() as f64 * share) as usize).min(times.len() - 1);
    times[index].as_secs_f64() * 1e6
}

pub(crate) fn say(what: &str) {
    eprintln!("measuring {what} …");
}

/// Runs the scenarios that are `chosen` by name, or all.
pub(crate) async fn run(chosen: Vec<String>) -> Vec<Row> {
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|word| word == name);
    let mut rows = Vec::new();
    if wanted("bulk") {
        rows.extend(bulk().await);
    }
    if wanted("round-trip") {
        rows.extend(round_trip().await);
    }
    if wanted("attach") {
        rows.extend(attach().await);
    }
    if wanted("memory") {
        rows.extend(memory().await);
    }
    if wanted("idle") {
        rows.extend(idle().await);
    }
    if wanted("keys") {
        rows.push(keys().await);
    }
    if wanted("uart") {
        rows.extend(uart().await);
    }
    if wanted("fairness") {
        rows.extend(fairness().await);
    }
    let of_relays = |part: &str| wanted("relays") || wanted(&format!("relays-{part}"));
    rows.extend(relays::run(of_relays).await);
    rows
}

fn servers(modes: &[Mode]) -> [Server; 3] {
    Kind::all().map(|kind| Server::start(kind, modes))
}

async fn one_session_each(servers: &[Server; 3]) -> Vec<Session> {
    let mut sessions = Vec::new();
    for server in servers {
        sessions.push(server.open_new(0).await);
    }
    sessions
}

async fn bulk() -> [Row; 3] {
    say("bulk: 256 MiB a round through one stream");
    let servers = servers(&[Mode::Sell(SELL_UNIT)]);
    let mut sessions = one_session_each(&servers).await;
    let (mut speed, mut cpu) = <([Vec<f64>; 3], [Vec<f64>; 3])>::default();
    let mut client = <[Vec<f64>; 3]>::default();
    for round in 0..=ROUNDS {
        for (index, session) in sessions.iter_mut().enumerate() {
            let (cost, ()) = Cost::of(&servers[index], work::buy(session, LOTS)).await;
            if round > 0 {
                let mib = (LOTS * SELL_UNIT) as f64 / 1048576.0;
                speed[index].push(mib / cost.wall.as_secs_f64());
                cpu[index].push(cost.cpu.as_secs_f64() * 1024.0 / mib);
                client[index].push(cost.client.as_secs_f64() * 1024.0 / mib);
            }
        }
    }
    [
        row("bulk, MiB/s", medians(speed), Goal::AtLeastRelay(0.8)),
        row(
            "bulk, server CPU s/GiB",
            medians(cpu),
            Goal::AtMostRelayAndSocat(1.35, 1.15),
        ),
        row("  and its client's", medians(client), Goal::None),
    ]
}

async fn round_trip() -> [Row; 2] {
    say("round trips of one byte");
    let servers = servers(&[Mode::Echo]);
    let mut sessions = one_session_each(&servers).await;
    let (mut p50, mut p99) = <([Vec<f64>; 3], [Vec<f64>; 3])>::default();
    for round in 0..=ROUNDS {
        for (index, session) in sessions.iter_mut().enumerate() {
            let mut times = work::round_trips(session, ROUND_TRIPS).await;
            if round > 0 {
                p50[index].push(percentile(&mut times, 0.5));
                p99[index].push(percentile(&mut times, 0.99));
            }
        }
    }
    [
        row(
            "round trip of 1 byte, p50 us",
            medians(p50),
            Goal::AtMostRelay(1.5),
        ),
        row("round trip of 1 byte, p99 us", medians(p99), Goal::None),
    ]
}

async fn attach() -> [Row; 2] {
    say("attachments");
    let servers = servers(&[Mode::Echo]);
    let client = servers[0]
        .connect()
        .await
        .expect("the agent has connections");
    let (mut new, mut warm) = <([Vec<f64>; 3], Vec<f64>)>::default();
    for _ in 0..ROUNDS {
        for (index, server) in servers.iter().enumerate() {
            let mut times = work::attach_new(server, NEW_ATTACHMENTS).await;
            new[index].push(percentile(&mut times, 0.5) / 1e3);
        }
        let mut times = work::attach_warm(&client, WARM_ATTACHMENTS).await;
        warm.push(percentile(&mut times, 0.5) / 1e3);
    }
    let warm = [Some(median(warm)), None, None];
    [
        row(
            "attach on a new connection, p50 ms",
            medians(new),
            Goal::AtMostRelay(2.0),
        ),
        row(
            "attach on a warm connection, p50 ms",
            warm,
            Goal::AtMost(0.5),
        ),
    ]
}

async fn keys() -> Row {
    say("1,000 keystrokes a second");
    let servers = servers(&work::typists_modes());
    let mut sessions = Vec::new();
    for server in &servers {
        sessions.push(work::typists(server).await);
    }
    let mut percent = <[Vec<f64>; 3]>::default();
    for _ in 0..PACED_ROUNDS {
        for (index, server) in servers.iter().enumerate() {
            let typists = std::mem::take(&mut sessions[index]);
            let seconds = PACED.as_secs() as usize;
            let (cost, back) = Cost::of(server, work::type_along(typists, seconds)).await;
            sessions[index] = back;
            percent[index].push(cost.percent());
        }
    }
    row(
        "1000 keystrokes/s, % of a core",
        medians(percent),
        Goal::AtMost(10.0),
    )
}

async fn uart() -> [Row; 2] {
    say("a 16550 that floods");
    let servers = servers(&[Mode::Uart(UART_RATE)]);
    let mut sessions = one_session_each(&servers).await;
    let (mut percent, mut first) = <([Vec<f64>; 3], [Vec<f64>; 3])>::default();
    for _ in 0..PACED_ROUNDS {
        for (index, session) in sessions.iter_mut().enumerate() {
            let (cost, delay) = Cost::of(&servers[index], work::read_uart(session, PACED)).await;
            percent[index].push(cost.percent());
            first[index].push(delay.as_secs_f64() * 1e6);
        }
    }
    [
        row(
            "flooding 16550, one viewer, % of a core",
            medians(percent),
            Goal::AtMost(10.0),
        ),
        row("flooding 16550, first byte us", medians(first), Goal::None),
    ]
}

async fn fairness() -> [Row; 2] {
    say("fairness: a bulk stream and 199 keystroke streams on one connection");
    let (mut p99, mut speed) = (Vec::new(), Vec::new());
    for _ in 0..PACED_ROUNDS {
        let (mut times, bulk) = work::fairness(OTHERS, FAIRNESS).await;
        p99.push(percentile(&mut times, 0.99) / 1e3);
        speed.push(bulk);
    }
    let (p99, speed) = (Some(median(p99)), Some(median(speed)));
    [
        row(
            "keystroke beside bulk on one connection, p99 ms",
            [p99, None, None],
            Goal::AtMost(10.0),
        ),
        row("  and that bulk, MiB/s", [speed, None, None], Goal::None),
    ]
}
