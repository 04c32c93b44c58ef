//! A console that another process holds: told, given way to, taken up again, and taken from
//! them on request alone.

use tokio::time::Instant;

use super::*;
use crate::endpoint;

fn virsh() -> Holder {
    Holder {
        process: 4711,
        command: "virsh".to_owned(),
        user: 0,
    }
}

fn taken_from_others(host: &Host) -> usize {
    let claims = host.script.claims.lock();
    let taken = claims
        .iter()
        .filter(|claim| **claim == endpoint::Claim::Displace);
    taken.count()
}

async fn held_host() -> (Host, Arc<Console>) {
    let mut host = Host::start(Some(1), 1024);
    *host.script.held_by.lock() = Some(virsh());
    *host.script.finds_holder.lock() = Does::It;
    let console = host.console().await;
    until(&console, |state| state.holder.is_some()).await;
    (host, console)
}

#[tokio::test(start_paused = true)]
async fn who_is_displaced_comes_back_within_five_seconds_of_the_console_being_free() {
    for held in [10, 900, 7_000, 70_000, 600_000] {
        let mut host = Host::start(Some(1), 1024);
        *host.script.finds_holder.lock() = Does::It;
        let console = host.console().await;
        host.script.attached().await.output(b"before");
        let mut viewer = console.join(request(None)).expect("joins");
        host.script.displace(&virsh());
        let told = state(&mut viewer, Availability::HeldByOther).await;
        assert!(told.next_try.is_some());
        tokio::time::sleep(Duration::from_millis(held)).await;
        assert_eq!(
            console.status().state.availability,
            Availability::HeldByOther
        );
        *host.script.held_by.lock() = None;
        let free = Instant::now();
        host.script.attached().await.output(b"after");
        assert!(free.elapsed() < Duration::from_secs(5), "held {held} ms");
        let Next::Gap(gap) = output(&mut viewer).await else {
            panic!("no gap")
        };
        assert_eq!((gap.from, gap.reason), (gap.to, GapReason::NotAttached));
        assert_eq!(bytes(output(&mut viewer).await), b"after");
        assert_eq!(taken_from_others(&host), 0, "never by force");
    }
}

#[tokio::test(start_paused = true)]
async fn a_console_that_is_held_at_the_start_says_by_whom_until_it_is_free() {
    let (host, console) = held_host().await;
    let refused = console.join(request(None)).expect_err("held");
    let JoinError::Unavailable(state) = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(state.holder, Some(virsh()));
    let said = refused.to_string();
    assert!(
        said.ends_with("held by virsh (process 4711 of user 0)"),
        "{said}"
    );
    let line = "vmconsole_consoles{availability=\"held_by_other\"} 1";
    assert!(host.metric(line));
    *host.script.held_by.lock() = None;
    let attached = until_available(&console, Availability::Attached).await;
    assert_eq!(attached.holder, None);
    console.join(request(None)).expect("free");
}

#[tokio::test(start_paused = true)]
async fn since_when_a_console_is_held_does_not_move_with_each_try() {
    let (host, console) = held_host().await;
    let since = console.status().state.since;
    let tries = host.script.claims.lock().len();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(host.script.claims.lock().len() >= tries + 8);
    let held = console.status().state;
    assert_eq!((held.since, held.holder), (since, Some(virsh())));
    *host.script.held_by.lock() = None;
    let attached = until_available(&console, Availability::Attached).await;
    assert!(attached.since > since);
}

#[tokio::test(start_paused = true)]
async fn a_search_for_the_holder_that_hangs_keeps_nobody_from_trying_again() {
    let mut host = Host::start(Some(1), 1024);
    *host.script.held_by.lock() = Some(virsh());
    *host.script.finds_holder.lock() = Does::Hang;
    let console = host.console().await;
    until_available(&console, Availability::HeldByOther).await;
    let begun = Instant::now();
    while host.script.claims.lock().len() < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(begun.elapsed() < Duration::from_millis(900));
    *host.script.finds_holder.lock() = Does::It;
    until(&console, |state| state.holder.is_some()).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_holder_is_displaced_on_request_and_once() {
    let (host, console) = held_host().await;
    *host.script.yields.lock() = Does::It;
    let (one, other) = (request(None), request(None));
    let (asked, too) = tokio::join!(
        console.displace_holder(&one),
        console.displace_holder(&other)
    );
    asked.expect("may ask");
    too.expect("may ask");
    console.join(one).expect("free");
    console.join(other).expect("free");
    assert_eq!(taken_from_others(&host), 1);
    console
        .displace_holder(&request(None))
        .await
        .expect("nothing to do");
    host.script.displace(&virsh());
    until_available(&console, Availability::HeldByOther).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(taken_from_others(&host), 1, "not by itself");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_cannot_be_displaced_keeps_the_console() {
    let (host, console) = held_host().await;
    let since = console.status().state.since;
    let begun = Instant::now();
    console
        .displace_holder(&request(None))
        .await
        .expect("may ask");
    assert!(begun.elapsed() < Duration::from_secs(1), "told at once");
    let refused = console.join(request(None)).expect_err("held");
    assert!(matches!(refused, JoinError::Unavailable(_)));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(taken_from_others(&host), 1);
    assert_eq!(console.status().state.since, since);
}

#[tokio::test(start_paused = true)]
async fn a_try_to_displace_that_hangs_is_not_waited_for_for_long() {
    let (host, console) = held_host().await;
    *host.script.yields.lock() = Does::Hang;
    let begun = Instant::now();
    console
        .displace_holder(&request(None))
        .await
        .expect("may ask");
    assert!(begun.elapsed() <= Duration::from_secs(10));
    console.join(request(None)).expect_err("held");
    assert_eq!(taken_from_others(&host), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_displaced_for_who_leaves_or_would_be_refused_anyway() {
    let (host, console) = held_host().await;
    *host.script.yields.lock() = Does::It;
    let gone = request(None);
    tokio::select! {
        biased;
        _ = console.displace_holder(&gone) => panic!("nothing has happened yet"),
        () = std::future::ready(()) => {}
    }
    *host.script.held_by.lock() = None;
    until_available(&console, Availability::Attached).await;
    let writer = console.join(request(Some(Claim::IfFree))).expect("joins");
    host.script.displace(&virsh());
    until_available(&console, Availability::HeldByOther).await;
    let refused = console
        .displace_holder(&request(Some(Claim::IfFree)))
        .await
        .expect_err("somebody writes");
    assert!(matches!(refused, JoinError::LeaseHeld(_)));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(taken_from_others(&host), 0);
    drop(writer);
}

#[tokio::test(start_paused = true)]
async fn what_is_typed_while_another_process_has_the_console_is_refused() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    host.script.attached().await;
    let typist = request(Some(Claim::IfFree));
    let mut writer = console.join(typist.clone()).expect("joins");
    type_in(&console, &typist, &writer, 0, b"abc");
    host.script.displace(&virsh());
    let waited = refused(&mut writer).await;
    assert_eq!(
        (waited.from, waited.to, waited.reason),
        (0, 3, Reason::HeldByOther)
    );
    until_available(&console, Availability::HeldByOther).await;
    type_in(&console, &typist, &writer, 3, b"reboot");
    let typed = refused(&mut writer).await;
    assert_eq!(
        (typed.from, typed.to, typed.reason),
        (3, 9, Reason::HeldByOther)
    );
    host.appetite.add_permits(99);
    *host.script.held_by.lock() = None;
    until_available(&console, Availability::Attached).await;
    type_in(&console, &typist, &writer, 9, b"x");
    timeout(BOUND, async {
        while host.script.written.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is written");
    assert_eq!(*host.script.written.lock(), b"x");
}

#[tokio::test(start_paused = true)]
async fn what_is_typed_while_the_way_to_the_console_is_lost_waits_for_it() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    let typist = request(Some(Claim::IfFree));
    let mut writer = console.join(typist.clone()).expect("joins");
    host.appetite.add_permits(99);
    sink.ended(EndpointEnd::Lost("libvirtd went away".to_owned()));
    state(&mut writer, Availability::Lost).await;
    type_in(&console, &typist, &writer, 0, b"uptime");
    host.script.attached().await;
    let done = find(&mut writer, |item| match item {
        Item::InputDone(done) => Some(done),
        _ => None,
    });
    assert_eq!(done.await, 6);
    assert_eq!(*host.script.written.lock(), b"uptime");
}
