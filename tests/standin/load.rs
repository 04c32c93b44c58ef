//! Viewers that stop reading, and who shares a connection with them.

use std::time::{Duration, Instant};

use vmconsole_proto::v1;
use vmconsole_proto::v1::Mode::{View, WriteIfFree};
use vmconsole_tests::client::{Attached, Client, Windows, open};
use vmconsole_tests::standin::Mode;

use super::{SOON, host, settled};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// How many viewers stop.
const STOPPED: usize = 100;

/// The output window of each of them.
const WINDOW: u64 = 64 * KIB;

/// More than all of their windows together.
const ROOMY: Windows = Windows {
    stream: 4 * 1024 * 1024,
    connection: 16 * 1024 * 1024,
};

/// What is asserted of a keystroke's way there and back; 20 ms is the goal on a machine
/// that has nothing else to do.
const KEYSTROKE_BOUND: Duration = Duration::from_millis(500);

/// Types `count` single bytes, each when the one before has come back; the times, sorted.
async fn keystrokes(echo: &mut Attached, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..count {
        let key = [b'a' + (number % 26) as u8];
        let typed = Instant::now();
        echo.send.type_bytes(key.to_vec()).await;
        echo.receive.read_until(&key, SOON).await;
        times.push(typed.elapsed());
    }
    times.sort();
    times
}

async fn stopped_viewer(client: &Client, vm: &str) -> Attached {
    let wanted = v1::Open {
        output_window: WINDOW,
        ..open(vm, View)
    };
    let mut attached = client.attach(wanted).await.unwrap();
    attached.receive.set_acknowledging(false);
    attached
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_stopped_viewers_delay_no_keystroke_on_their_connection() {
    let flood = Mode::Sell(64 * MIB as usize);
    let host = host(&[("flood", flood), ("echo", Mode::Echo)], "");
    let test = async {
        let client = host.connect(ROOMY).await;
        let mut echo = client.attach(open("echo", WriteIfFree)).await.unwrap();
        let before = keystrokes(&mut echo, 50).await;
        let mut stopped = Vec::new();
        for _ in 0..STOPPED {
            stopped.push(stopped_viewer(&client, "flood").await);
        }
        let other = host.connect(Windows::default()).await;
        let mut buyer = other.attach(open("flood", WriteIfFree)).await.unwrap();
        buyer.send.type_bytes(&b"1"[..]).await;
        buyer.receive.pass(64 * MIB, SOON).await;

        let with = keystrokes(&mut echo, 200).await;
        let (median, worst) = (with[with.len() / 2], with[with.len() - 1]);
        eprintln!(
            "a keystroke with {STOPPED} stopped viewers: median {median:?}, worst {worst:?} \
             (goal: 20 ms); with none: median {:?}",
            before[before.len() / 2]
        );
        assert!(worst < KEYSTROKE_BOUND, "{worst:?}");

        // Each of them was sent its window and not a byte more; once it goes on, it is told
        // what it missed.
        for Attached { send, receive, .. } in &mut stopped {
            while receive.received < WINDOW {
                receive.output().await.unwrap().unwrap();
            }
            assert_eq!(receive.received, WINDOW);
            receive.set_acknowledging(true);
            send.acknowledge(receive.position()).await;
            receive
                .pass(64 * MIB - receive.position().offset, SOON)
                .await;
            assert!(!receive.gaps.is_empty());
            assert!(receive.gaps.iter().all(|gap| gap.length_known));
        }
    };
    settled(&host, test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_without_a_window_that_never_reads_stalls_no_second_viewer() {
    let flood = Mode::Sell(48 * MIB as usize);
    let host = host(&[("flood", flood)], "");
    let test = async {
        let client = host.connect(ROOMY).await;
        let mut stopped = client.attach(open("flood", View)).await.unwrap();
        let mut reader = client.attach(open("flood", WriteIfFree)).await.unwrap();
        reader.send.type_bytes(&b"1"[..]).await;
        let begun = Instant::now();
        let received = reader.receive.pass(48 * MIB, SOON).await;
        eprintln!(
            "{} of 48 MiB reached the second viewer in {:?}, the rest as gaps",
            received / MIB,
            begun.elapsed()
        );
        // The guest was not held up either: all of it has come.
        stopped.receive.pass(48 * MIB, SOON).await;
        assert!(!stopped.receive.gaps.is_empty());
        assert_eq!(stopped.receive.position(), reader.receive.position());
    };
    settled(&host, test).await;
}
