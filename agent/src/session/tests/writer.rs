//! Who writes while sessions run.

use super::*;

/// The next event that tells who writes, or that somebody else does.
async fn told(session: &mut Session) -> Event {
    loop {
        let event = next(session).await.expect("it runs");
        if matches!(event, Event::Writer(..) | Event::WriterRefused(..)) {
            return event;
        }
    }
}

fn place(event: Event) -> u32 {
    match event {
        Event::WriterRefused(Some(_), place) => place,
        other => panic!("{other:?}"),
    }
}

fn writes(event: Event) -> (bool, Option<Reason>, String) {
    match event {
        Event::Writer(change, writes) => (writes, change.reason, change.takeover_reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_its_place_and_writes_in_its_turn() {
    let desk = Desk::open(9).await;
    let (_writer, first) = desk.session(Some(Claim::IfFree), None).await;
    let (mut second, second_in) = desk.session(Some(Claim::Queue), None).await;
    assert_eq!(place(told(&mut second).await), 1);
    let (mut third, third_in) = desk.session(None, None).await;
    third_in.request_writer(Claim::Queue, "");
    assert_eq!(place(told(&mut third).await), 2);
    first.release_writer();
    let expected = (true, Some(Reason::ClientDetached), String::new());
    assert_eq!(writes(told(&mut second).await), expected);
    assert!(!writes(told(&mut third).await).0);
    assert_eq!(place(told(&mut third).await), 1);
    second_in.close(Reason::ClientDetached, "");
    assert!(writes(told(&mut third).await).0);
    let epoch = desk.console.status().writer.map(|writer| writer.session);
    assert!(epoch.is_some());
    third_in.input(0, Epoch(3), b"x");
    desk.host.appetite.add_permits(1);
    while desk.host.script.written.lock().is_empty() {
        let _ = timeout(Duration::from_millis(5), third.next()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_whatever_comes_of_it() {
    let desk = Desk::open(9).await;
    let (mut writer, writer_in) = desk.session(Some(Claim::IfFree), None).await;
    writer_in.request_writer(Claim::IfFree, "");
    assert!(writes(told(&mut writer).await).0, "it writes already");
    let (mut other, other_in) = desk.session(None, None).await;
    other_in.request_writer(Claim::IfFree, "");
    assert_eq!(place(told(&mut other).await), 0, "it does not wait");
    other_in.release_writer();
    assert!(
        !writes(told(&mut other).await).0,
        "it has nothing to give back"
    );
    other_in.request_writer(Claim::Takeover, "the night shift");
    let expected = (true, Some(Reason::TakenOver), "the night shift".to_owned());
    assert_eq!(writes(told(&mut other).await), expected);
    assert!(!writes(told(&mut writer).await).0);
    writer_in.input(0, Epoch(1), b"too late");
    loop {
        if let Event::InputRefused(refused) = next(&mut writer).await.unwrap() {
            assert_eq!((refused.to, refused.reason), (8, Reason::TakenOver));
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_and_asks_to_give_back_waits_no_longer() {
    let desk = Desk::open(9).await;
    let (_writer, writer_in) = desk.session(Some(Claim::IfFree), None).await;
    let (mut waiting, waiting_in) = desk.session(Some(Claim::Queue), None).await;
    assert_eq!(place(told(&mut waiting).await), 1);
    waiting_in.release_writer();
    writer_in.release_writer();
    assert!(!writes(told(&mut waiting).await).0);
    assert!(desk.console.status().writer.is_none());
}
