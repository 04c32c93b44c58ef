//! Streams that wait for a VM's start, begin with its boot or where another stream left off, and
//! end with it: with libvirt and without, on real firmware.

use std::time::Duration;

use serde_json::json;
use vmconsole_proto::v1;
use vmconsole_proto::v1::Availability::Attached;
use vmconsole_proto::v1::start::From;
use vmconsole_proto::v1::stream_console_response::Message;
use vmconsole_tests::client::{Client, ReceiveHalf, open};
use vmconsole_tests::guest::{Guest, GuestOptions};
use vmconsole_tests::qemu::{Boot, Chardev, QemuOptions};

use crate::host::{BOUND, Host, QemuHost, Serving, reason};

/// What is done to the guest.
#[derive(Clone, Copy, Debug)]
enum Act {
    Start,
    /// What was started may run: its console is attached.
    Run,
    Reset,
    End,
}

/// Seconds since the epoch, and nanoseconds of the next.
type Moment = (i64, i32);

/// What the firmware writes among its first, on a serial port.
const FIRMWARE: &[u8] = b"SeaBIOS (version";

/// What it writes first of all.
const TERMINAL_RESET: &[u8] = b"\x1bc";

fn from(name: &str, from: From) -> v1::Open {
    let mut request = open(name, v1::Mode::View);
    request.start = Some(v1::Start { from: Some(from) });
    request
}

/// Waits until the VM is known, and known to be off.
async fn until_off(client: &Client, name: &str) {
    let off = async {
        loop {
            let refused = client.attach(open(name, v1::Mode::View)).await.err();
            if refused.is_some_and(|status| reason(&status) == "NOT_RUNNING") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, off).await.unwrap();
}

/// When the VM was last booted, by the list.
async fn booted(client: &Client, name: &str) -> Option<Moment> {
    let consoles = client.list().await.unwrap();
    let ours = consoles.into_iter().find(|console| console.vm_name == name);
    boot_of(&ours.unwrap().state.unwrap())
}

fn boot_of(state: &v1::ConsoleState) -> Option<Moment> {
    state.booted.map(|booted| (booted.seconds, booted.nanos))
}

fn place(pattern: &[u8], text: &[u8]) -> usize {
    let found = text.windows(pattern.len()).position(|w| w == pattern);
    found.unwrap_or_else(|| panic!("not in {:?}", String::from_utf8_lossy(text)))
}

/// `text` up to where `idle` ends in it: what came with the rest of the message varies.
fn to_the_end_of<'a>(idle: &[u8], text: &'a [u8]) -> &'a [u8] {
    &text[..place(idle, text) + idle.len()]
}

/// Everything from the reset on, up to `idle` once it is told.
async fn since_reset(receive: &mut ReceiveHalf, booted: Option<Moment>, idle: &[u8]) -> Vec<u8> {
    let (mut seen, mut told) = (Vec::new(), false);
    let both = |message| {
        match message {
            Message::Output(output) => seen.extend_from_slice(&output.data),
            Message::ConsoleState(state) => told |= boot_of(&state) > booted,
            _ => {}
        }
        let idle = seen.windows(idle.len()).any(|window| window == idle);
        (told && idle).then_some(())
    };
    receive
        .wait_for("the reset and its output", BOUND, both)
        .await;
    to_the_end_of(idle, &seen).to_vec()
}

/// One life of a VM that is off: start, reset, end; `idle` is what it writes last before it waits.
/// `missing` is how many gaps are told at its beginning.
async fn one_life(
    serving: &Serving,
    name: &str,
    idle: &[u8],
    missing: usize,
    mut act: impl FnMut(Act),
) {
    let client = serving.client().await;
    until_off(&client, name).await;
    let waits = v1::Open {
        wait_for_start: true,
        end_when_stopped: true,
        ..open(name, v1::Mode::View)
    };
    let mut viewer = client.attach(waits).await.unwrap();
    act(Act::Start);
    let (mut begins, mut attached) = (None, false);
    let started = |message| {
        match message {
            Message::GenerationStarted(started) => begins = started.position,
            Message::ConsoleState(state) => attached = state.availability() == Attached,
            _ => {}
        }
        begins.filter(|_| attached)
    };
    let begins = viewer.receive.wait_for("its console", BOUND, started);
    let begins = begins.await;
    if missing == 0 {
        // Only who is paused for so long is known to have written nothing.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    act(Act::Run);
    let first = viewer.receive.read_until(idle, BOUND).await;
    let gaps = std::mem::take(&mut viewer.receive.gaps);
    assert_eq!(gaps.len(), missing, "{gaps:?}");
    for gap in gaps {
        assert_eq!((gap.from, gap.to), (Some(begins), Some(begins)));
        assert_eq!(gap.reason(), v1::GapReason::NotAttached);
    }
    assert_eq!(viewer.receive.position().offset, first.len() as u64);
    let start = booted(&client, name).await;
    assert!(start.is_some(), "its start was seen");

    // A reset is told, and is where a boot begins.
    let before = viewer.receive.position();
    act(Act::Reset);
    let since = since_reset(&mut viewer.receive, start, idle).await;
    assert_eq!(viewer.receive.gaps, []);
    let mut again = client
        .attach(from(name, From::FromBoot(v1::FromBoot {})))
        .await
        .unwrap();
    let boot = again.opened.position.unwrap();
    assert_eq!(boot.generation, begins.generation);
    assert!(boot.offset >= before.offset, "{boot:?} {before:?}");
    let shown = again.receive.read_until(idle, BOUND).await;
    let shown = to_the_end_of(idle, &shown);
    assert!(since.ends_with(shown));
    // What it begins with after a reset, all of which was there to be seen, it began with.
    let banner = &first[..place(FIRMWARE, &first)];
    assert!(shown[..place(FIRMWARE, shown)].ends_with(banner));
    if missing == 0 {
        assert!(banner.starts_with(TERMINAL_RESET), "{banner:?}");
    }

    // Who comes back gets every byte that it missed, once.
    let mut back = client
        .attach(from(name, From::Resume(before)))
        .await
        .unwrap();
    assert_eq!(back.opened.position, Some(before));
    let missed = back.receive.read_until(idle, BOUND).await;
    assert_eq!(to_the_end_of(idle, &missed), since);
    assert_eq!(back.receive.gaps, []);

    act(Act::End);
    let (closed, status) = viewer.receive.closed(BOUND).await;
    assert_eq!(closed.reason(), v1::Reason::VmStopped, "{closed:?}");
    assert!(status.is_none(), "{status:?}");
    assert_eq!(closed.resume, Some(viewer.receive.position()));
    // Those who did not ask for it stay.
    for stays in [again, back] {
        let closed = stays.detach(BOUND).await;
        assert_eq!(closed.reason(), v1::Reason::ClientDetached);
    }
    serving.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_of_a_vm_of_libvirt_is_seen_from_its_start_to_its_end() {
    let host = Host::start();
    let mut options = GuestOptions::named("one-life");
    options.firmware_on_serial = true;
    let guest = Guest::define(&host.libvirtd, options);
    let virsh = |command: &[&str]| {
        let command = [command, &[guest.name()]].concat();
        drop(host.libvirtd.virsh(&command).unwrap());
    };
    let act = |act| match act {
        Act::Start => virsh(&["start", "--paused"]),
        Act::Run => virsh(&["resume"]),
        Act::Reset => virsh(&["reset"]),
        Act::End => guest.destroy(),
    };
    one_life(&host, guest.name(), b"guest login: ", 0, act).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_of_a_qemu_without_libvirt_is_seen_from_its_start_to_its_end() {
    let host = QemuHost::start();
    let client = host.client().await;
    // What a QEMU writes while nobody is connected is lost; a paused one writes nothing.
    for (name, far, boot, missing) in [
        ("on-unix", Chardev::Unix, Boot::Nothing, 0),
        ("on-pty", Chardev::Pty, Boot::Firmware, 1),
    ] {
        let mut options = QemuOptions::named(name);
        options.serial0 = Some(far);
        options.firmware_on_serial = true;
        options.boot = boot;
        let mut qemu = host.guest(options);
        let view = open(name, v1::Mode::View);
        host.attach(&client, view).await.detach(BOUND).await;
        qemu.kill();
        let act = |act| match act {
            Act::Start => qemu.restart(),
            Act::Run => drop(qemu.monitor().run("cont", &json!({}))),
            Act::Reset => drop(qemu.monitor().run("system_reset", &json!({}))),
            Act::End => drop(qemu.kill()),
        };
        one_life(&host, name, b"No bootable device.", missing, act).await;
    }
}
