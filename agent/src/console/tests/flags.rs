//! What is seen of a console beside whether it can be used: that nothing comes, and that
//! nothing is taken.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::*;
use crate::hypervisor::EffectError;

fn flagged(host: &Host, silent: u32, wedged: u32) -> bool {
    host.metric(&format!("vmconsole_consoles_silent {silent}"))
        && host.metric(&format!("vmconsole_consoles_wedged {wedged}"))
}

#[tokio::test(start_paused = true)]
async fn an_attached_console_is_silent_until_its_first_byte() {
    let mut host = Host::start(Some(1), 1024);
    assert!(flagged(&host, 0, 0));
    let before = SystemTime::now();
    let console = host.console().await;
    let sink = host.script.attached().await;
    let silent = until_available(&console, Availability::Attached).await;
    assert!(silent.silent_since.expect("nothing came") >= before);
    assert!(flagged(&host, 1, 0));
    let mut viewer = console.join(request(None)).expect("joins");
    state(&mut viewer, Availability::Attached).await;
    host.listed.mark_unchanged();
    sink.output(b"SeaBIOS");
    assert!(host.listed.has_changed().expect("open"), "lists show it");
    let told = state(&mut viewer, Availability::Attached).await;
    assert_eq!(told.silent_since, None);
    assert!(flagged(&host, 0, 0));
    host.listed.mark_unchanged();
    sink.output(b"more");
    assert!(!host.listed.has_changed().expect("open"), "only the first");
}

#[tokio::test(start_paused = true)]
async fn a_console_is_silent_since_it_was_attached_last_and_only_while_it_is() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    sink.output(b"login: ");
    for _ in 0..3 {
        let error = EndpointError::Unreachable("hangs".to_owned());
        host.script.refusals.lock().push_back(error);
    }
    sink.ended(EndpointEnd::Lost("libvirtd went away".to_owned()));
    let lost = until_available(&console, Availability::Lost).await;
    assert_eq!(lost.silent_since, None);
    let again = host.script.attached().await;
    let attached = until_available(&console, Availability::Attached).await;
    assert!(attached.silent_since.expect("nothing came again") > lost.since);
    again.ended(EndpointEnd::Eof);
    let gone = until_available(&console, Availability::Waiting).await;
    assert_eq!(gone.silent_since, None);
    assert!(flagged(&host, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn input_that_a_guest_does_not_take_wedges_its_console_until_it_does() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    host.script.attached().await;
    let typist = request(Some(Claim::IfFree));
    let writer = console.join(typist.clone()).expect("joins");
    type_in(&console, &typist, &writer, 0, b"abc");
    tokio::time::sleep(Duration::from_millis(4_900)).await;
    // Others that come and go are no progress.
    drop(console.join(request(None)).expect("joins"));
    assert_eq!(console.status().state.wedged_since, None);
    let wedged = until(&console, |state| state.wedged_since.is_some()).await;
    let since = wedged.wedged_since.expect("wedged");
    let ago = SystemTime::now().duration_since(since).expect("past");
    assert!(
        (4_900..6_000).contains(&ago.as_millis()),
        "wedged since {ago:?}"
    );
    assert!(flagged(&host, 1, 1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(console.status().state.wedged_since, Some(since));
    host.appetite.add_permits(1);
    until(&console, |state| state.wedged_since.is_none()).await;
    assert!(flagged(&host, 1, 0));
    until(&console, |state| state.wedged_since.is_some()).await;
    drop(writer);
    until(&console, |state| state.wedged_since.is_none()).await;
    assert!(flagged(&host, 1, 0), "nothing waits any more");
}

#[tokio::test(start_paused = true)]
async fn input_that_waits_is_wedged_though_a_break_came_between() {
    let mut host = Host::start(Some(1), 1024);
    *host.script.line_breaks.lock() = Does::Hang;
    let console = host.console().await;
    host.script.attached().await;
    let typist = request(Some(Claim::IfFree));
    let writer = console.join(typist.clone()).expect("joins");
    type_in(&console, &typist, &writer, 0, b"abc");
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Longer than until it is a wedge.
    let sent = console.send_break(None).await;
    assert!(matches!(sent, Err(EffectError::NotDone(_))), "{sent:?}");
    until(&console, |state| state.wedged_since.is_some()).await;
    assert!(flagged(&host, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn input_that_qemu_does_not_read_wedges_its_console_and_is_looked_at_no_longer_than_needed() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    host.script.attached().await;
    host.appetite.add_permits(99);
    *host.script.unread.lock() = Some(3);
    let typist = request(Some(Claim::IfFree));
    let writer = console.join(typist.clone()).expect("joins");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(
        host.script.looks.load(Ordering::Relaxed),
        0,
        "nothing typed"
    );
    type_in(&console, &typist, &writer, 0, b"abc");
    until(&console, |state| state.wedged_since.is_some()).await;
    let looks = host.script.looks.load(Ordering::Relaxed);
    assert!(looks <= 5, "{looks} looks");
    *host.script.unread.lock() = Some(2);
    until(&console, |state| state.wedged_since.is_none()).await;
    until(&console, |state| state.wedged_since.is_some()).await;
    *host.script.unread.lock() = Some(0);
    until(&console, |state| state.wedged_since.is_none()).await;
    let looks = host.script.looks.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(host.script.looks.load(Ordering::Relaxed), looks);
}

#[tokio::test(start_paused = true)]
async fn a_wedge_ends_with_its_attachment_and_begins_anew_with_the_next() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    let typist = request(Some(Claim::IfFree));
    let writer = console.join(typist.clone()).expect("joins");
    type_in(&console, &typist, &writer, 0, b"abc");
    let first = until(&console, |state| state.wedged_since.is_some()).await;
    host.script
        .refusals
        .lock()
        .push_back(EndpointError::Unreachable("hangs".to_owned()));
    sink.ended(EndpointEnd::Lost("libvirtd went away".to_owned()));
    let lost = until_available(&console, Availability::Lost).await;
    assert_eq!(lost.wedged_since, None);
    assert!(flagged(&host, 0, 0));
    host.script.attached().await;
    let again = until(&console, |state| state.wedged_since.is_some()).await;
    assert!(again.wedged_since > first.wedged_since);
}

#[tokio::test(start_paused = true)]
async fn a_console_that_is_gone_counts_nowhere() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    let typist = request(Some(Claim::IfFree));
    let writer = console.join(typist.clone()).expect("joins");
    type_in(&console, &typist, &writer, 0, b"abc");
    until(&console, |state| state.wedged_since.is_some()).await;
    assert!(flagged(&host, 1, 1));
    host.inventory.send_replace(inventory([]));
    host.gone().await;
    sink.output(b"a late word");
    drop(writer);
    host.tasks.close();
    assert!(host.tasks.drained(BOUND).await, "its pump has ended");
    assert!(flagged(&host, 0, 0));
    for availability in Availability::ALL {
        let name = availability.name();
        let line = format!("vmconsole_consoles{{availability=\"{name}\"}} 0");
        assert!(host.metric(&line), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_console_behind_a_hypervisor_that_hangs_is_not_said_to_be_silent() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    host.script.attached().await;
    let attached = until_available(&console, Availability::Attached).await;
    let mut hung = Inventory::clone(&inventory([vm(Some(1))]));
    hung.stale.insert(vm(None).uuid, "it hangs".into());
    host.inventory.send_replace(Arc::new(hung));
    let lost = until_available(&console, Availability::Lost).await;
    assert_eq!(lost.silent_since, None);
    host.inventory.send_replace(inventory([vm(Some(1))]));
    let back = until_available(&console, Availability::Attached).await;
    assert_eq!(back.silent_since, attached.silent_since);
}

#[tokio::test(start_paused = true)]
async fn what_a_pump_reports_after_its_console_is_gone_counts_nowhere() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    until_available(&console, Availability::Attached).await;
    console.retire(true, false);
    // As one that is on its way out may, on another thread.
    sink.output(b"a late word");
    console.set_availability(Availability::Lost, "it broke", None);
    console.retire(true, false);
    assert!(flagged(&host, 0, 0));
    for availability in Availability::ALL {
        let name = availability.name();
        let line = format!("vmconsole_consoles{{availability=\"{name}\"}} 0");
        assert!(host.metric(&line), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn input_that_is_read_bit_by_bit_is_not_wedged_though_more_waits_all_the_time() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    host.script.attached().await;
    *host.script.unread.lock() = Some(3);
    let typist = request(Some(Claim::IfFree));
    let writer = console.join(typist.clone()).expect("joins");
    host.appetite.add_permits(3);
    type_in(&console, &typist, &writer, 0, b"abc");
    // It is seen to be unread. From then on QEMU reads as much as it is given.
    tokio::time::sleep(Duration::from_secs(2)).await;
    type_in(&console, &typist, &writer, 3, &[b'x'; 100]);
    for _ in 0..90 {
        host.appetite.add_permits(1);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(console.status().state.wedged_since, None);
    }
}
