//! What relays that carry much leave to others on the same connection.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::interval_at;
use vmconsole_proto::v1;
use vmconsole_proto::v1::Mode::{View, WriteTakeover};
use vmconsole_tests::client::{Client, Windows, open, relay_open};
use vmconsole_tests::standin::{Mode, StandinHost, UPDATE};

use super::figure;
use super::link::Viewer;
use crate::scenarios::{FAIRNESS, PACED_ROUNDS, percentile, row, say};
use crate::server::{CONFIG, PROGRAMS, Session};
use crate::table::{Goal, Row, median};

/// Serial streams on which keys are typed beside a bulk relay.
const SERIALS: usize = 99;

/// How often each of them types.
const PERIOD: Duration = Duration::from_millis(200);

/// Bulk relays beside each other.
const RELAYS: usize = 4;

/// What a proxy sets that wants fairness: more for the connection than for all that is bulk.
const WINDOWS: Windows = Windows {
    stream: 1024 * 1024,
    connection: 16 * 1024 * 1024,
};
const BULK_WINDOW: u64 = 1024 * 1024;
const SERIAL_WINDOW: u64 = 64 * 1024;

/// Pictures between two looks at the clock.
const PICTURES: usize = 16;

pub(super) async fn run() -> [Row; 4] {
    say("relays, fairness: a bulk relay and 99 keystroke streams on one connection");
    let (mut p99, mut speed) = (Vec::new(), Vec::new());
    for _ in 0..PACED_ROUNDS {
        let (mut times, bulk) = beside().await;
        p99.push(percentile(&mut times, 0.99) / 1e3);
        speed.push(bulk);
    }
    say("relays, fairness: 4 bulk relays on one connection");
    let (mut least, mut sum) = (Vec::new(), Vec::new());
    for _ in 0..PACED_ROUNDS {
        let speeds = shares().await;
        let total: f64 = speeds.iter().sum();
        let smallest = speeds.iter().copied().fold(f64::INFINITY, f64::min);
        least.push(100.0 * smallest * RELAYS as f64 / total);
        sum.push(total);
    }
    let of_it = |what: &str, figures, goal| row(what, figure(0, median(figures)), goal);
    [
        of_it(
            "serial keystroke beside a bulk relay, p99 ms",
            p99,
            Goal::AtMost(10.0),
        ),
        of_it("  and that relay, MiB/s", speed, Goal::None),
        of_it(
            "4 bulk relays, least share, % of an even one",
            least,
            Goal::None,
        ),
        of_it("  and all of them, MiB/s", sum, Goal::None),
    ]
}

async fn bulk(client: &Client, vm: &str) -> Viewer {
    let wanted = v1::RelayOpen {
        output_window: BULK_WINDOW,
        ..relay_open(vm, View)
    };
    let relay = client.relay(wanted).await.expect("it opens");
    Viewer::greet(relay.into()).await
}

/// Looks at pictures until `end`. Returns MiB/s.
async fn look_until(mut viewer: Viewer, end: Instant) -> f64 {
    let (begun, mut pictures) = (Instant::now(), 0);
    while Instant::now() < end {
        viewer.look(PICTURES).await;
        pictures += PICTURES;
    }
    (pictures * UPDATE) as f64 / 1048576.0 / begun.elapsed().as_secs_f64()
}

/// The keystrokes' times, and the relay's MiB/s.
async fn beside() -> (Vec<Duration>, f64) {
    let mut consoles = vec![("screen".to_owned(), Mode::Display)];
    consoles.extend((1..=SERIALS).map(|number| (format!("vm{number:04}"), Mode::Echo)));
    let host = StandinHost::start(PROGRAMS, &consoles, CONFIG);
    let client = host.connect(WINDOWS).await;
    let viewer = bulk(&client, "screen").await;
    let mut serials = Vec::new();
    for (name, _) in &consoles[1..] {
        let wanted = v1::Open {
            output_window: SERIAL_WINDOW,
            ..open(name, WriteTakeover)
        };
        let attached = client.attach(wanted).await.expect("it attaches");
        serials.push(Session::Grpc(Box::new(attached)));
    }
    let end = Instant::now() + FAIRNESS;
    let mut tasks = JoinSet::new();
    for (number, mut session) in serials.into_iter().enumerate() {
        let first = tokio::time::Instant::now() + PERIOD * number as u32 / SERIALS as u32;
        tasks.spawn(async move {
            let mut tick = interval_at(first, PERIOD);
            let mut times = Vec::new();
            while Instant::now() < end {
                tick.tick().await;
                let begun = Instant::now();
                session.round_trip().await;
                times.push(begun.elapsed());
            }
            times
        });
    }
    let bulk = JoinSet::from_iter([look_until(viewer, end)]);
    let times = tasks.join_all().await.concat();
    (times, bulk.join_all().await[0])
}

/// Each relay's MiB/s.
async fn shares() -> Vec<f64> {
    let names = (0..RELAYS).map(|number| format!("vm{number:04}"));
    let consoles: Vec<_> = names.map(|name| (name, Mode::Display)).collect();
    let host = StandinHost::start(PROGRAMS, &consoles, CONFIG);
    let client = host.connect(WINDOWS).await;
    let mut viewers = Vec::new();
    for (name, _) in &consoles {
        viewers.push(bulk(&client, name).await);
    }
    let end = Instant::now() + FAIRNESS;
    let looking = viewers.into_iter().map(|viewer| look_until(viewer, end));
    JoinSet::from_iter(looking).join_all().await
}
