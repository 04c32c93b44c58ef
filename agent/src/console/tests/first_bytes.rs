//! What a run of the VM begins with, as viewers are told: its first byte, or a gap where it may
//! have written before its console was attached.

use super::starts::{running, started, starting, waiting};
use super::*;
use crate::endpoint::Source;
use crate::hypervisor::ConsoleKind;

/// Longer after the attachment than a VM has to be paused to have written nothing before.
const LONG: Duration = Duration::from_secs(3);

/// What who waits for a start is told before `SeaBIOS` comes, `LONG` after the console was
/// attached, of a VM that is first found as `found`, and as `then` while that is under way.
async fn first_of(found: Vm, then: Vm) -> Next {
    let mut host = Host::start(None, 1024);
    let console = host.console().await;
    *host.script.takes.lock() = Duration::from_millis(500);
    let mut viewer = console.join(waiting()).unwrap();
    host.inventory.send_replace(inventory([found]));
    until(&console, |state| state.booted.is_some()).await;
    host.inventory.send_replace(inventory([then]));
    let sink = host.script.attached().await;
    until_available(&console, Availability::Attached).await;
    tokio::time::advance(LONG).await;
    sink.output(b"SeaBIOS");
    assert_eq!(started(&mut viewer).await.offset, 0);
    output(&mut viewer).await
}

#[tokio::test(start_paused = true)]
async fn a_start_that_was_seen_long_before_it_was_attached_is_told_and_its_output_is_a_gap() {
    let mut host = Host::start(None, 1024);
    let console = host.console().await;
    let mut of_no_use = vm(Some(1));
    of_no_use.consoles[0].source = Source::Unserved("it is a file".into());
    host.inventory.send_replace(inventory([of_no_use]));
    let started = until(&console, |state| state.booted.is_some()).await;
    assert_eq!(started.availability, Availability::Unsupported);
    tokio::time::advance(Duration::from_secs(2)).await;
    host.inventory.send_replace(inventory([vm(Some(1))]));
    host.script.attached().await.output(b"login: ");
    assert_eq!(console.status().state.booted, started.booted);
    let mut boot = console.join(starting(Start::FromBoot)).unwrap();
    assert!(matches!(output(&mut boot).await, Next::Gap(_)));
    assert_eq!(bytes(output(&mut boot).await), b"login: ");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_start_sees_it_from_its_first_byte() {
    let mut host = Host::start(None, 1024);
    let console = host.console().await;
    let refused = console.join(request(None)).unwrap_err();
    assert!(matches!(refused, JoinError::NotRunning), "{refused:?}");
    let mut viewer = console.join(waiting()).unwrap();
    assert!(
        console.join(request(None)).is_err(),
        "it runs no more for that"
    );
    host.inventory.send_replace(inventory([unrun(1)]));
    let sink = host.script.attached().await;
    until_available(&console, Availability::Attached).await;
    tokio::time::advance(LONG).await;
    sink.output(b"SeaBIOS");
    let begins = started(&mut viewer).await;
    assert_eq!(begins.offset, 0);
    assert_eq!(bytes(output(&mut viewer).await), b"SeaBIOS");
    assert!(console.status().state.booted.is_some());
    let mut boot = console.join(starting(Start::FromBoot)).unwrap();
    assert_eq!(boot.position(), begins);
    assert_eq!(bytes(output(&mut boot).await), b"SeaBIOS");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_took_long_to_be_attached_is_told_with_a_gap_to_who_waited_for_it() {
    let mut host = Host::start(None, 1024);
    let console = host.console().await;
    *host.script.takes.lock() = Duration::from_secs(10);
    let mut viewer = console.join(waiting()).unwrap();
    host.inventory.send_replace(inventory([vm(Some(1))]));
    assert_eq!(started(&mut viewer).await.offset, 0);
    let mut early = console.join(starting(Start::FromBoot)).unwrap();
    host.script.attached().await.output(b"login: ");
    let mut late = console.join(starting(Start::FromBoot)).unwrap();
    for viewer in [&mut viewer, &mut early, &mut late] {
        let Next::Gap(gap) = output(viewer).await else {
            panic!("no gap");
        };
        assert_eq!((gap.from, gap.length_known), (gap.to, false));
        assert_eq!(gap.reason, GapReason::NotAttached);
        assert_eq!(bytes(output(viewer).await), b"login: ");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_vm_may_have_written_before_it_was_attached_is_a_gap() {
    let running = || vm(Some(1));
    for (found, then) in [
        (running(), running()),
        (running(), unrun(1)),
        (unrun(1), running()),
    ] {
        let states = (found.state, then.state);
        let Next::Gap(gap) = first_of(found, then).await else {
            panic!("no gap: {states:?}");
        };
        assert_eq!((gap.from, gap.length_known), (gap.to, false));
        assert_eq!(gap.reason, GapReason::NotAttached);
    }
    let paused = first_of(unrun(1), unrun(1)).await;
    assert_eq!(bytes(paused), b"SeaBIOS", "it had written nothing");
    let mut channel = running();
    channel.consoles[0].kind = ConsoleKind::Channel;
    let held = first_of(channel.clone(), channel).await;
    assert_eq!(bytes(held), b"SeaBIOS", "its guest waited");
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_attached_long_before_it_runs_is_seen_from_its_first_byte() {
    let mut host = Host::start(None, 1024);
    let console = host.console().await;
    let mut viewer = console.join(waiting()).unwrap();
    let refused = EndpointError::Denied("not yet".into());
    host.script.refusals.lock().push_back(refused);
    host.inventory.send_replace(inventory([unrun(1)]));
    until_available(&console, Availability::Denied).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    let sink = host.script.attached().await;
    until_available(&console, Availability::Attached).await;
    tokio::time::advance(LONG).await;
    host.inventory.send_replace(inventory([vm(Some(1))]));
    sink.output(b"SeaBIOS");
    let begins = started(&mut viewer).await;
    assert_eq!(bytes(output(&mut viewer).await), b"SeaBIOS");
    let mut boot = console.join(starting(Start::FromBoot)).unwrap();
    assert_eq!(boot.position(), begins);
    assert_eq!(bytes(output(&mut boot).await), b"SeaBIOS");
}

#[tokio::test(start_paused = true)]
async fn what_a_vm_wrote_that_ran_soon_after_it_was_attached_is_a_gap_and_told_at_once() {
    // As its hypervisor tells, or what it writes.
    for (after, by_news) in [(1, true), (1, false), (3, true)] {
        let mut host = Host::start(None, 1024);
        let console = host.console().await;
        let mut viewer = console.join(waiting()).unwrap();
        host.inventory.send_replace(inventory([unrun(1)]));
        let sink = host.script.attached().await;
        until_available(&console, Availability::Attached).await;
        tokio::time::advance(Duration::from_secs(after)).await;
        if !by_news {
            sink.output(b"SeaBIOS");
        }
        host.inventory.send_replace(inventory([vm(Some(1))]));
        until(&console, |state| state.vm_state == VmState::Running).await;
        started(&mut viewer).await;
        if by_news {
            if after == 1 {
                let told = output(&mut viewer).await;
                assert!(matches!(told, Next::Gap(_)), "{told:?}");
            }
            sink.output(b"SeaBIOS");
            assert_eq!(bytes(output(&mut viewer).await), b"SeaBIOS");
        } else {
            assert_eq!(first_bytes(&mut viewer).await, b"SeaBIOS");
        }
        sink.output(b" (version");
        assert_eq!(bytes(output(&mut viewer).await), b" (version", "told once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_may_have_run_before_it_ended_is_a_gap() {
    let mut host = Host::start(None, 1024);
    let console = host.console().await;
    let mut viewer = console.join(waiting()).unwrap();
    host.inventory.send_replace(inventory([unrun(1)]));
    host.script.attached().await;
    until_available(&console, Availability::Attached).await;
    host.inventory.send_replace(inventory([vm(None)]));
    started(&mut viewer).await;
    let told = output(&mut viewer).await;
    assert!(matches!(told, Next::Gap(_)), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_one_run_are_not_the_next_ones_first() {
    let (host, console, sink) = running().await;
    let mut viewer = console.join(request(None)).unwrap();
    host.inventory.send_replace(inventory([unrun(2)]));
    until(&console, |state| state.booted.is_some()).await;
    sink.output(b"goodbye");
    sink.ended(EndpointEnd::Eof);
    let sink = host.script.attached().await;
    until_available(&console, Availability::Attached).await;
    tokio::time::advance(LONG).await;
    sink.output(b"SeaBIOS");
    assert_eq!(bytes(output(&mut viewer).await), b"goodbye");
    started(&mut viewer).await;
    assert_eq!(bytes(output(&mut viewer).await), b"SeaBIOS");
}
