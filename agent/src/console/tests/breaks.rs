//! Breaks: directly followed by their character, and in nobody's way.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::*;
use crate::hypervisor::EffectError;

async fn host(line: Does, monitor: Does) -> (Host, Arc<Console>) {
    let mut host = Host::start(Some(1), 1024);
    *host.script.line_breaks.lock() = line;
    *host.script.monitor_breaks.lock() = monitor;
    let console = host.console().await;
    host.script.attached().await;
    until_available(&console, Availability::Attached).await;
    (host, console)
}

fn said(error: &EffectError) -> String {
    assert!(matches!(error, EffectError::Unreachable(_)), "{error:?}");
    error.to_string()
}

fn not_done(error: &EffectError) -> String {
    assert!(matches!(error, EffectError::NotDone(_)), "{error:?}");
    error.to_string()
}

#[tokio::test(start_paused = true)]
async fn a_break_goes_by_the_endpoint_or_else_by_the_monitor_or_is_not_supported() {
    for (line, monitor) in [(Does::It, Does::Hang), (Does::NotAtAll, Does::It)] {
        let (host, console) = host(line, monitor).await;
        console.send_break(None).await.expect("sent");
        assert_eq!(*host.script.breaks.lock(), [0]);
        assert!(host.script.written.lock().is_empty());
    }
    let (_host, console) = host(Does::NotAtAll, Does::NotAtAll).await;
    let refused = console.send_break(Some(b'h')).await.expect_err("cannot");
    assert_eq!(refused, EffectError::Unsupported("no monitor".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn the_character_follows_its_break_directly_while_a_writer_types_at_full_speed() {
    for (line, monitor) in [(Does::It, Does::NotAtAll), (Does::NotAtAll, Does::It)] {
        let (host, console) = host(line, monitor).await;
        let typist = request(Some(Claim::IfFree));
        let mut writer = console.join(typist.clone()).expect("joins");
        let typed = async {
            for number in 0..2_000 {
                type_in(&console, &typist, &writer, number, b"x");
                host.appetite.add_permits(1);
                tokio::task::yield_now().await;
                if number % 100 == 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        let broken = async {
            for character in [b'1', b'2', b'3', b'4'] {
                host.appetite.add_permits(1);
                console.send_break(Some(character)).await.expect("sent");
            }
        };
        tokio::join!(typed, broken);
        host.appetite.add_permits(9);
        let mut done = 0;
        while done < 2_000 {
            done = find(&mut writer, |item| match item {
                Item::InputDone(done) => Some(done),
                _ => None,
            })
            .await;
        }
        let written = host.script.written.lock();
        let after: Vec<_> = host
            .script
            .breaks
            .lock()
            .iter()
            .map(|at| written[*at])
            .collect();
        assert_eq!(after, *b"1234");
        assert_eq!(written.len(), 2_004, "and all that was typed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_takes_no_input_is_sent_the_break_and_not_the_character() {
    let (host, console) = host(Does::NotAtAll, Does::It).await;
    let typist = request(Some(Claim::IfFree));
    let writer = console.join(typist.clone()).expect("joins");
    type_in(&console, &typist, &writer, 0, b"abc");
    until(&console, |state| state.wedged_since.is_some()).await;
    console.send_break(None).await.expect("sent");
    let begun = Instant::now();
    let error = console.send_break(Some(b'h')).await.expect_err("stalled");
    assert!(said(&error).contains("the break was sent, and its character was not"));
    assert!(begun.elapsed() < Duration::from_secs(6));
    assert_eq!(*host.script.breaks.lock(), [0, 0]);
    host.appetite.add_permits(3);
    until(&console, |state| state.wedged_since.is_none()).await;
    assert_eq!(*host.script.written.lock(), b"abc", "it was not lost");
}

#[tokio::test(start_paused = true)]
async fn no_character_is_sent_where_unread_input_would_be_taken_for_it() {
    let (host, console) = host(Does::NotAtAll, Does::It).await;
    *host.script.unread.lock() = Some(1);
    host.appetite.add_permits(9);
    let error = console.send_break(Some(b'h')).await.expect_err("unread");
    assert!(not_done(&error).contains("has not read what was typed before"));
    assert!(host.script.breaks.lock().is_empty());
    console.send_break(None).await.expect("as it was asked for");
    *host.script.unread.lock() = Some(0);
    console.send_break(Some(b'h')).await.expect("sent");
    assert_eq!(*host.script.written.lock(), b"h");
}

#[tokio::test(start_paused = true)]
async fn a_monitor_that_hangs_holds_up_neither_output_nor_news_nor_the_end() {
    let (host, console) = host(Does::NotAtAll, Does::Hang).await;
    let mut viewer = console.join(request(None)).expect("joins");
    state(&mut viewer, Availability::Attached).await;
    let begun = Instant::now();
    let asked = console.send_break(None);
    tokio::pin!(asked);
    tokio::select! {
        biased;
        _ = &mut asked => panic!("it hangs"),
        () = tokio::time::sleep(Duration::from_millis(1)) => {}
    }
    let sink = host.script.sink.lock().clone().expect("attached");
    sink.output(b"alive");
    assert_eq!(bytes(output(&mut viewer).await), b"alive");
    let mut paused = vm(Some(1));
    paused.state = VmState::Paused;
    host.inventory.send_replace(inventory([paused]));
    until(&console, |state| state.vm_state == VmState::Paused).await;
    let behind = console.send_break(None);
    tokio::pin!(behind);
    tokio::select! {
        biased;
        _ = &mut behind => panic!("the one before hangs"),
        () = tokio::time::sleep(Duration::from_millis(1)) => {}
    }
    sink.ended(EndpointEnd::Lost("libvirtd went away".to_owned()));
    state(&mut viewer, Availability::Lost).await;
    let error = asked.await.expect_err("let go");
    assert!(said(&error).contains("may or may not have been sent"));
    let error = behind.await.expect_err("let go");
    assert!(matches!(error, EffectError::NotDone(_)), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(1));
    host.script.attached().await;
    let begun = Instant::now();
    let error = console.send_break(None).await.expect_err("hangs");
    assert!(said(&error).contains("may or may not have been sent"));
    assert!(begun.elapsed() <= Duration::from_secs(11));
    let (tasks, let_go) = (
        host.tasks.clone(),
        host.script.let_go.load(Ordering::Relaxed),
    );
    let (stopped, _) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            tasks.close();
            tasks.drained(Duration::from_secs(1)).await
        },
        console.send_break(None)
    );
    assert!(stopped, "a stop does not wait for it");
    assert_eq!(host.script.let_go.load(Ordering::Relaxed), let_go + 1);
}

#[tokio::test(start_paused = true)]
async fn a_break_of_which_half_is_on_its_way_is_not_said_to_be_undone() {
    let (host, console) = host(Does::Hang, Does::NotAtAll).await;
    let error = console.send_break(None).await.expect_err("hangs");
    assert!(matches!(error, EffectError::NotDone(_)), "{error:?}");
    host.script.breaking.store(true, Ordering::Relaxed);
    let error = console.send_break(None).await.expect_err("hangs");
    assert!(said(&error).contains("may or may not be sent"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn news_of_the_vm_does_not_interrupt_a_break() {
    let (host, console) = host(Does::NotAtAll, Does::It).await;
    let asked = console.send_break(Some(b'h'));
    let news = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut paused = vm(Some(1));
        paused.state = VmState::Paused;
        host.inventory.send_replace(inventory([paused]));
        until(&console, |state| state.vm_state == VmState::Paused).await;
        host.appetite.add_permits(1);
    };
    let (sent, ()) = tokio::join!(asked, news);
    sent.expect("sent");
    assert_eq!(*host.script.breaks.lock(), [0]);
    assert_eq!(*host.script.written.lock(), b"h");
}

#[tokio::test(start_paused = true)]
async fn breaks_that_wait_are_few_and_those_given_up_are_not_sent() {
    let (host, console) = host(Does::NotAtAll, Does::Hang).await;
    let mut asked: Vec<_> = (0..5).map(|_| Box::pin(console.send_break(None))).collect();
    for one in &mut asked {
        tokio::select! {
            biased;
            _ = one => panic!("it hangs"),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }
    let error = console.send_break(None).await.expect_err("one too many");
    assert!(matches!(error, EffectError::Busy(_)), "{error:?}");
    drop(asked);
    *host.script.monitor_breaks.lock() = Does::It;
    console.send_break(None).await.expect("sent");
    assert_eq!(host.script.breaks.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_console_that_is_not_attached_is_sent_no_break() {
    let mut host = Host::start(None, 1024);
    let console = host.console().await;
    let off = console.send_break(None).await.expect_err("off");
    assert_eq!(off, EffectError::NotRunning);
    for _ in 0..99 {
        let error = EndpointError::Unreachable("libvirtd hangs".to_owned());
        host.script.refusals.lock().push_back(error);
    }
    host.inventory.send_replace(inventory([vm(Some(1))]));
    until_available(&console, Availability::Lost).await;
    let lost = console.send_break(None).await.expect_err("lost");
    assert!(not_done(&lost).contains("libvirtd hangs"));
    host.inventory.send_replace(inventory([]));
    host.gone().await;
    let gone = console.send_break(None).await.expect_err("gone");
    assert!(matches!(gone, EffectError::NotFound(_)), "{gone:?}");
    assert!(host.script.breaks.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_break_by_the_monitor_leaves_what_was_just_typed_the_time_to_arrive() {
    let (host, console) = host(Does::NotAtAll, Does::It).await;
    host.appetite.add_permits(9);
    let typist = request(Some(Claim::IfFree));
    let writer = console.join(typist.clone()).expect("joins");
    let begun = Instant::now();
    console.send_break(None).await.expect("sent");
    assert_eq!(begun.elapsed(), Duration::ZERO, "nothing was typed");
    type_in(&console, &typist, &writer, 0, b"abc");
    tokio::time::sleep(Duration::from_millis(1)).await;
    console.send_break(Some(b'h')).await.expect("sent");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert_eq!(*host.script.breaks.lock(), [0, 3]);
    assert_eq!(*host.script.written.lock(), b"abch");
}
