//! Consoles are held on demand by default, as rules say by VM, and within one budget.

use std::time::{Duration, Instant};

use vmconsole_proto::v1;
use vmconsole_proto::v1::Availability::{Attached, Ready};
use vmconsole_proto::v1::Mode::{View, WriteIfFree};
use vmconsole_tests::client::{Client, Windows, open};
use vmconsole_tests::qemu::SERIAL0;
use vmconsole_tests::scrape::Scrape;
use vmconsole_tests::standin::{Mode, StandinHost};

use super::{PROGRAMS, SOON, settled};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

fn host(consoles: &[(&str, Mode)], config: &str) -> StandinHost {
    let consoles: Vec<_> = consoles
        .iter()
        .map(|(name, mode)| ((*name).to_owned(), *mode))
        .collect();
    StandinHost::start_as_configured(PROGRAMS, &consoles, config)
}

async fn listed(client: &Client, vm: &str) -> v1::Console {
    let consoles = client.list().await.unwrap();
    let found = consoles.into_iter().find(|console| console.vm_name == vm);
    found.unwrap()
}

/// Waits until the console of `vm` is as `availability` says.
async fn shows(client: &Client, vm: &str, availability: v1::Availability) -> v1::ConsoleState {
    let is = |state: &v1::ConsoleState| state.availability() == availability;
    client.shows((vm, SERIAL0), SOON, is).await
}

/// How many sockets the agent has of this console.
fn sockets(host: &StandinHost, vm: &str) -> usize {
    // A connection shows as the path that the far side listens on.
    let path = host.dir().join(format!("{vm}.sock"));
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    let mine = |line: &&str| line.ends_with(path.to_str().unwrap());
    table.lines().filter(mine).count() - 1
}

fn tail(vm: &str, mode: v1::Mode) -> v1::Open {
    v1::Open {
        start: Some(v1::Start {
            from: Some(v1::start::From::TailBytes(u64::MAX)),
        }),
        ..open(vm, mode)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_is_attached_at_open_lingers_and_is_let_go_with_its_ring() {
    let host = host(&[("echo", Mode::Echo)], "[capture]\nlinger_seconds = 1\n");
    let test = async {
        let client = host.connect(Windows::default()).await;
        let ready = shows(&client, "echo", Ready).await;
        assert!(ready.checked.is_some());
        assert_eq!(sockets(&host, "echo"), 0);

        let mut writer = client.attach(open("echo", WriteIfFree)).await.unwrap();
        let first = writer.opened.position.unwrap();
        assert_eq!(first.offset, 0);
        assert_eq!(sockets(&host, "echo"), 1);
        writer.send.type_bytes(&b"kept"[..]).await;
        writer.receive.read_until(b"kept", SOON).await;
        writer.detach(SOON).await;

        // It is held still, and what was written is there.
        let mut back = client.attach(tail("echo", View)).await.unwrap();
        assert_eq!(back.opened.position, Some(first));
        back.receive.read_until(b"kept", SOON).await;
        assert_eq!(
            listed(&client, "echo").await.state.unwrap().availability(),
            Attached
        );
        back.detach(SOON).await;
        let left = Instant::now();
        shows(&client, "echo", Ready).await;
        assert!(
            left.elapsed() > Duration::from_millis(900),
            "{:?}",
            left.elapsed()
        );
        assert_eq!(sockets(&host, "echo"), 0);
        let scrape = Scrape::take(host.http).await.unwrap();
        assert_eq!(scrape.sum("vmconsole_ring_bytes", ""), 0.0);
        assert_eq!(scrape.sum("vmconsole_consoles_captured", ""), 0.0);

        let next = client.attach(tail("echo", View)).await.unwrap();
        let position = next.opened.position.unwrap();
        assert_ne!(position.generation, first.generation);
        assert_eq!(position.offset, 0);
        next.detach(SOON).await;
    };
    settled(&host, test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_hold_some_vms_always_and_others_only_while_they_are_viewed() {
    let rules = "[[capture.rule]]\nvms = [\"kept-*\"]\nmode = \"always\"\n\
                 [[capture.rule]]\nvms = [\"00000000-0000-4000-8000-000000000001\"]\n\
                 mode = \"off\"\n";
    let consoles = [
        ("kept-1", Mode::Echo),
        ("private", Mode::Echo),
        ("other", Mode::Echo),
    ];
    let host = host(&consoles, rules);
    let test = async {
        let client = host.connect(Windows::default()).await;
        shows(&client, "kept-1", Attached).await;
        for name in ["private", "other"] {
            shows(&client, name, Ready).await;
            let viewer = client.attach(open(name, View)).await.unwrap();
            shows(&client, name, Attached).await;
            viewer.detach(SOON).await;
        }
        shows(&client, "private", Ready).await;
        let state = listed(&client, "other").await.state.unwrap();
        assert_eq!(state.availability(), Attached, "it lingers for 5 minutes");
    };
    settled(&host, test).await;
}

/// How much is kept of a console.
async fn kept(client: &Client, vm: &str) -> u64 {
    let console = listed(client, vm).await;
    let offset = |position: Option<v1::Position>| position.map_or(0, |position| position.offset);
    offset(console.head) - offset(console.oldest)
}

#[tokio::test(flavor = "multi_thread")]
async fn flooding_consoles_share_the_budget_and_the_viewed_one_keeps_most() {
    let flood = Mode::Sell(2 * MIB as usize);
    let consoles = [("stopped", flood), ("left", flood), ("viewed", flood)];
    let host = host(&consoles, "[capture]\nbudget_bytes = 1048576\n");
    let test = async {
        let client = host.connect(Windows::default()).await;
        let wanted = v1::Open {
            output_window: 64 * KIB,
            ..open("stopped", WriteIfFree)
        };
        let mut stopped = client.attach(wanted).await.unwrap();
        stopped.receive.set_acknowledging(false);
        stopped.send.type_bytes(&b"1"[..]).await;
        let mut left = client.attach(open("left", WriteIfFree)).await.unwrap();
        left.send.type_bytes(&b"12"[..]).await;
        left.receive.pass(4 * MIB, SOON).await;
        left.detach(SOON).await;

        let mut viewed = client.attach(open("viewed", WriteIfFree)).await.unwrap();
        let deadline = Instant::now() + SOON;
        loop {
            viewed.send.type_bytes(&b"1"[..]).await;
            viewed.receive.pass(2 * MIB, SOON).await;
            let scrape = Scrape::take(host.http).await.unwrap();
            let held = scrape.sum("vmconsole_ring_bytes", "");
            // Each has its first 4 KiB in any case.
            let most = MIB + consoles.len() as u64 * 4 * KIB;
            assert!(held <= most as f64, "{held}");
            let mut of_all = Vec::new();
            for (name, _) in consoles {
                of_all.push(kept(&client, name).await);
            }
            assert!(of_all.iter().sum::<u64>() <= most, "{of_all:?}");
            if of_all[2] > 512 * KIB {
                assert!(
                    of_all[..2].iter().all(|kept| *kept >= 64 * KIB),
                    "{of_all:?}"
                );
                break;
            }
            assert!(Instant::now() < deadline, "{of_all:?}");
        }
        let scrape = Scrape::take(host.http).await.unwrap();
        assert_eq!(scrape.sum("vmconsole_ring_budget_bytes", ""), MIB as f64);
        assert!(scrape.sum("vmconsole_ring_shrinks_total", "") >= 1.0);
        assert!(scrape.sum("vmconsole_ring_growths_denied_total", "") >= 1.0);

        // It was shrunk under the viewer that stopped, which is told how much it missed.
        stopped.receive.set_acknowledging(true);
        while stopped.receive.received < 64 * KIB {
            stopped.receive.output().await.unwrap().unwrap();
        }
        stopped.send.acknowledge(stopped.receive.position()).await;
        let rest = 2 * MIB - stopped.receive.position().offset;
        stopped.receive.pass(rest, SOON).await;
        assert!(!stopped.receive.gaps.is_empty());
        assert!(stopped.receive.gaps.iter().all(|gap| gap.length_known));
        stopped.detach(SOON).await;
        viewed.detach(SOON).await;
    };
    settled(&host, test).await;
}
