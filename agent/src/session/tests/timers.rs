//! What ends a session by itself, on the clock.

use tokio::time::{Instant, sleep, sleep_until};

use super::*;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A desk whose sessions have so many seconds, 0 for no limit.
async fn desk(idle: u64, duration: u64) -> Desk {
    let some = |length| (length > 0).then_some(seconds(length));
    let times = TimeLimits {
        idle: some(idle),
        duration: some(duration),
    };
    Desk::open_with(9, times).await
}

/// What is told of its time until the session ends, each with the seconds since `begin`.
async fn told(session: &mut Session, begin: Instant) -> Vec<(u64, String)> {
    let mut told = Vec::new();
    while let Some(event) = session.next().await {
        let what = match event {
            Event::Expiring(reason, left) => format!("{reason} in {}", left.as_secs()),
            Event::Closed(closed) => format!("{}: {}", closed.reason, closed.detail),
            _ => continue,
        };
        told.push((begin.elapsed().as_secs(), what));
    }
    told
}

fn said(told: &[(u64, &str)]) -> Vec<(u64, String)> {
    let owned = |&(at, what): &(u64, &str)| (at, what.to_owned());
    told.iter().map(owned).collect()
}

#[tokio::test(start_paused = true)]
async fn who_types_nothing_is_warned_and_ends() {
    let desk = desk(600, 0).await;
    let begin = Instant::now();
    let (mut session, inbound) = desk.session(None, None).await;
    let pings = async {
        loop {
            sleep(seconds(1)).await;
            inbound.heard(false);
        }
    };
    let told = tokio::select! {
        told = told(&mut session, begin) => told,
        () = async { inbound.expired().await; std::future::pending().await } => unreachable!(),
        () = pings => unreachable!(),
    };
    let closed = "IDLE_TIMEOUT: nothing was typed for 600 s (limits.idle_timeout_seconds)";
    let expected = [(540, "IDLE_TIMEOUT in 60"), (600, closed)];
    assert_eq!(told, said(&expected));
    drop((session, inbound));
    assert!(desk.closed(Reason::IdleTimeout, 1));
}

#[tokio::test(start_paused = true)]
async fn who_types_after_the_warning_is_warned_anew_another_time() {
    let desk = desk(100, 0).await;
    let begin = Instant::now();
    let (mut session, inbound) = desk.session(Some(Claim::IfFree), None).await;
    let typing = async {
        for at in [30, 90] {
            sleep_until(begin + seconds(at)).await;
            inbound.heard(true);
        }
    };
    let (told, (), ()) = tokio::join!(told(&mut session, begin), inbound.expired(), typing);
    let closed = "IDLE_TIMEOUT: nothing was typed for 100 s (limits.idle_timeout_seconds)";
    let expected = [
        (80, "IDLE_TIMEOUT in 50"),
        (140, "IDLE_TIMEOUT in 50"),
        (190, closed),
    ];
    assert_eq!(told, said(&expected));
}

#[tokio::test(start_paused = true)]
async fn a_session_lasts_no_longer_than_it_was_told_whatever_it_types() {
    let desk = desk(600, 3600).await;
    let begin = Instant::now();
    let opened = desk.sessions.open(&desk.console, request(None, None)).await;
    let (opened, mut session, inbound) = opened.unwrap();
    let expires = opened.expires.expect("it is limited");
    let left = expires.duration_since(SystemTime::now()).unwrap();
    assert!(left > seconds(3500) && left <= seconds(3600), "{left:?}");
    let typing = async {
        loop {
            sleep(seconds(10)).await;
            inbound.heard(true);
        }
    };
    let told = tokio::select! {
        (told, ()) = async { tokio::join!(told(&mut session, begin), inbound.expired()) } => told,
        () = typing => unreachable!(),
    };
    let closed = "MAX_DURATION: the session lasted 3600 s, the most allowed \
                  (limits.max_duration_seconds)";
    let expected = [(3540, "MAX_DURATION in 60"), (3600, closed)];
    assert_eq!(told, said(&expected));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_falls_silent_is_lost_after_three_intervals() {
    let desk = desk(0, 0).await;
    let begin = Instant::now();
    let mut promised = request(Some(Claim::IfFree), None);
    promised.client.heartbeat = Some(seconds(5));
    let opened = desk.sessions.open(&desk.console, promised).await;
    let (opened, mut session, inbound) = opened.unwrap();
    assert_eq!((opened.heartbeat, opened.expires), (Some(seconds(5)), None));
    let pings = async {
        for _ in 0..10 {
            sleep(seconds(14)).await;
            inbound.heard(false);
        }
    };
    let (told, (), ()) = tokio::join!(told(&mut session, begin), inbound.expired(), pings);
    let closed = "TRANSPORT_LOST: no message came for 15 s, three intervals of the heartbeat";
    assert_eq!(told, said(&[(155, closed)]));
    drop((session, inbound));
    // Its time counts from its last message, at 140 s, whatever its nearest hop did since.
    sleep_until(begin + seconds(169)).await;
    assert!(desk.console.status().writer.is_some(), "it may come back");
    sleep_until(begin + seconds(171)).await;
    assert!(desk.closed(Reason::TransportLost, 1));
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_does_not_read_loses_its_lease_in_time_all_the_same() {
    let desk = desk(0, 60).await;
    let (_session, inbound) = desk.session(Some(Claim::IfFree), None).await;
    assert!(desk.console.status().writer.is_some());
    timeout(seconds(61), inbound.expired()).await.unwrap();
    assert!(desk.console.status().writer.is_none());
    assert!(inbound.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_comes_back_after_its_silence_has_its_deadlines_still() {
    let desk = desk(0, 60).await;
    let begin = Instant::now();
    let mut promised = request(None, None);
    promised.client.heartbeat = Some(seconds(1));
    let opened = desk.sessions.open(&desk.console, promised).await;
    let (opened, mut session, inbound) = opened.unwrap();
    let (told, ()) = tokio::join!(told(&mut session, begin), inbound.expired());
    assert_eq!(told.len(), 1, "{told:?}");
    let again = OpenRequest {
        resume: Some(opened.token),
        ..request(None, None)
    };
    let opened = desk.sessions.open(&desk.console, again).await;
    let (_, mut session, inbound) = opened.expect("it is away");
    let (told, ()) = tokio::join!(self::told(&mut session, begin), inbound.expired());
    let reasons: Vec<_> = told.iter().map(|(at, what)| (*at, &what[..12])).collect();
    assert_eq!(reasons, [(30, "MAX_DURATION"), (60, "MAX_DURATION")]);
}

#[tokio::test(start_paused = true)]
async fn a_session_without_limits_goes_on_for_ever() {
    let desk = desk(0, 0).await;
    let (mut session, inbound) = desk.session(None, None).await;
    let begin = Instant::now();
    let year = seconds(365 * 24 * 3600);
    let over = timeout(year, async {
        tokio::join!(told(&mut session, begin), inbound.expired())
    });
    assert!(over.await.is_err());
}
