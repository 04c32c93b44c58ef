//! Relays of displays, beside whatever else carries VNC off a host, in the same run. A viewer
//! here looks at no picture: it greets, asks for pictures, and presses keys.

mod fairness;
mod link;
mod ways;

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at};
use vmconsole_proto::v1::Mode::{View, WriteTakeover};
use vmconsole_tests::standin::UPDATE;
use vmconsole_tests::usage;

use self::link::Viewer;
use self::ways::{Way, Ways};
use super::scenarios::{
    PACED, PACED_ROUNDS, ROUND_TRIPS, ROUNDS, WARM_ATTACHMENTS, medians, percentile, row, say,
};
use super::table::{Goal, Row, median};
use super::work::Cost;

/// Figures of each way.
type Figures = [Vec<f64>; Way::ALL.len()];

/// Pictures of 256 KiB that one round of bulk shows: 128 MiB.
const PICTURES: usize = 512;

/// Attachments on new connections each round, and where each of them starts programs.
const ATTACHMENTS: usize = 20;
const SLOW_ATTACHMENTS: usize = 3;

/// Relays whose memory is measured, and where each of them is a process.
const RELAYS: usize = 200;
const PROCESSES: usize = 20;

/// Viewers that press keys, and how many keys of all of them a second.
const TYPISTS: usize = 10;
const KEYS_A_SECOND: usize = 1000;

/// Runs what there is of relays and is `wanted`.
pub(crate) async fn run(wanted: impl Fn(&str) -> bool) -> Vec<Row> {
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
    if wanted("keys") {
        rows.push(keys().await);
    }
    if wanted("fairness") {
        rows.extend(fairness::run().await);
    }
    rows
}

fn figure(index: usize, figure: f64) -> Vec<Option<f64>> {
    let mut figures = vec![None; Way::ALL.len()];
    figures[index] = Some(figure);
    figures
}

async fn viewers(ways: &Ways) -> Vec<Viewer> {
    let mut viewers = Vec::new();
    for way in Way::ALL {
        viewers.push(ways.open(way, 0, WriteTakeover).await);
    }
    viewers
}

async fn bulk() -> [Row; 3] {
    say("relays, bulk: 128 MiB a round of pictures");
    let ways = Ways::start(1);
    let mut viewers = viewers(&ways).await;
    let (mut speed, mut cpu, mut client) = <(Figures, Figures, Figures)>::default();
    let mib = (PICTURES * UPDATE) as f64 / 1048576.0;
    for round in 0..=ROUNDS {
        for (index, way) in Way::ALL.into_iter().enumerate() {
            let looking = viewers[index].look(PICTURES);
            let (cost, ()) = Cost::of_process(ways.pid(way), looking).await;
            if round > 0 {
                speed[index].push(mib / cost.wall.as_secs_f64());
                cpu[index].push(cost.cpu.as_secs_f64() * 1024.0 / mib);
                client[index].push(cost.client.as_secs_f64() * 1024.0 / mib);
            }
        }
    }
    [
        row(
            "relay, bulk, MiB/s",
            medians(speed),
            Goal::AtLeastRelay(0.8),
        ),
        row(
            "relay, bulk, server CPU s/GiB",
            medians(cpu),
            Goal::AtMostRelayAndSocat(1.35, 1.15),
        ),
        row("  and its client's", medians(client), Goal::None),
    ]
}

async fn round_trip() -> [Row; 2] {
    say("relays, keys of 8 bytes that are answered with 1");
    let ways = Ways::start(1);
    let mut viewers = viewers(&ways).await;
    let (mut p50, mut p99) = <(Figures, Figures)>::default();
    for round in 0..=ROUNDS {
        for (index, viewer) in viewers.iter_mut().enumerate() {
            let mut times = Vec::with_capacity(ROUND_TRIPS);
            for _ in 0..ROUND_TRIPS {
                let begun = Instant::now();
                viewer.press().await;
                times.push(begun.elapsed());
            }
            if round > 0 {
                p50[index].push(percentile(&mut times, 0.5));
                p99[index].push(percentile(&mut times, 0.99));
            }
        }
    }
    [
        row(
            "relay, key and its answer, p50 us",
            medians(p50),
            Goal::AtMostRelay(1.5),
        ),
        row(
            "relay, key and its answer, p99 us",
            medians(p99),
            Goal::None,
        ),
    ]
}

async fn attach() -> [Row; 4] {
    say("relays, attachments");
    let ways = Ways::start(1);
    let client = ways.connect().await;
    let mut new = Figures::default();
    let (mut opened, mut greeted, mut direct) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (index, way) in Way::ALL.into_iter().enumerate() {
            let slow = matches!(way, Way::Websockify | Way::Sshd);
            let count = if slow { SLOW_ATTACHMENTS } else { ATTACHMENTS };
            let mut times = Vec::with_capacity(count);
            for _ in 0..count {
                let begun = Instant::now();
                ways.open(way, 0, WriteTakeover).await.press().await;
                times.push(begun.elapsed());
            }
            new[index].push(percentile(&mut times, 0.5) / 1e3);
        }
        let (mut first, mut all, mut itself) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..WARM_ATTACHMENTS {
            let begun = Instant::now();
            let relay = ways.relay(&client, 0, View, 0).await;
            first.push(begun.elapsed());
            let viewer = Viewer::greet(relay.into()).await;
            all.push(begun.elapsed());
            viewer.detach().await;
            let begun = Instant::now();
            let _viewer = Viewer::greet(ways.direct().await).await;
            itself.push(begun.elapsed());
        }
        direct.push(percentile(&mut itself, 0.5) / 1e3);
        opened.push(percentile(&mut first, 0.5) / 1e3);
        greeted.push(percentile(&mut all, 0.5) / 1e3);
    }
    [
        row(
            "relay, attach on a new connection, p50 ms",
            medians(new),
            Goal::AtMostRelay(2.0),
        ),
        row(
            "relay, attach on a warm one, p50 ms",
            figure(0, median(opened)),
            Goal::AtMost(0.5),
        ),
        row(
            "  and until ServerInit is read",
            figure(0, median(greeted)),
            Goal::None,
        ),
        row(
            "  the same at the display's own socket",
            figure(0, median(direct)),
            Goal::None,
        ),
    ]
}

async fn memory() -> [Row; 3] {
    say("relays, memory");
    let ways = Ways::start(RELAYS + 1);
    let (mut rss, mut pss) = (Vec::new(), Vec::new());
    for way in Way::ALL {
        // What the first of all takes is the program's, and no relay's.
        let mut viewers = vec![ways.open(way, RELAYS, View).await];
        let count = if way.forks() { PROCESSES } else { RELAYS };
        let before = usage::memory(ways.pid(way));
        for number in 0..count {
            viewers.push(ways.open(way, number, View).await);
        }
        let after = usage::memory(ways.pid(way));
        rss.push(Some((after.rss - before.rss) / count as f64));
        pss.push(Some((after.pss - before.pss) / count as f64));
    }
    let ways = Ways::start(RELAYS + 1);
    let client = ways.connect().await;
    let mut viewers = vec![Viewer::greet(ways.relay(&client, RELAYS, View, 0).await.into()).await];
    let before = usage::memory(ways.pid(Way::Agent)).rss;
    for number in 0..RELAYS {
        let relay = ways.relay(&client, number, View, 0).await;
        viewers.push(Viewer::greet(relay.into()).await);
    }
    let further = (usage::memory(ways.pid(Way::Agent)).rss - before) / RELAYS as f64;
    [
        row(
            "relay, memory, idle on its own connection KiB",
            rss,
            Goal::AtMost(48.0),
        ),
        row("  the same, PSS", pss, Goal::None),
        row(
            "relay, memory, a further one on one KiB",
            figure(0, further),
            Goal::AtMost(12.0),
        ),
    ]
}

async fn keys() -> Row {
    say("relays, 1,000 keys a second");
    let ways = Ways::start(TYPISTS);
    let mut typists = Vec::new();
    for way in Way::ALL {
        let mut viewers = Vec::new();
        for number in 0..TYPISTS {
            viewers.push(ways.open(way, number, WriteTakeover).await);
        }
        typists.push(viewers);
    }
    let mut percent = Figures::default();
    for _ in 0..PACED_ROUNDS {
        for (index, way) in Way::ALL.into_iter().enumerate() {
            let viewers = std::mem::take(&mut typists[index]);
            let (cost, back) = Cost::of_process(ways.pid(way), type_along(viewers)).await;
            typists[index] = back;
            percent[index].push(cost.percent());
        }
    }
    row(
        "relay, 1000 keys/s, % of a core",
        medians(percent),
        Goal::AtMost(10.0),
    )
}

/// [`KEYS_A_SECOND`] for [`PACED`], each answered before its viewer's next.
async fn type_along(viewers: Vec<Viewer>) -> Vec<Viewer> {
    let begin = tokio::time::Instant::now();
    let period = Duration::from_secs(1) * TYPISTS as u32 / KEYS_A_SECOND as u32;
    let mut tasks = JoinSet::new();
    for (number, mut viewer) in viewers.into_iter().enumerate() {
        let first = begin + period * number as u32 / TYPISTS as u32;
        tasks.spawn(async move {
            let mut tick = interval_at(first, period);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for _ in 0..PACED.as_secs() as usize * KEYS_A_SECOND / TYPISTS {
                tick.tick().await;
                viewer.press().await;
            }
            viewer
        });
    }
    tasks.join_all().await
}
