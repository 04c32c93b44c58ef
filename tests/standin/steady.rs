//! A guest that prints without end, and three viewers of it on one connection: a fast one, a
//! slow one and one that stopped. Memory stays flat, the fast one loses nothing, the slow one
//! is told what it lost, the stopped one once it goes on, in one gap.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use vmconsole_proto::v1;
use vmconsole_proto::v1::Mode::{View, WriteIfFree};
use vmconsole_proto::v1::stream_console_response::Message;
use vmconsole_tests::client::{Attached, Client, Windows, open};
use vmconsole_tests::standin::{LINE, Mode, line_at};
use vmconsole_tests::usage;

use super::{SOON, host, settled};

const KIB: u64 = 1024;

/// What the guest prints, in bytes a second: ten times a 16550's.
const RATE: u32 = 2_000_000;

/// What the agent keeps: so many seconds may pass before a fast viewer loses anything, be the
/// machine ever so busy.
const RING: &str = "[console]\nring_bytes = 8388608\n";

/// The output windows.
const FAST: u64 = 1024 * KIB;
const SLOW: u64 = 64 * KIB;

/// How often the slow viewer acknowledges: 256 KiB a second.
const SLOWLY: Duration = Duration::from_millis(250);

/// When memory is looked at for the first time, after rings and buffers have their size.
const WARM: Duration = Duration::from_secs(6);

/// How much more it may ever be.
const GROWTH_KIB: f64 = 2048.0;

/// The console stays silent so long once its guest has stopped and all is read.
const SILENCE: Duration = Duration::from_secs(1);

/// What came is what the guest wrote at that position.
fn check(output: &v1::Output) {
    let at = output.position.unwrap().offset;
    let line = LINE as u64;
    let (skip, length) = ((at % line) as usize, output.data.len());
    let lines = (at / line..).flat_map(|number| line_at(number * line));
    let expected = lines.skip(skip).take(length);
    assert!(
        expected.eq(output.data.iter().copied()),
        "other bytes at {at}"
    );
}

/// The next message, after it was checked. `None` once nothing comes until `until`.
async fn next(attached: &mut Attached, until: Instant) -> Option<Message> {
    let next = timeout_at(until, attached.receive.next()).await.ok()?;
    let message = next.unwrap().expect("the stream goes on");
    if let Message::Output(output) = &message {
        check(output);
    }
    Some(message)
}

/// Reads until the guest is silent.
async fn read_out(attached: &mut Attached) {
    let position = attached.receive.position();
    attached.send.acknowledge(position).await;
    while next(attached, Instant::now() + SILENCE).await.is_some() {}
}

/// Reads all at once until `until`, then stops the guest and reads the rest.
async fn fast(mut attached: Attached, until: Instant) -> Attached {
    while next(&mut attached, until).await.is_some() {}
    attached.send.type_bytes(&b"0"[..]).await;
    read_out(&mut attached).await;
    attached
}

/// Acknowledges now and then until `until`, then reads all that is left.
async fn slow(mut attached: Attached, until: Instant) -> Attached {
    attached.receive.set_acknowledging(false);
    let mut tick = interval(SLOWLY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < until {
        let soon = tick.tick().await + SLOWLY / 2;
        while next(&mut attached, soon).await.is_some() {}
        let position = attached.receive.position();
        attached.send.acknowledge(position).await;
    }
    attached.receive.set_acknowledging(true);
    read_out(&mut attached).await;
    attached
}

async fn attach(client: &Client, mode: v1::Mode, output_window: u64) -> Attached {
    let wanted = v1::Open {
        output_window,
        ..open("steady", mode)
    };
    client.attach(wanted).await.unwrap()
}

/// The agent's resident memory once it is warm, and the most that it was until `until`, KiB.
async fn watched(pid: i32, until: Instant) -> (f64, f64) {
    tokio::time::sleep(WARM).await;
    let warm = usage::memory(pid).rss;
    let (mut most, mut tick) = (warm, interval(Duration::from_secs(1)));
    while tick.tick().await < until {
        most = usage::memory(pid).rss.max(most);
    }
    (warm, most)
}

fn figures(time: Duration, viewers: &[&Attached]) {
    println!("{} s of {RATE} bytes a second", time.as_secs());
    for (name, viewer) in ["fast", "slow", "stopped"].iter().zip(viewers) {
        let receive = &viewer.receive;
        let (all, gaps) = (receive.position().offset, receive.gaps.len());
        println!("{name}: {} of {all} bytes, {gaps} gaps", receive.received);
    }
}

async fn three_viewers(time: Duration) {
    let host = host(&[("steady", Mode::Lines(RATE))], RING);
    let test = async {
        let client = host.connect(Windows::default()).await;
        let mut first = attach(&client, WriteIfFree, FAST).await;
        let second = attach(&client, View, SLOW).await;
        let mut stopped = attach(&client, View, SLOW).await;
        stopped.receive.set_acknowledging(false);
        first.send.type_bytes(&b"1"[..]).await;
        let until = Instant::now() + time;
        let mut readers = JoinSet::new();
        readers.spawn(async move { (0, fast(first, until).await) });
        readers.spawn(async move { (1, slow(second, until).await) });
        let (warm, most) = watched(host.agent.pid().as_raw(), until).await;
        let both = timeout(SOON, readers.join_all()).await;
        let mut both = both.expect("the guest falls silent");
        both.sort_by_key(|(order, _)| *order);
        let [(_, fast), (_, slow)] = both.try_into().expect("there are two");
        stopped.receive.set_acknowledging(true);
        read_out(&mut stopped).await;

        let end = fast.receive.position();
        figures(time, &[&fast, &slow, &stopped]);
        println!("the agent: {warm} KiB, at most {most}");
        assert!(end.offset > u64::from(RATE) * time.as_secs() / 2);
        let lost = |viewer: &Attached| viewer.receive.gaps.len();
        assert_eq!((fast.receive.received, lost(&fast)), (end.offset, 0));
        assert_eq!(slow.receive.position(), end);
        assert_eq!(stopped.receive.position(), end);
        assert!(slow.receive.received > SLOW * time.as_secs() && lost(&slow) > 0);
        assert!(slow.receive.gaps.iter().all(|gap| gap.length_known));
        assert_eq!(lost(&stopped), 1, "{:?}", stopped.receive.gaps);
        assert!(most - warm < GROWTH_KIB, "{warm} KiB became {most}");
        for viewer in [fast, slow, stopped] {
            viewer.detach(SOON).await;
        }
    };
    settled(&host, test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_viewers_of_a_flood_for_ten_seconds() {
    three_viewers(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make long TESTS=steady"]
async fn three_viewers_of_a_flood_for_ten_minutes() {
    three_viewers(Duration::from_mins(10)).await;
}
