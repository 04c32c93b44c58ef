//! Whose input reaches the guest, and what becomes of the rest.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_takeover_tells_the_first_by_whom_and_refuses_what_it_had_typed() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    host.script.attached().await;
    let first = request(Some(Claim::IfFree));
    let mut writer = console.join(first.clone()).expect("joins");
    assert!(writer.writes());
    let refused = console
        .join(request(Some(Claim::IfFree)))
        .expect_err("held");
    let JoinError::LeaseHeld(holder) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(*holder, first.participant);
    // The guest reads two bytes of six.
    host.appetite.add_permits(2);
    let epoch = writer.writer().epoch;
    console
        .input(
            StreamId::first(first.participant.session),
            0,
            epoch,
            b"abcdef",
        )
        .expect("in the window");
    let done = find(&mut writer, |item| match item {
        Item::InputDone(done) => Some(done),
        _ => None,
    });
    assert_eq!(done.await, 2);
    let second = request(Some(Claim::Takeover));
    let other = console.join(second.clone()).expect("takes over");
    assert!(other.writes());
    let (mut refused, mut change) = (None, None);
    while refused.is_none() || change.is_none() {
        match next(&mut writer).await {
            Item::InputRefused(one) => refused = Some(one),
            Item::Writer(one) => change = Some(one),
            _ => {}
        }
    }
    let expected = Refused {
        from: 2,
        to: 6,
        reason: Reason::TakenOver,
    };
    assert_eq!(refused, Some(expected));
    let change = change.expect("found");
    assert_eq!(change.writer, Some(second.participant));
    assert_eq!(change.reason, Some(Reason::TakenOver));
    assert_eq!(change.takeover_reason, "it is mine");
    assert!(!writer.writes());
    host.appetite.add_permits(9);
    let epoch = other.writer().epoch;
    console
        .input(
            StreamId::first(change.writer.expect("set").session),
            0,
            epoch,
            b"X",
        )
        .expect("in the window");
    timeout(BOUND, async {
        while *host.script.written.lock() != b"abX" {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("what the second typed, and nothing more of the first");
}

#[tokio::test(start_paused = true)]
async fn input_that_waits_when_the_vm_stops_is_refused() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    host.script.attached().await;
    let typist = request(Some(Claim::IfFree));
    let mut writer = console.join(typist.clone()).expect("joins");
    let epoch = writer.writer().epoch;
    console
        .input(
            StreamId::first(typist.participant.session),
            0,
            epoch,
            b"abc",
        )
        .expect("in the window");
    host.inventory.send_replace(inventory([vm(None)]));
    let refused = find(&mut writer, |item| match item {
        Item::InputRefused(refused) => Some(refused),
        _ => None,
    });
    assert_eq!(
        refused.await,
        Refused {
            from: 0,
            to: 3,
            reason: Reason::NotRunning
        }
    );
}
