//! A console is held while somebody wants it, a while longer where it is on demand, and costs
//! nothing else.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::super::scripted::LINGER;
use super::*;
use crate::config::CaptureMode::{self, Always, Off, OnDemand};

/// A console of a VM that runs, once it is ready.
async fn ready(mode: CaptureMode) -> (Host, Arc<Console>) {
    let mut host = Host::capturing(Some(1), 1024, mode);
    let console = host.console().await;
    until_available(&console, Availability::Ready).await;
    (host, console)
}

/// Joins as a session does.
async fn open(console: &Arc<Console>) -> Result<Viewer, JoinError> {
    let _demand = console.attach().await;
    console.join(request(None))
}

fn tries(host: &Host) -> usize {
    host.script.claims.lock().len()
}

fn captured(host: &Host, consoles: u32) -> bool {
    host.metric(&format!("vmconsole_consoles_captured {consoles}"))
}

async fn let_go(host: &Host, times: usize) {
    let gone = async {
        while host.script.let_go.load(Ordering::Relaxed) < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(BOUND, gone).await.expect("it is let go");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_is_ready_as_last_seen_and_is_not_tried() {
    let before = SystemTime::now();
    let (host, console) = ready(OnDemand).await;
    let status = console.status();
    assert!(status.state.checked.expect("ready") >= before);
    assert_eq!((status.head, status.state.generation), (None, None));
    tokio::time::sleep(Duration::from_secs(100_000)).await;
    assert_eq!(tries(&host), 0);
    assert!(captured(&host, 0));
    assert!(host.metric("vmconsole_consoles{availability=\"ready\"} 1"));
    let refused = console.join(request(None)).expect_err("not attached");
    assert!(matches!(refused, JoinError::Unavailable(_)), "{refused:?}");
    // Its VM was restarted: that it is ready was seen again.
    let checked = status.state.checked;
    host.inventory.send_replace(inventory([vm(Some(2))]));
    until(&console, |state| state.checked > checked).await;
}

#[tokio::test(start_paused = true)]
async fn it_is_attached_at_open_and_held_for_a_while_after_the_last_viewer() {
    let (host, console) = ready(OnDemand).await;
    let (first, second) = (open(&console).await, open(&console).await);
    let mut first = first.expect("opens");
    assert_eq!(first.position().offset, 0);
    assert_eq!(tries(&host), 1);
    assert!(captured(&host, 1));
    host.script.attached().await.output(b"login: ");
    assert_eq!(bytes(output(&mut first).await), b"login: ");
    let generation = first.position().generation;
    first.leave(Reason::ClientDetached);
    tokio::time::sleep(2 * LINGER).await;
    assert_eq!(
        host.script.let_go.load(Ordering::Relaxed),
        0,
        "the second views"
    );

    drop(second);
    let left = Instant::now();
    tokio::time::sleep(LINGER - Duration::from_secs(1)).await;
    let mut request = request(None);
    request.start = Start::TailBytes(99);
    let demand = console.attach().await;
    let mut back = console.join(request).expect("it is attached still");
    drop(demand);
    assert_eq!(bytes(output(&mut back).await), b"login: ");
    assert_eq!(back.position().generation, generation);

    drop(back);
    let left_again = Instant::now();
    assert!(left_again < left + LINGER);
    tokio::time::sleep(LINGER - Duration::from_secs(1)).await;
    assert_eq!(host.script.let_go.load(Ordering::Relaxed), 0);
    let_go(&host, 1).await;
    assert!(left_again.elapsed() < LINGER + Duration::from_secs(1));
    let alone = until_available(&console, Availability::Ready).await;
    assert!(alone.checked.is_some());
    assert_eq!(alone.generation, Some(generation), "the last there was");
    assert_eq!(console.status().head, None);
    assert!(captured(&host, 0) && host.metric("vmconsole_ring_bytes 0"));

    let next = open(&console).await.expect("opens");
    assert_ne!(next.position().generation, generation);
    assert_eq!((next.position().offset, tries(&host)), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn what_is_off_keeps_nothing_after_its_last_viewer_and_history_until_then() {
    let (host, console) = ready(Off).await;
    let first = open(&console).await.expect("opens");
    host.script.attached().await.output(b"since the first");
    let mut tail = request(None);
    tail.start = Start::TailBytes(99);
    let mut second = console.join(tail).expect("joins");
    drop(first);
    assert_eq!(bytes(output(&mut second).await), b"since the first");
    let begun = Instant::now();
    drop(second);
    let_go(&host, 1).await;
    until_available(&console, Availability::Ready).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(console.status().head, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_always_held_is_attached_without_viewers() {
    let mut host = Host::capturing(Some(1), 1024, Always);
    let console = host.console().await;
    host.script.attached().await;
    let viewer = open(&console).await.expect("opens");
    drop(viewer);
    tokio::time::sleep(10 * LINGER).await;
    assert_eq!(host.script.let_go.load(Ordering::Relaxed), 0);
    assert!(captured(&host, 1));
}

#[tokio::test(start_paused = true)]
async fn who_opens_a_console_that_another_holds_is_told_by_whom_and_it_is_not_tried_on() {
    let (host, console) = ready(OnDemand).await;
    let virsh = Holder {
        process: 4711,
        command: "virsh".to_owned(),
        user: 0,
    };
    *host.script.finds_holder.lock() = Does::It;
    *host.script.held_by.lock() = Some(virsh.clone());
    for opened in 1..=3 {
        let refused = open(&console).await.expect_err("held");
        let JoinError::Unavailable(state) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(state.availability, Availability::HeldByOther);
        assert_eq!(state.holder, Some(virsh.clone()));
        let known = until(&console, |state| state.next_try.is_none()).await;
        assert_eq!(known.availability, Availability::HeldByOther);
        tokio::time::sleep(Duration::from_secs(10_000)).await;
        assert_eq!(tries(&host), opened, "once for each who opened");
        assert!(
            captured(&host, 0),
            "it was not attached, and does not linger"
        );
    }
    *host.script.held_by.lock() = None;
    open(&console).await.expect("it is free");
}

#[tokio::test(start_paused = true)]
async fn a_holder_of_a_console_on_demand_is_displaced_for_who_asks() {
    let (host, console) = ready(OnDemand).await;
    let virsh = Holder {
        process: 4711,
        command: "virsh".to_owned(),
        user: 0,
    };
    *host.script.held_by.lock() = Some(virsh);
    *host.script.yields.lock() = Does::It;
    let _demand = console.attach().await;
    let request = request(None);
    console.displace_holder(&request).await.expect("asked");
    console.join(request).expect("joins");
    assert_eq!(tries(&host), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_a_failed_try_holds_until_the_vm_is_another() {
    let (host, console) = ready(OnDemand).await;
    let denied = EndpointError::Denied("polkit says no".to_owned());
    host.script.refusals.lock().push_back(denied);
    let refused = open(&console).await.expect_err("denied");
    assert!(refused.to_string().contains("polkit says no"), "{refused}");
    until(&console, |state| state.next_try.is_none()).await;
    assert_eq!(console.status().state.availability, Availability::Denied);
    host.inventory.send_replace(inventory([vm(Some(2))]));
    until_available(&console, Availability::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_try_that_comes_to_no_end_is_not_waited_for_and_ends_with_who_wanted_it() {
    let (host, console) = ready(OnDemand).await;
    let checked = console.status().state.checked;
    host.script.hangs.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let refused = open(&console).await.expect_err("hangs");
    assert!(matches!(refused, JoinError::Unavailable(_)), "{refused:?}");
    let call = crate::hypervisor::libvirt::DEFAULT_CALL_TIMEOUT;
    assert!(begun.elapsed() > call, "what comes of a hung call is told");
    let alone = async {
        while console.status().head.is_some() {
            tokio::task::yield_now().await;
        }
    };
    timeout(BOUND, alone).await.expect("it is let alone");
    let alone = console.status().state;
    assert_eq!(alone.availability, Availability::Ready);
    assert_eq!(alone.checked, checked, "nothing was seen since");
    host.script.hangs.store(false, Ordering::Relaxed);
    open(&console).await.expect("opens");
    assert_eq!(tries(&host), 2);
}

#[tokio::test(start_paused = true)]
async fn a_try_that_was_given_up_leaves_what_is_known_of_the_one_before() {
    let (host, console) = ready(OnDemand).await;
    let denied = EndpointError::Denied("polkit says no".to_owned());
    host.script.refusals.lock().push_back(denied);
    open(&console).await.expect_err("denied");
    until(&console, |state| state.next_try.is_none()).await;
    host.script.hangs.store(true, Ordering::Relaxed);
    let demand = console.demand();
    while tries(&host) < 2 {
        tokio::task::yield_now().await;
    }
    drop(demand);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(console.status().state.availability, Availability::Denied);
}

#[tokio::test(start_paused = true)]
async fn what_an_outage_left_of_a_failed_try_ends_with_it() {
    let (host, console) = ready(OnDemand).await;
    let held = EndpointError::HeldByOther("it is in use".to_owned());
    host.script.refusals.lock().push_back(held);
    open(&console).await.expect_err("held");
    until(&console, |state| state.next_try.is_none()).await;
    let mut away = (*inventory([vm(Some(1))])).clone();
    away.stale.insert(vm(None).uuid, "it restarts".into());
    host.inventory.send_replace(Arc::new(away));
    until_available(&console, Availability::Lost).await;
    host.inventory.send_replace(inventory([vm(Some(1))]));
    until_available(&console, Availability::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn who_opens_what_was_just_let_go_waits_for_its_next_try() {
    let (_host, console) = ready(Off).await;
    let viewer = open(&console).await.expect("opens");
    drop(viewer);
    assert!(!console.keep_or_forget());
    tokio::select! {
        biased;
        _ = console.attach() => panic!("nothing is known of a try"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_name_and_the_end_of_lingering_are_no_use_of_a_console() {
    let (host, console) = ready(OnDemand).await;
    let viewer = open(&console).await.expect("opens");
    drop(viewer);
    let used = || console.shared.lock().hold.last_use;
    let last = used();
    let mut renamed = vm(Some(1));
    renamed.name = "another".into();
    host.inventory.send_replace(inventory([renamed]));
    tokio::time::sleep(LINGER).await;
    let_go(&host, 1).await;
    assert_eq!(&*console.status().vm_name, "another");
    assert_eq!(used(), last);
    drop(console.demand());
    assert!(used() > last);
}

#[tokio::test(start_paused = true)]
async fn a_console_that_is_lost_is_tried_on_only_while_it_is_wanted() {
    let (host, console) = ready(OnDemand).await;
    let viewer = open(&console).await.expect("opens");
    let sink = host.script.attached().await;
    for _ in 0..999 {
        let error = EndpointError::Unreachable("libvirtd is gone".to_owned());
        host.script.refusals.lock().push_back(error);
    }
    sink.ended(EndpointEnd::Lost("libvirtd went away".to_owned()));
    until_available(&console, Availability::Lost).await;
    tokio::time::sleep(LINGER).await;
    let tried = tries(&host);
    assert!(tried > 10, "{tried} tries");
    drop(viewer);
    tokio::time::sleep(LINGER + Duration::from_secs(10)).await;
    let tried = tries(&host);
    tokio::time::sleep(10 * LINGER).await;
    assert_eq!(tries(&host), tried);
    let known = console.status().state;
    assert_eq!(known.availability, Availability::Lost);
    assert_eq!(known.next_try, None);
    assert!(captured(&host, 0));
}

#[tokio::test(start_paused = true)]
async fn a_viewer_of_a_vm_that_stops_is_there_when_it_starts_again() {
    let (host, console) = ready(OnDemand).await;
    let mut viewer = open(&console).await.expect("opens");
    let sink = host.script.attached().await;
    sink.output(b"bye");
    sink.ended(EndpointEnd::Eof);
    host.inventory.send_replace(inventory([vm(None)]));
    assert_eq!(bytes(output(&mut viewer).await), b"bye");
    until_available(&console, Availability::Waiting).await;
    host.inventory.send_replace(inventory([vm(Some(2))]));
    host.script.attached().await.output(b"SeaBIOS");
    let Next::GenerationStarted(_) = output(&mut viewer).await else {
        panic!("no generation")
    };
    assert_eq!(first_bytes(&mut viewer).await, b"SeaBIOS");
    // A VM that is off is not attached for longer than its console lingers either.
    host.inventory.send_replace(inventory([vm(None)]));
    drop(viewer);
    tokio::time::sleep(LINGER + Duration::from_secs(1)).await;
    assert!(captured(&host, 0));
    host.inventory.send_replace(inventory([vm(Some(3))]));
    until_available(&console, Availability::Ready).await;
    let running = console.status();
    assert_eq!(
        (running.head, running.state.vm_state),
        (None, VmState::Running)
    );
    host.inventory.send_replace(inventory([vm(None)]));
    until_available(&console, Availability::Waiting).await;
    let off = open(&console).await.expect_err("off");
    assert!(matches!(off, JoinError::NotRunning), "{off:?}");
}

#[tokio::test(start_paused = true)]
async fn a_break_has_its_console_attached_for_it() {
    let (host, console) = ready(Off).await;
    *host.script.line_breaks.lock() = Does::It;
    console.send_break(None).await.expect("sent");
    assert_eq!((tries(&host), host.script.breaks.lock().len()), (1, 1));
    let_go(&host, 1).await;
    until_available(&console, Availability::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn rules_say_otherwise_by_vm_and_alias_and_the_first_counts() {
    use super::super::capture::Capture;
    use super::super::scripted::id;
    use crate::config::{self, CaptureRule};
    let rule = |vms: &str, alias: Option<&str>, mode, linger: Option<u64>| CaptureRule {
        vms: vec![vms.parse().expect("a selector")],
        aliases: alias
            .map(|alias| crate::core::id::Alias::new(alias).expect("an alias"))
            .into_iter()
            .collect(),
        mode,
        linger: linger.map(Duration::from_secs),
    };
    let config = config::Capture {
        mode: OnDemand,
        linger: LINGER,
        budget_bytes: 1,
        rules: vec![
            rule("web-*", Some("serial1"), Some(Off), None),
            rule("web-7", None, None, Some(7)),
            rule("web-*", None, Some(Always), None),
            rule(&id().vm.to_string(), None, Some(Off), Some(9)),
        ],
    };
    let of = |name: &str| {
        let capture = Capture::of(&config, &id(), name);
        (capture.mode, capture.linger.as_secs())
    };
    assert_eq!(of("web-1"), (Always, 300));
    assert_eq!(of("web-7"), (OnDemand, 7));
    assert_eq!(of("db"), (Off, 9));
}
