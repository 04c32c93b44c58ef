use proptest::prelude::*;

use super::*;

const THERE: fn(char) -> bool = |_| true;

#[test]
fn the_second_is_refused_and_told_who_holds_it() {
    let mut lease = Lease::default();
    assert_eq!(lease.claim('a', Claim::IfFree), Ok(Claimed::Granted(None)));
    assert_eq!(lease.claim('b', Claim::IfFree), Err('a'));
    assert_eq!(lease.claim('a', Claim::Takeover), Ok(Claimed::Already));
    assert_eq!(lease.epoch(), Epoch(1));
}

#[test]
fn what_was_typed_before_a_takeover_is_stale() {
    let mut lease = Lease::default();
    assert_eq!(lease.claim('a', Claim::IfFree), Ok(Claimed::Granted(None)));
    let typed = lease.epoch();
    let taken = lease.claim('b', Claim::Takeover);
    assert_eq!(taken, Ok(Claimed::Granted(Some('a'))));
    assert_eq!(lease.check('a', typed), Err(NotTheWriter::Stale));
    assert_eq!(lease.check('b', typed), Err(NotTheWriter::Stale));
    assert_eq!(lease.check('b', lease.epoch()), Ok(()));
    assert_eq!(lease.check('c', Epoch(0)), Err(NotTheWriter::NeverHeld));
}

#[test]
fn who_waits_gets_it_in_turn_and_who_is_away_keeps_the_place() {
    let mut lease = Lease::default();
    lease.claim('a', Claim::IfFree).unwrap();
    for who in ['b', 'c', 'd', 'b'] {
        assert_eq!(lease.claim(who, Claim::Queue), Ok(Claimed::Waits));
    }
    assert_eq!(lease.place('d'), Some(3));
    assert!(lease.release('a', |who| who != 'b'));
    assert_eq!((lease.holder(), lease.epoch()), (Some('c'), Epoch(2)));
    assert_eq!((lease.place('b'), lease.place('d')), (Some(1), Some(2)));
    assert!(lease.withdraw('d'));
    assert!(lease.release('c', |who| who != 'b'));
    assert_eq!(lease.holder(), None, "only one waits, and is away");
    assert_eq!(lease.offer(THERE), Some('b'));
    assert_eq!(lease.offer(THERE), None);
}

#[test]
fn who_loses_it_to_a_takeover_does_not_wait_for_it() {
    let mut lease = Lease::default();
    lease.claim('a', Claim::IfFree).unwrap();
    lease.claim('b', Claim::Queue).unwrap();
    lease.claim('b', Claim::Takeover).unwrap();
    assert_eq!((lease.place('a'), lease.place('b')), (None, None));
    assert!(lease.release('b', THERE));
    assert_eq!(lease.holder(), None);
}

/// The lease as plainly as it can be told.
#[derive(Default)]
struct Model {
    changes: u64,
    holder: Option<u8>,
    queue: Vec<u8>,
}

impl Model {
    fn give(&mut self, to: Option<u8>) {
        self.changes += 1;
        self.holder = to;
        self.queue.retain(|who| Some(*who) != to);
    }

    fn first_there(&self, away: u8) -> Option<u8> {
        self.queue.iter().copied().find(|who| *who != away)
    }
}

proptest! {
    #[test]
    fn it_does_as_the_model_and_epochs_tell_each_change(
        steps in prop::collection::vec((0u8..5, 0u8..6, 0u8..6), 0..200),
    ) {
        let (mut lease, mut model) = (Lease::default(), Model::default());
        for (who, what, away) in steps {
            let before = lease.epoch();
            let there = |it: u8| it != away;
            match what {
                0 => {
                    let free = model.holder.is_none();
                    prop_assert_eq!(lease.claim(who, Claim::IfFree).is_ok(), free || model.holder == Some(who));
                    if free { model.give(Some(who)); }
                }
                1 => {
                    prop_assert!(lease.claim(who, Claim::Takeover).is_ok());
                    if model.holder != Some(who) { model.give(Some(who)); }
                }
                2 => {
                    prop_assert!(lease.claim(who, Claim::Queue).is_ok());
                    match model.holder {
                        None => model.give(Some(who)),
                        Some(holder) if holder != who && !model.queue.contains(&who) => model.queue.push(who),
                        Some(_) => {}
                    }
                }
                3 => {
                    prop_assert_eq!(lease.release(who, there), model.holder == Some(who));
                    if model.holder == Some(who) { model.give(model.first_there(away)); }
                }
                4 => {
                    let free = model.holder.is_none();
                    let next = model.first_there(away).filter(|_| free);
                    prop_assert_eq!(lease.offer(there), next);
                    if next.is_some() { model.give(next); }
                }
                _ => {
                    prop_assert_eq!(lease.withdraw(who), model.queue.contains(&who));
                    model.queue.retain(|waiting| *waiting != who);
                }
            }
            prop_assert_eq!((lease.epoch(), lease.holder()), (Epoch(model.changes), model.holder));
            let writers: Vec<u8> = (0..5).filter(|who| lease.check(*who, lease.epoch()).is_ok()).collect();
            prop_assert_eq!(writers, model.holder.into_iter().collect::<Vec<u8>>());
            for who in 0..5 {
                let place = model.queue.iter().position(|waiting| *waiting == who);
                prop_assert_eq!(lease.place(who), place.map(|before| before + 1));
                prop_assert!(before == lease.epoch() || lease.check(who, before).is_err());
            }
        }
    }
}
