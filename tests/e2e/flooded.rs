//! What a guest that floods its serial port costs the agent, by every way to one: a login, a
//! program that prints without end, and the agent's CPU time meanwhile. A measurement, so it is
//! not run every day: `make long TESTS=flooded`.

use std::time::{Duration, Instant};

use vmconsole_tests::client::{Attached, Client};
use vmconsole_tests::guest::SERIAL0;
use vmconsole_tests::qemu::{Chardev, QemuOptions};
use vmconsole_tests::usage;

use crate::host::{BOUND, Host, QemuHost, Serving};

/// What the guest prints, over and over.
const LINE: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// How long is measured, after the flood has run so long.
const MEASURED: Duration = Duration::from_secs(10);
const BEFORE: Duration = Duration::from_secs(3);

/// The goal, in hundredths of a core.
const GOAL: f64 = 10.0;

/// All output of the time, which is to be whole lines but for the first and the last.
async fn read_for(attached: &mut Attached, time: Duration) -> Vec<u8> {
    let until = tokio::time::Instant::now() + time;
    let mut came = Vec::new();
    while let Ok(output) = tokio::time::timeout_at(until, attached.receive.output()).await {
        came.extend_from_slice(&output.expect("it goes on").expect("it goes on"));
    }
    came
}

async fn costs(serving: &Serving, client: &Client, vm: &str, way: &str) {
    let mut attached = serving.shell_on(client, vm, SERIAL0).await;
    attached.send.type_bytes(format!("yes {LINE}\n")).await;
    attached.receive.read_until(LINE.as_bytes(), BOUND).await;
    read_for(&mut attached, BEFORE).await;
    let pid = serving.agent.pid().as_raw();
    let (cpu, begun) = (usage::cpu(pid), Instant::now());
    let came = read_for(&mut attached, MEASURED).await;
    let (cpu, wall) = (usage::cpu(pid) - cpu, begun.elapsed().as_secs_f64());
    assert_eq!(attached.receive.lost(), []);
    let text = String::from_utf8(came).expect("it is what was typed");
    let lines: Vec<&str> = text.split("\r\n").collect();
    let whole = &lines[1..lines.len() - 1];
    assert!(whole.len() > 1000, "{} lines came", whole.len());
    assert!(whole.iter().all(|line| *line == LINE), "a byte is missing");
    let percent = 100.0 * cpu.as_secs_f64() / wall;
    let verdict = if percent <= GOAL { "met" } else { "missed" };
    println!(
        "{way}: {:.0} bytes a second, {percent:.1} % of a core; goal {GOAL} %: {verdict}",
        text.len() as f64 / wall
    );
    attached.send.type_bytes("\x03").await;
    attached.detach(BOUND).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement on a release build: make long TESTS=flooded"]
async fn a_serial_port_by_every_way() {
    for (way, chardev) in [
        ("terminal", Chardev::Pty),
        ("unix socket", Chardev::Unix),
        ("TCP", Chardev::Tcp),
        ("telnet", Chardev::Telnet),
    ] {
        let host = QemuHost::start();
        let mut options = QemuOptions::named("flooded");
        options.serial0 = Some(chardev);
        let guest = host.guest(options);
        let client = host.client().await;
        costs(&host, &client, guest.name(), way).await;
    }
    let host = Host::start();
    let guest = host.guest("flooded");
    let client = host.client().await;
    costs(&host, &client, guest.name(), "libvirt's stream").await;
}
