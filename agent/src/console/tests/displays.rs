//! How displays are: consoles of which relays tell what became of them.

use super::*;
use crate::console::scripted::shown;

async fn display(instance: Option<u64>) -> (Host, Arc<Console>) {
    let mut host = Host::showing(shown(instance));
    let console = host.console().await;
    (host, console)
}

fn show(console: &Arc<Console>) -> Shown {
    console.show(console.shown_by())
}

fn alone(claim: Option<Claim>, exclusive: bool) -> (JoinRequest, Alone) {
    let alone = Alone {
        exclusive,
        ..Alone::default()
    };
    let request = JoinRequest {
        end_when_stopped: true,
        alone: Some(alone.clone()),
        ..request(claim)
    };
    (request, alone)
}

#[tokio::test(start_paused = true)]
async fn a_display_is_ready_while_its_vm_runs_and_attached_while_it_is_relayed() {
    let (host, console) = display(None).await;
    until_available(&console, Availability::Waiting).await;
    assert!(matches!(
        console.join(alone(None, false).0),
        Err(JoinError::NotRunning)
    ));
    host.inventory.send_replace(inventory([shown(Some(1))]));
    assert!(
        until_available(&console, Availability::Ready)
            .await
            .checked
            .is_some()
    );
    let (first, second) = (show(&console), show(&console));
    until_available(&console, Availability::Attached).await;
    drop(first);
    assert_eq!(console.status().state.availability, Availability::Attached);
    drop(second);
    until_available(&console, Availability::Ready).await;
    let status = console.status();
    assert_eq!(
        (status.oldest, status.head, status.state.generation),
        (None, None, None)
    );
    assert!(host.metric("vmconsole_consoles{availability=\"ready\"} 1"));
    assert!(host.metric("vmconsole_consoles_captured 0"));
}

#[tokio::test(start_paused = true)]
async fn what_the_last_try_left_holds_until_another_succeeds_or_the_qemu_is_another() {
    let (host, console) = display(Some(1)).await;
    until_available(&console, Availability::Ready).await;
    let refused = EndpointError::Denied("wrong password".to_owned());
    console.not_shown(console.shown_by(), &refused, "wrong password");
    assert_eq!(
        until_available(&console, Availability::Denied).await.detail,
        "wrong password"
    );
    // News of the VM that change nothing about it.
    let mut paused = shown(Some(1));
    paused.state = VmState::Paused;
    host.inventory.send_replace(inventory([paused]));
    let told = until(&console, |state| state.vm_state == VmState::Paused).await;
    assert_eq!(told.availability, Availability::Denied);
    let viewer = console
        .join(alone(None, false).0)
        .expect("it may be tried again");
    drop(show(&console));
    until_available(&console, Availability::Ready).await;
    console.not_shown(console.shown_by(), &refused, "wrong password");
    until_available(&console, Availability::Denied).await;
    host.inventory.send_replace(inventory([shown(Some(2))]));
    until_available(&console, Availability::Ready).await;
    drop(viewer);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_the_qemu_that_it_sees() {
    let (host, console) = display(Some(1)).await;
    until_available(&console, Availability::Ready).await;
    let mut viewer = console
        .join(alone(Some(Claim::IfFree), false).0)
        .expect("it joins");
    assert_eq!(console.is_written_by(viewer.stream()), Some(true));
    host.inventory.send_replace(inventory([shown(Some(2))]));
    let end = find(&mut viewer, |item| match item {
        Item::Ended(reason) => Some(reason),
        _ => None,
    });
    assert_eq!(end.await, Reason::VmStopped);
    drop(viewer);
}

#[tokio::test(start_paused = true)]
async fn who_is_alone_is_so_until_somebody_takes_over() {
    let (_host, console) = display(Some(1)).await;
    until_available(&console, Availability::Ready).await;
    let (there, first) = alone(Some(Claim::IfFree), false);
    let there = console.join(there).expect("it is free");
    for claim in [None, Some(Claim::IfFree), Some(Claim::Queue)] {
        let refused = console.join(alone(claim, true).0);
        assert!(
            matches!(refused, Err(JoinError::Occupied(_))),
            "{refused:?}"
        );
    }
    assert!(!first.taken_over.is_cancelled());
    let (taking, second) = alone(Some(Claim::Takeover), true);
    let owner = console.join(taking).expect("it takes over");
    assert!(first.taken_over.is_cancelled());
    assert_eq!(console.is_written_by(owner.stream()), Some(true));
    assert_ne!(console.is_written_by(there.stream()), Some(true));
    // One that is ending keeps nobody out, and somebody who is alone does.
    let refused = console.join(alone(None, false).0);
    assert!(
        matches!(refused, Err(JoinError::Occupied(_))),
        "{refused:?}"
    );
    let next = console
        .join(alone(Some(Claim::Takeover), false).0)
        .expect("it takes over");
    assert!(second.taken_over.is_cancelled());
    let viewer = console.join(alone(None, false).0).expect("nobody is alone");
    drop((there, owner, next, viewer));
    assert_eq!(console.status().viewers, 0);
}

#[tokio::test(start_paused = true)]
async fn a_try_during_an_outage_leaves_nothing_behind() {
    let (host, console) = display(Some(1)).await;
    until_available(&console, Availability::Ready).await;
    let mut away = (*inventory([shown(Some(1))])).clone();
    away.connected = false;
    away.stale = [(console.id().vm, "no socket".into())].into();
    host.inventory.send_replace(Arc::new(away));
    until_available(&console, Availability::Lost).await;
    let lost = EndpointError::Unreachable("not connected".to_owned());
    console.not_shown(console.shown_by(), &lost, "not connected");
    // Nor does one that gets through.
    drop(show(&console));
    assert_eq!(console.status().state.availability, Availability::Lost);
    host.inventory.send_replace(inventory([shown(Some(1))]));
    until_available(&console, Availability::Ready).await;
    // What comes late of a run that is over is nothing to the next.
    let (before, late) = (console.shown_by(), show(&console));
    host.inventory.send_replace(inventory([shown(Some(2))]));
    until_available(&console, Availability::Ready).await;
    console.not_shown(before, &lost, "too late");
    drop(late);
    assert_eq!(console.status().state.availability, Availability::Ready);
}

#[tokio::test(start_paused = true)]
async fn who_has_ended_and_is_not_read_keeps_nobody_out() {
    let (_host, console) = display(Some(1)).await;
    until_available(&console, Availability::Ready).await;
    let owner = console.join(alone(None, true).0).expect("it is free");
    assert!(console.join(alone(None, false).0).is_err());
    console.unwant(owner.stream());
    let next = console.join(alone(None, true).0);
    assert!(next.is_ok(), "{next:?}");
    drop((owner, next));
}
