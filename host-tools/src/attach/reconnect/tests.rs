//! Waits, limits, and what is tried again at all.

use proptest::prelude::*;

use super::*;

const LIMIT: Duration = Duration::from_secs(300);

fn closed(reason: Reason, retryable: bool) -> Closed {
    Closed {
        reason: reason.into(),
        retryable,
        ..Default::default()
    }
}

#[test]
fn only_what_passes_by_itself_is_tried_again() {
    for reason in [
        Reason::TransportLost,
        Reason::AgentDraining,
        Reason::EndpointLost,
    ] {
        assert_eq!(Trouble::of_closed(&closed(reason, true)), Trouble::Passing);
        assert_eq!(Trouble::of_closed(&closed(reason, false)), Trouble::Lasting);
    }
    for reason in [
        Reason::Superseded,
        Reason::TakenOver,
        Reason::Terminated,
        Reason::Revoked,
        Reason::Moved,
        Reason::VmStopped,
        Reason::LeaseHeld,
    ] {
        assert_eq!(Trouble::of_closed(&closed(reason, true)), Trouble::Lasting);
    }
}

#[test]
fn waits_double_to_their_cap_and_the_limit_ends_them() {
    let begun = Instant::now();
    let mut machine = Reconnect::new(LIMIT);
    assert_eq!(machine.deadline(), None);
    let mut now = begun;
    let mut waits = vec![machine.broken(now, u32::MAX).unwrap()];
    assert_eq!(machine.deadline(), Some(begun + LIMIT));
    while let Some(wait) = machine.failed(now, Trouble::Passing, u32::MAX) {
        waits.push(wait);
        now += wait;
    }
    let millis: Vec<_> = waits.iter().take(8).map(Duration::as_millis).collect();
    assert_eq!(millis, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    assert_eq!(now, begun + LIMIT);
}

#[test]
fn without_a_limit_nothing_is_tried() {
    assert_eq!(
        Reconnect::new(Duration::ZERO).broken(Instant::now(), 7),
        None
    );
}

#[test]
fn a_stream_that_lasts_begins_the_count_anew_and_one_that_does_not_goes_on_with_it() {
    let mut now = Instant::now();
    let mut machine = Reconnect::new(LIMIT);
    machine.broken(now, u32::MAX);
    for _ in 0..4 {
        machine.failed(now, Trouble::Passing, u32::MAX);
    }
    machine.opened(now);
    assert_eq!(machine.deadline(), None);
    now += Duration::from_millis(1600);
    let wait = machine.broken(now, u32::MAX);
    assert_eq!(wait, Some(Duration::from_millis(3200)));
    machine.opened(now);
    now += Duration::from_millis(3201);
    assert_eq!(machine.broken(now, u32::MAX), Some(FIRST_WAIT));
    assert_eq!(machine.deadline(), Some(now + LIMIT));
}

#[test]
fn streams_that_break_at_once_are_given_up_too() {
    let (mut now, mut streams) = (Instant::now(), 0);
    let end = now + LIMIT;
    let mut machine = Reconnect::new(LIMIT);
    while let Some(wait) = machine.broken(now, u32::MAX) {
        now += wait;
        machine.opened(now);
        streams += 1;
    }
    assert_eq!(now, end);
    assert!(streams < 70, "{streams}");
}

#[test]
fn what_an_agent_says_that_has_just_started_is_believed_when_it_stays() {
    let begun = Instant::now();
    let mut machine = Reconnect::new(LIMIT);
    machine.broken(begun, 0);
    let settling = |machine: &mut Reconnect, at| machine.failed(at, Trouble::Settling, 0);
    let answers = begun + Duration::from_secs(100);
    assert!(settling(&mut machine, answers).is_some());
    assert!(settling(&mut machine, answers + SETTLE).is_some());
    let later = answers + SETTLE + Duration::from_millis(1);
    assert_eq!(settling(&mut machine, later), None);
    assert_eq!(machine.failed(later, Trouble::Lasting, 0), None);
}

proptest! {
    /// Whatever happens, waits are within their bounds, and no attempt begins after the limit
    /// of an outage.
    #[test]
    fn waits_are_bounded(
        limit in 0u64..1000,
        steps in proptest::collection::vec((0u8..4, 0u64..20_000, any::<u32>()), 1..200),
    ) {
        let limit = Duration::from_secs(limit);
        let mut machine = Reconnect::new(limit);
        let (mut now, mut up) = (Instant::now(), true);
        for (step, millis, chance) in steps {
            now += Duration::from_millis(millis);
            let wait = match (up, step) {
                (true, _) => machine.broken(now, chance),
                (false, 0) => {
                    machine.opened(now);
                    up = true;
                    continue;
                }
                (false, 1) => machine.failed(now, Trouble::Settling, chance),
                (false, _) => machine.failed(now, Trouble::Passing, chance),
            };
            up = false;
            let deadline = machine.deadline().unwrap();
            match wait {
                Some(wait) => {
                    prop_assert!(wait <= MAX_WAIT && now + wait <= deadline);
                    let whole = now + FIRST_WAIT < deadline;
                    prop_assert!(!whole || wait >= FIRST_WAIT / 2);
                }
                None => prop_assert!(step == 1 || now >= deadline),
            }
        }
    }
}
