//! `virsh console` and a running agent want the same console, in both orders: each is told
//! who has it, neither harms the other, and the agent is back soon after it is free.

use std::time::{Duration, Instant};

use serde_json::Value;
use vmconsole_proto::v1;
use vmconsole_proto::v1::Availability::{Attached, HeldByOther};
use vmconsole_proto::v1::watch_consoles_response::Event;
use vmconsole_tests::client::{Client, open};
use vmconsole_tests::console::VirshConsole;
use vmconsole_tests::guest::{Guest, GuestOptions, SERIAL0};
use vmconsole_tests::libvirtd::Libvirtd;
use vmconsole_tests::scrape::{Scrape, get};
use vmconsole_tests::wait;

use crate::host::{BOUND, Host, reason, run, tail, told_state};
use crate::libvirt::turns::{refused, thrown_out};

/// How soon the agent has to have a console that is free again.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// The longest that the agent waits before it tries again, and what one try may take then.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// So many tries are seen while virsh has the console: enough for the longest pause.
const TRIES: usize = 7;

/// Seconds of a day.
const DAY: f64 = 24.0 * 60.0 * 60.0;

/// The key that makes virsh leave.
const LEAVE: &str = "\x1d";

/// Reads changes until serial0 is as wanted.
async fn changes(
    watch: &mut tonic::Streaming<v1::WatchConsolesResponse>,
    wanted: impl Fn(&v1::ConsoleState) -> bool,
) -> v1::ConsoleState {
    let changed = async {
        loop {
            let event = watch.message().await.unwrap().unwrap().event;
            if let Some(Event::Changed(console)) = event
                && console.alias == SERIAL0
                && let Some(state) = console.state
                && wanted(&state)
            {
                return state;
            }
        }
    };
    tokio::time::timeout(BOUND, changed).await.unwrap()
}

async fn listed(client: &Client) -> v1::ConsoleState {
    let consoles = client.list().await.unwrap();
    let serial0 = consoles
        .into_iter()
        .find(|console| console.alias == SERIAL0);
    serial0.unwrap().state.unwrap()
}

/// Says so of serial0 everywhere: this virsh has it.
async fn is_held_by(host: &Host, client: &Client, virsh: u32) {
    let named = format!("virsh (process {virsh} of user 0)");
    let request = v1::WatchConsolesRequest::default();
    let mut service = client.service();
    let mut watch = service.watch_consoles(request).await.unwrap().into_inner();
    let held =
        |state: &v1::ConsoleState| state.availability() == HeldByOther && state.holder == named;
    let told = changes(&mut watch, held).await;
    assert!(told.since.is_some(), "{told:?}");
    let state = listed(client).await;
    assert!(held(&state), "{state:?}");
    let scrape = Scrape::take(host.agent.http()).await.unwrap();
    let counted = scrape.sum("vmconsole_consoles", "availability=\"held_by_other\"");
    assert_eq!(counted, 1.0);
}

/// Has virsh leave, and sees how soon the agent has the console.
async fn is_back(client: &Client, mut virsh: VirshConsole) {
    let request = v1::WatchConsolesRequest::default();
    let mut service = client.service();
    let mut watch = service.watch_consoles(request).await.unwrap().into_inner();
    changes(&mut watch, |state| state.availability() == HeldByOther).await;
    virsh.send(LEAVE);
    let left = thrown_out(&mut virsh);
    let free = Instant::now();
    changes(&mut watch, |state| state.availability() == Attached).await;
    let back = free.elapsed();
    println!("virsh left ({left}), and the agent was back {back:.1?} later");
    assert!(back < BACK_WITHIN, "{back:?}");
}

/// The pauses between the agent's tries to attach a console that was held, by its log.
fn pauses(log: &str) -> Vec<Duration> {
    let tries = log.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let error = line["error"].as_str()?;
        let held = line["message"] == "not attached" && error.contains("another process holds");
        let timestamp = line["timestamp"].as_str().filter(|_| held)?;
        Some(time_of_day(timestamp))
    });
    let tries: Vec<_> = tries.collect();
    let pause = |pair: &[f64]| Duration::from_secs_f64((pair[1] - pair[0]).rem_euclid(DAY));
    tries.windows(2).map(pause).collect()
}

/// The seconds since midnight of a time as RFC 3339 has it.
fn time_of_day(timestamp: &str) -> f64 {
    let (_, time) = timestamp.trim_end_matches('Z').split_once('T').unwrap();
    let numbers = time.split(':').map(|number| number.parse::<f64>().unwrap());
    numbers.fold(0.0, |larger, number| larger * 60.0 + number)
}

/// A guest whose first console virsh had before there was an agent.
fn taken_before() -> (Host, Guest, VirshConsole) {
    let libvirtd = Libvirtd::start();
    let mut options = GuestOptions::named("virsh");
    (options.second_serial, options.virtio_console) = (false, false);
    let guest = Guest::define_and_start(&libvirtd, options);
    let mut virsh = VirshConsole::open(&libvirtd, &guest, SERIAL0);
    virsh.login(BOUND);
    (Host::on(libvirtd, |_| {}), guest, virsh)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_has_the_console_in_its_turn_and_the_agent_is_back_within_five_seconds() {
    let (host, guest, mut virsh) = taken_before();
    let client = host.client().await;

    // virsh was first: it is left in peace, and named to whoever asks.
    is_held_by(&host, &client, virsh.line().pid()).await;
    for mode in [v1::Mode::View, v1::Mode::WriteTakeover] {
        let mut request = open(guest.name(), mode);
        "test".clone_into(&mut request.takeover_reason);
        let status = client.attach(request).await.unwrap_err();
        assert_eq!(reason(&status), "HELD_BY_OTHER");
        let named = format!("virsh (process {}", virsh.line().pid());
        assert!(status.message().contains(&named), "{status:?}");
    }
    wait::until("the agent to try again and again", BOUND, || {
        pauses(&host.agent.log()).len() >= TRIES
    });
    let pauses = pauses(&host.agent.log());
    println!("pauses between tries: {pauses:.1?}");
    assert!(pauses[0] < Duration::from_secs(1), "{pauses:?}");
    assert!(
        pauses.iter().all(|pause| *pause < LONGEST_PAUSE),
        "{pauses:?}"
    );
    let later = &pauses[TRIES - 2..];
    assert!(
        later.iter().all(|pause| *pause > Duration::from_secs(2)),
        "{pauses:?}"
    );
    assert_eq!(virsh.run("echo u$((1+1))d", BOUND), "u2d\n");
    is_back(&client, virsh).await;

    // The agent has it: virsh is refused, and a viewer notices nothing.
    let mut request = open(guest.name(), v1::Mode::WriteIfFree);
    request.start = tail(1 << 20);
    let mut writer = host.attach(&client, request).await;
    let why = refused(&host.libvirtd.uri(), guest.name());
    assert!(why.contains("Active console session exists"), "{why}");
    let said = run(&mut writer.send, &mut writer.receive, "echo t$((1+1))t").await;
    assert!(said.contains("t2t\r\n"), "{said:?}");
    assert_eq!(writer.receive.lost(), []);

    // virsh takes it by force: viewers are told, and stay, and are told when it is back.
    let forced = || VirshConsole::open_with(&host.libvirtd, &guest, SERIAL0, &["--force"]);
    let mut virsh = forced();
    let told = told_state(HeldByOther);
    writer.receive.wait_for("HELD_BY_OTHER", BOUND, told).await;
    is_held_by(&host, &client, virsh.line().pid()).await;
    assert_eq!(virsh.run("echo f$((1+1))d", BOUND), "f2d\n");
    is_back(&client, virsh).await;
    writer
        .receive
        .wait_for("ATTACHED", BOUND, told_state(Attached))
        .await;
    let said = run(&mut writer.send, &mut writer.receive, "echo b$((1+1))k").await;
    assert!(said.contains("b2k\r\n"), "{said:?}");
    let lost = writer.receive.lost();
    let [gap] = &lost[..] else { panic!("{lost:?}") };
    assert!(!gap.length_known && gap.from == gap.to, "{gap:?}");

    // By force once more, and a session takes it back on request.
    let mut virsh = forced();
    let told = told_state(HeldByOther);
    writer.receive.wait_for("HELD_BY_OTHER", BOUND, told).await;
    let mut request = open(guest.name(), v1::Mode::View);
    request.displace_outside_holder = true;
    let asked = Instant::now();
    let taker = client.attach(request).await.unwrap();
    println!("displaced after {:.1?}", asked.elapsed());
    println!("virsh that was displaced says: {}", thrown_out(&mut virsh));
    assert_eq!(listed(&client).await.availability(), Attached);
    let said = run(&mut writer.send, &mut writer.receive, "echo o$((1+1))s").await;
    assert!(said.contains("o2s\r\n"), "{said:?}");

    let (head, _) = get(host.agent.http(), "/readyz").await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    for attached in [writer, taker] {
        attached.detach(BOUND).await;
    }
    host.settled().await;
}
