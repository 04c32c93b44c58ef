//! Starts, resets and stops of the VM, as viewers are told of them.

use std::sync::atomic::Ordering;

use super::*;
use crate::core::position::Position;
use crate::endpoint::OutputSink;

pub(super) fn starting(start: Start) -> JoinRequest {
    JoinRequest {
        start,
        ..request(None)
    }
}

pub(super) fn waiting() -> JoinRequest {
    JoinRequest {
        wait_for_start: true,
        ..request(None)
    }
}

fn ending() -> JoinRequest {
    JoinRequest {
        end_when_stopped: true,
        ..request(None)
    }
}

async fn ended(viewer: &mut Viewer) -> (Vec<u8>, Reason) {
    let mut seen = Vec::new();
    loop {
        match next(viewer).await {
            Item::Output(Next::Output { bytes, .. }) => seen.extend_from_slice(&bytes),
            Item::Ended(reason) => return (seen, reason),
            _ => {}
        }
    }
}

pub(super) async fn started(viewer: &mut Viewer) -> Position {
    match output(viewer).await {
        Next::GenerationStarted(position) => position,
        other => panic!("no generation: {other:?}"),
    }
}

/// A host whose VM runs and is attached, and what its guest writes to.
pub(super) async fn running() -> (Host, Arc<Console>, Arc<dyn OutputSink>) {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    until_available(&console, Availability::Attached).await;
    (host, console, sink)
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_told_and_a_boot_begins_where_it_was() {
    let (host, console, sink) = running().await;
    assert_eq!(
        console.status().state.booted,
        None,
        "its start was not seen"
    );
    sink.output(b"old");
    let reset = SystemTime::now() + Duration::from_millis(1);
    let vm = Vm {
        last_reset: Some(reset),
        ..vm(Some(1))
    };
    let mut viewer = console.join(request(None)).unwrap();
    host.inventory.send_replace(inventory([vm]));
    let booted = |item| match item {
        Item::State(state) => state.booted,
        _ => None,
    };
    assert_eq!(find(&mut viewer, booted).await, reset);
    sink.output(b"new");
    let mut boot = console.join(starting(Start::FromBoot)).unwrap();
    assert_eq!(boot.position().offset, 3);
    assert_eq!(bytes(output(&mut boot).await), b"new");
    assert_eq!(
        console.status().state.generation,
        Some(boot.position().generation)
    );
}

#[tokio::test(start_paused = true)]
async fn a_boot_that_was_not_seen_is_a_gap() {
    let (_host, console, sink) = running().await;
    sink.output(b"long since");
    let mut boot = console.join(starting(Start::FromBoot)).unwrap();
    let Next::Gap(gap) = output(&mut boot).await else {
        panic!("no gap");
    };
    assert_eq!((gap.from, gap.length_known), (gap.to, false));
    assert_eq!(bytes(output(&mut boot).await), b"long since");
}

#[tokio::test(start_paused = true)]
async fn a_reset_from_before_the_console_was_attached_is_told_and_its_output_is_a_gap() {
    let (host, console, sink) = running().await;
    sink.output(b"login: ");
    let reset = SystemTime::now() - Duration::from_secs(10);
    let vm = Vm {
        last_reset: Some(reset),
        ..vm(Some(1))
    };
    host.inventory.send_replace(inventory([vm]));
    let state = until(&console, |state| state.booted.is_some()).await;
    assert_eq!(state.booted, Some(reset));
    let mut boot = console.join(starting(Start::FromBoot)).unwrap();
    assert!(matches!(output(&mut boot).await, Next::Gap(_)));
    assert_eq!(bytes(output(&mut boot).await), b"login: ");
}

#[tokio::test(start_paused = true)]
async fn a_reset_from_before_a_start_that_was_seen_is_not_its_boot() {
    let mut host = Host::start(None, 1024);
    let console = host.console().await;
    let before = SystemTime::now();
    let vm = Vm {
        last_reset: Some(before - Duration::from_secs(3600)),
        ..vm(Some(1))
    };
    host.inventory.send_replace(inventory([vm]));
    host.script.attached().await.output(b"SeaBIOS");
    let booted = console.status().state.booted;
    assert!(booted >= Some(before), "{booted:?}");
    let mut boot = console.join(starting(Start::FromBoot)).unwrap();
    assert_eq!(first_bytes(&mut boot).await, b"SeaBIOS");
}

#[tokio::test(start_paused = true)]
async fn who_waits_may_come_while_the_vm_is_being_attached_for_the_first_time() {
    let mut host = Host::start(None, 1024);
    let console = host.console().await;
    host.script.hangs.store(true, Ordering::Relaxed);
    host.inventory.send_replace(inventory([vm(Some(1))]));
    let tried = async {
        while host.script.claims.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(BOUND, tried).await.unwrap();
    let mut viewer = console.join(waiting()).unwrap();
    host.script.hangs.store(false, Ordering::Relaxed);
    host.inventory.send_replace(inventory([vm(None)]));
    until(&console, |state| state.vm_state == VmState::Off).await;
    host.inventory.send_replace(inventory([vm(Some(2))]));
    host.script.attached().await.output(b"hello");
    started(&mut viewer).await;
    assert_eq!(first_bytes(&mut viewer).await, b"hello");
}

#[tokio::test(start_paused = true)]
async fn who_ends_with_the_vm_gets_its_last_words_and_nothing_of_its_next_run() {
    let (host, console, sink) = running().await;
    let (mut ends, mut stays) = (
        console.join(ending()).unwrap(),
        console.join(request(None)).unwrap(),
    );
    sink.output(b"panic");
    sink.output(b", goodbye");
    sink.ended(EndpointEnd::Eof);
    host.inventory.send_replace(inventory([vm(None)]));
    until(&console, |state| state.vm_state == VmState::Off).await;
    host.inventory.send_replace(inventory([vm(Some(2))]));
    host.script.attached().await.output(b"second");
    let (seen, reason) = ended(&mut ends).await;
    assert_eq!(
        (seen.as_slice(), reason),
        (&b"panic, goodbye"[..], Reason::VmStopped)
    );
    assert_eq!(ends.position().offset, 14);
    assert_eq!(bytes(output(&mut stays).await), b"panic, goodbye");
    started(&mut stays).await;
    assert_eq!(first_bytes(&mut stays).await, b"second");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_who_has_no_room_waits_for_its_last_words() {
    let (host, console, sink) = running().await;
    let mut viewer = console.join(ending()).unwrap();
    sink.output(b"goodbye");
    sink.ended(EndpointEnd::Eof);
    host.inventory.send_replace(inventory([vm(None)]));
    until(&console, |state| state.vm_state == VmState::Off).await;
    let room = |output| Room {
        output,
        ..Room::ALL
    };
    let told = |viewer: &mut Viewer, bytes| {
        std::iter::from_fn(|| viewer.poll(room(bytes)))
            .filter(|item| matches!(item, Item::Output(_) | Item::Ended(_)))
            .count()
    };
    assert_eq!(told(&mut viewer, 0), 0);
    let part = std::iter::from_fn(|| viewer.poll(room(4))).next();
    assert!(matches!(part, Some(Item::Output(Next::Output { bytes, .. })) if bytes == "good"));
    assert_eq!(told(&mut viewer, 0), 0);
    let (seen, reason) = ended(&mut viewer).await;
    assert_eq!((seen.as_slice(), reason), (&b"bye"[..], Reason::VmStopped));
    // An end needs no room.
    assert_eq!(viewer.poll(room(0)), Some(Item::Ended(Reason::VmStopped)));
}

#[tokio::test(start_paused = true)]
async fn who_waits_ends_with_the_vm_that_it_waited_for() {
    let mut host = Host::start(None, 1024);
    let console = host.console().await;
    let both = JoinRequest {
        end_when_stopped: true,
        ..waiting()
    };
    let mut viewer = console.join(both).unwrap();
    assert_eq!(
        viewer
            .poll(Room::ALL)
            .map(|item| matches!(item, Item::State(_))),
        Some(true)
    );
    assert_eq!(
        viewer.poll(Room::ALL),
        None,
        "the VM that is off has not stopped"
    );
    host.inventory.send_replace(inventory([vm(Some(1))]));
    let sink = host.script.attached().await;
    sink.output(b"short");
    sink.ended(EndpointEnd::Eof);
    host.inventory.send_replace(inventory([vm(None)]));
    let (seen, reason) = ended(&mut viewer).await;
    assert_eq!(
        (seen.as_slice(), reason),
        (&b"short"[..], Reason::VmStopped)
    );
}

#[tokio::test(start_paused = true)]
async fn who_ends_with_a_vm_whose_output_is_gone_is_told_so_and_gets_none_of_later_runs() {
    let (host, console, sink) = running().await;
    let mut viewer = console.join(ending()).unwrap();
    sink.output(b"first");
    for run in [2, 3] {
        host.inventory.send_replace(inventory([vm(None)]));
        until(&console, |state| state.vm_state == VmState::Off).await;
        host.inventory.send_replace(inventory([vm(Some(run))]));
        host.script.attached().await.output(b"later");
    }
    let current = console.status().oldest.unwrap();
    let Next::Gap(gap) = output(&mut viewer).await else {
        panic!("no gap");
    };
    assert_eq!((gap.to, gap.reason), (current, GapReason::GenerationPassed));
    let (seen, reason) = ended(&mut viewer).await;
    assert_eq!((seen.as_slice(), reason), (&b""[..], Reason::VmStopped));
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_gone_has_stopped_for_who_asked_and_a_console_that_is_gone_has_not() {
    for (gone, asked) in [(true, Reason::VmStopped), (false, Reason::VmGone)] {
        let (host, console, sink) = running().await;
        let mut ends = console.join(ending()).unwrap();
        let mut other = console.join(request(None)).unwrap();
        sink.output(b"last");
        let without = Vm {
            consoles: Vec::new(),
            ..vm(Some(1))
        };
        let left = (!gone).then_some(without);
        host.inventory.send_replace(inventory(left));
        for (viewer, wanted) in [(&mut ends, asked), (&mut other, Reason::VmGone)] {
            let (seen, reason) = ended(viewer).await;
            assert_eq!((seen.as_slice(), reason), (&b"last"[..], wanted));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_lines_are_found_wherever_they_begin() {
    let mut host = Host::start(Some(1), 1 << 20);
    let console = host.console().await;
    let sink = host.script.attached().await;
    let lines: Vec<String> = (0..20_000).map(|n| format!("line {n:>10}\r\n")).collect();
    sink.output(lines.concat().as_bytes());
    sink.output(b"and a prompt");
    for count in [0, 1, 2, 3000, 9000, 20_001, 90_000] {
        let viewer = console.join(starting(Start::TailLines(count))).unwrap();
        let whole = count.saturating_sub(1).min(20_000);
        let prompt = if count == 0 { 0 } else { 12 };
        let back = u64::from(whole) * 17 + prompt;
        assert_eq!(viewer.position().offset, 20_000 * 17 + 12 - back, "{count}");
        drop(viewer);
    }
}
