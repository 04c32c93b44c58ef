//! A console is attached whenever there is a QEMU, and what was missed is told.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::*;
use crate::endpoint::{Direct, Source};

#[tokio::test(start_paused = true)]
async fn a_broken_endpoint_is_attached_again_and_the_gap_is_told() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    let mut viewer = console.join(request(None)).expect("joins");
    sink.output(b"one");
    assert_eq!(bytes(output(&mut viewer).await), b"one");
    sink.ended(EndpointEnd::Lost("libvirtd went away".to_owned()));
    let lost = state(&mut viewer, Availability::Lost).await;
    assert_eq!(lost.detail, "libvirtd went away");
    assert!(lost.next_try.is_some());
    let again = host.script.attached().await;
    sink.output(b"a late word of the first attachment");
    again.output(b"two");
    let Next::Gap(gap) = output(&mut viewer).await else {
        panic!("no gap")
    };
    let at = gap.from;
    assert_eq!(
        gap,
        Gap {
            from: at,
            to: at,
            length_known: false,
            reason: GapReason::NotAttached
        }
    );
    assert_eq!(at.offset, 3);
    assert_eq!(bytes(output(&mut viewer).await), b"two");
    assert_eq!(console.status().state.availability, Availability::Attached);
}

#[tokio::test(start_paused = true)]
async fn a_refused_console_says_why_and_is_tried_again() {
    let mut host = Host::start(Some(1), 1024);
    host.script
        .refusals
        .lock()
        .push_back(EndpointError::HeldByOther("virsh console".to_owned()));
    let console = host.console().await;
    host.script.attached().await;
    let mut viewer = console.join(request(None)).expect("joins");
    state(&mut viewer, Availability::Attached).await;
    assert!(host.metric("vmconsole_console_attach_failures_total{reason=\"held_by_other\"} 1"));
    assert!(host.metric("vmconsole_consoles{availability=\"attached\"} 1"));
    assert!(host.metric("vmconsole_consoles{availability=\"held_by_other\"} 0"));
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_off_is_refused_and_another_start_is_another_generation() {
    let mut host = Host::start(None, 1024);
    let console = host.console().await;
    let refused = console.join(request(None)).expect_err("off");
    assert!(matches!(refused, JoinError::NotRunning));
    host.inventory.send_replace(inventory([vm(Some(1))]));
    let sink = host.script.attached().await;
    let mut viewer = console.join(request(None)).expect("joins");
    sink.output(b"last words");
    sink.ended(EndpointEnd::Eof);
    host.inventory.send_replace(inventory([vm(None)]));
    let Next::Output {
        position, bytes, ..
    } = output(&mut viewer).await
    else {
        panic!()
    };
    assert_eq!(bytes, "last words");
    while console.status().state.vm_state != VmState::Off {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(console.status().state.availability, Availability::Waiting);
    host.inventory.send_replace(inventory([vm(Some(2))]));
    let sink = host.script.attached().await;
    sink.output(b"SeaBIOS");
    let Next::GenerationStarted(started) = output(&mut viewer).await else {
        panic!()
    };
    assert_ne!(started.generation, position.generation);
    assert_eq!(started.offset, 0);
    assert_eq!(first_bytes(&mut viewer).await, b"SeaBIOS");
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_was_restarted_behind_our_back_is_another_generation() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    let typist = request(Some(Claim::IfFree));
    let mut writer = console.join(typist.clone()).expect("joins");
    let away = |connected: bool, stale: &[VmUuid], instance| {
        let mut away = Inventory::clone(&inventory([vm(instance)]));
        (away.connected, away.trouble) = (connected, "libvirtd is gone".to_owned());
        away.stale = stale
            .iter()
            .map(|vm| (*vm, away.trouble.as_str().into()))
            .collect();
        Arc::new(away)
    };
    host.inventory
        .send_replace(away(false, &[vm(None).uuid], Some(1)));
    sink.ended(EndpointEnd::Lost("libvirtd is gone".to_owned()));
    state(&mut writer, Availability::Lost).await;
    let epoch = writer.writer().epoch;
    console
        .input(
            StreamId::first(typist.participant.session),
            0,
            epoch,
            b"reboot\n",
        )
        .expect("in the window");
    // libvirt is back. What is known of the VM is from before.
    host.inventory
        .send_replace(away(true, &[vm(None).uuid], Some(1)));
    let again = timeout(Duration::from_secs(30), host.script.attached.notified()).await;
    assert!(again.is_err(), "attached to whatever runs now");
    host.inventory.send_replace(away(true, &[], Some(2)));
    host.script.attached().await.output(b"SeaBIOS");
    let (mut refused, mut started) = (None, false);
    while refused.is_none() || !started {
        match next(&mut writer).await {
            Item::InputRefused(one) => refused = Some(one),
            Item::Output(Next::GenerationStarted(_)) => started = true,
            _ => {}
        }
    }
    // Its start was not seen.
    assert_eq!(first_bytes(&mut writer).await, b"SeaBIOS");
    let expected = Refused {
        from: 0,
        to: 7,
        reason: Reason::NotRunning,
    };
    assert_eq!(refused, Some(expected));
    assert!(host.script.written.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_ended_while_nobody_was_attached_ends_with_a_gap() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    let mut viewer = console.join(request(None)).expect("joins");
    sink.output(b"seen");
    host.script
        .refusals
        .lock()
        .push_back(EndpointError::Unreachable("hangs".to_owned()));
    sink.ended(EndpointEnd::Lost("libvirtd is gone".to_owned()));
    assert_eq!(bytes(output(&mut viewer).await), b"seen");
    state(&mut viewer, Availability::Lost).await;
    host.inventory.send_replace(inventory([vm(Some(2))]));
    host.script.attached().await.output(b"SeaBIOS");
    let Next::Gap(gap) = output(&mut viewer).await else {
        panic!("no gap")
    };
    assert_eq!((gap.from, gap.reason), (gap.to, GapReason::NotAttached));
    let Next::GenerationStarted(_) = output(&mut viewer).await else {
        panic!("no generation")
    };
    assert_eq!(first_bytes(&mut viewer).await, b"SeaBIOS");
}

#[tokio::test(start_paused = true)]
async fn the_last_words_of_a_qemu_are_waited_for_when_its_end_is_known_before() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    let mut viewer = console.join(request(None)).expect("joins");
    state(&mut viewer, Availability::Attached).await;
    host.inventory.send_replace(inventory([vm(Some(2))]));
    tokio::task::yield_now().await;
    sink.output(b"panic");
    sink.ended(EndpointEnd::Eof);
    host.script.attached().await;
    assert_eq!(bytes(output(&mut viewer).await), b"panic");
    let Next::GenerationStarted(_) = output(&mut viewer).await else {
        panic!("a gap, though its last words came")
    };
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_qemu_whose_last_words_may_be_lost_is_told_as_a_gap() {
    // Its end is told before the VM's, and after it.
    for news_first in [false, true] {
        let mut host = Host::start(Some(1), 1024);
        let console = host.console().await;
        let sink = host.script.attached().await;
        let mut viewer = console.join(request(None)).expect("joins");
        state(&mut viewer, Availability::Attached).await;
        sink.output(b"panic");
        if news_first {
            host.inventory.send_replace(inventory([vm(Some(2))]));
            tokio::task::yield_now().await;
            sink.ended(EndpointEnd::HungUp);
        } else {
            sink.ended(EndpointEnd::HungUp);
            host.inventory.send_replace(inventory([vm(None)]));
            until(&console, |state| state.vm_state == VmState::Off).await;
            assert_eq!(console.status().state.availability, Availability::Waiting);
            host.inventory.send_replace(inventory([vm(Some(2))]));
        }
        host.script.attached().await.output(b"SeaBIOS");
        assert_eq!(bytes(output(&mut viewer).await), b"panic");
        let Next::Gap(gap) = output(&mut viewer).await else {
            panic!("nothing says that its last words may be missing")
        };
        assert_eq!((gap.from, gap.length_known), (gap.to, false));
        let Next::GenerationStarted(_) = output(&mut viewer).await else {
            panic!("no generation")
        };
        assert_eq!(first_bytes(&mut viewer).await, b"SeaBIOS");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_fails_without_a_word_is_no_end_of_file() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    let mut viewer = console.join(request(None)).expect("joins");
    sink.output(b"seen");
    assert_eq!(bytes(output(&mut viewer).await), b"seen");
    drop((sink, host.script.sink.lock().take()));
    let lost = state(&mut viewer, Availability::Lost).await;
    assert!(lost.detail.contains("fault in the agent"), "{lost:?}");
    host.inventory.send_replace(inventory([vm(Some(2))]));
    let Next::Gap(_) = output(&mut viewer).await else {
        panic!("no gap")
    };
}

#[tokio::test(start_paused = true)]
async fn a_console_that_is_another_device_now_is_attached_there() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    let mut viewer = console.join(request(None)).expect("joins");
    sink.output(b"one");
    assert_eq!(bytes(output(&mut viewer).await), b"one");
    // The device before it was unplugged, and the names have moved up.
    let mut moved = vm(Some(1));
    moved.consoles[0].source = Source::Direct(Direct::Unix("/elsewhere".into()));
    host.inventory.send_replace(inventory([moved]));
    let again = host.script.attached().await;
    assert_eq!(host.script.let_go.load(Ordering::Relaxed), 1);
    sink.output(b"of the other device");
    again.output(b"two");
    let Next::Gap(gap) = output(&mut viewer).await else {
        panic!("no gap")
    };
    assert_eq!((gap.from, gap.reason), (gap.to, GapReason::NotAttached));
    assert_eq!(bytes(output(&mut viewer).await), b"two");
    assert_eq!(console.status().state.availability, Availability::Attached);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_to_attach_that_hangs_is_given_up_for_news_of_the_vm() {
    let mut host = Host::start(Some(1), 1024);
    host.script.hangs.store(true, Ordering::Relaxed);
    let console = host.console().await;
    let tried = |times| {
        let claims = &host.script.claims;
        until(&console, move |_| claims.lock().len() == times)
    };
    tried(1).await;
    let begun = Instant::now();
    let mut paused = vm(Some(1));
    paused.state = VmState::Paused;
    host.inventory.send_replace(inventory([paused]));
    until(&console, |state| state.vm_state == VmState::Paused).await;
    assert_eq!(host.script.claims.lock().len(), 1, "that changes nothing");
    host.inventory.send_replace(inventory([vm(Some(2))]));
    tried(2).await;
    host.inventory.send_replace(inventory([vm(None)]));
    until(&console, |state| state.vm_state == VmState::Off).await;
    let refused = console.join(request(None)).expect_err("off");
    assert!(matches!(refused, JoinError::NotRunning), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_to_attach_that_hangs_is_given_up_in_the_end() {
    let mut host = Host::start(Some(1), 1024);
    host.script.hangs.store(true, Ordering::Relaxed);
    let console = host.console().await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(host.script.claims.lock().len(), 1, "an endpoint has time");
    let lost = until_available(&console, Availability::Lost).await;
    assert!(lost.detail.contains("within"), "{lost:?}");
    host.script.hangs.store(false, Ordering::Relaxed);
    until_available(&console, Availability::Attached).await;
}

#[tokio::test(start_paused = true)]
async fn a_viewer_that_comes_while_attaching_fails_is_told_of_the_gap() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    for _ in 0..3 {
        host.script
            .refusals
            .lock()
            .push_back(EndpointError::Unreachable("hangs".to_owned()));
    }
    sink.ended(EndpointEnd::Lost("libvirtd is gone".to_owned()));
    while host.script.refusals.lock().len() > 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut viewer = console.join(request(None)).expect("joins");
    host.script.attached().await.output(b"two");
    let Next::Gap(gap) = output(&mut viewer).await else {
        panic!("no gap")
    };
    assert_eq!(gap.reason, GapReason::NotAttached);
}

#[tokio::test(start_paused = true)]
async fn a_console_behind_a_hypervisor_that_hangs_is_lost_until_it_is_back() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    host.script.attached().await;
    let mut viewer = console.join(request(None)).expect("joins");
    state(&mut viewer, Availability::Attached).await;
    let mut hung = Inventory::clone(&inventory([vm(Some(1))]));
    (hung.connected, hung.trouble) = (false, "libvirtd does not answer".to_owned());
    hung.stale
        .insert(vm(None).uuid, hung.trouble.as_str().into());
    host.inventory.send_replace(Arc::new(hung));
    assert_eq!(
        state(&mut viewer, Availability::Lost).await.detail,
        "libvirtd does not answer"
    );
    host.inventory.send_replace(inventory([vm(Some(1))]));
    state(&mut viewer, Availability::Attached).await;
}

#[tokio::test(start_paused = true)]
async fn a_console_that_is_gone_gives_its_last_words_and_ends_its_viewers() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    let mut viewer = console.join(request(None)).expect("joins");
    sink.output(b"last words");
    host.inventory.send_replace(inventory([]));
    assert_eq!(bytes(output(&mut viewer).await), b"last words");
    let end = find(&mut viewer, |item| match item {
        Item::Ended(reason) => Some(reason),
        _ => None,
    });
    assert_eq!(end.await, Reason::VmGone);
    let refused = console.join(request(None)).expect_err("gone");
    assert!(matches!(refused, JoinError::Gone));
    host.tasks.close();
    assert!(host.tasks.drained(BOUND).await, "its pump has ended");
    assert!(host.metric("vmconsole_consoles{availability=\"attached\"} 0"));
    drop((viewer, console, host.directory.borrow_and_update().clone()));
}
