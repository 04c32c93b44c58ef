use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

type Steps = Vec<Step<u8>>;

/// Everything that there is to tell now.
fn told(follower: &mut Follower<u8>, changes: &Changes<u8>) -> Steps {
    follower.renew(changes);
    told_without_news(follower, changes)
}

/// Everything that there is to tell to one that heard of no news.
fn told_without_news(follower: &mut Follower<u8>, changes: &Changes<u8>) -> Steps {
    let steps = std::iter::from_fn(|| Some(follower.next(changes)));
    steps.take_while(|step| *step != Step::Nothing).collect()
}

fn changed(key: u8) -> Step<u8> {
    Step::Changed { key, sweep: false }
}

fn swept(key: u8) -> Step<u8> {
    Step::Changed { key, sweep: true }
}

/// Changes of these keys, complete.
fn changes(limit: usize, keys: impl IntoIterator<Item = u8>) -> Changes<u8> {
    let mut changes = Changes::new(limit);
    keys.into_iter().for_each(|key| changes.add(key));
    changes.complete();
    changes
}

#[test]
fn who_knows_nothing_is_told_all_keys_and_then_what_changes_newest_once() {
    let mut changes = changes(4, [2, 1]);
    let mut follower = Follower::fresh(&changes);
    let all = [swept(1), swept(2), Step::Synced];
    assert_eq!(told(&mut follower, &changes), all);
    assert!(told(&mut follower, &changes).is_empty());
    for key in [1, 2, 1] {
        assert!(changes.change(&key));
    }
    assert!(!changes.change(&9), "it is not there");
    changes.remove(&9);
    changes.add(3);
    changes.remove(&2);
    let news = [changed(1), changed(3), Step::Removed(2)];
    assert_eq!(told(&mut follower, &changes), news);
}

#[test]
fn in_the_midst_of_its_first_round_there_is_no_version_to_go_on_after() {
    let changes = changes(4, [1, 2]);
    let mut follower = Follower::fresh(&changes);
    for _ in 0..2 {
        follower.next(&changes);
        assert_eq!(follower.version(), None);
    }
    assert_eq!(follower.next(&changes), Step::Synced);
    assert_eq!(follower.version(), Some(changes.head()));
}

#[test]
fn who_comes_back_is_told_what_changed_after_its_version_alone() {
    let mut changes = changes(4, [1, 2, 3]);
    let version = changes.head();
    changes.change(&2);
    changes.remove(&3);
    let mut follower = Follower::after(&changes, version);
    let news = [changed(2), Step::Removed(3), Step::Synced];
    for step in news {
        assert_eq!(follower.next(&changes), step);
        let again = told(&mut Follower::after(&changes, version), &changes);
        assert_eq!(again.len(), 3, "nothing is used up");
    }
    let mut late = Follower::after(&changes, changes.head());
    assert_eq!(told(&mut late, &changes), [Step::Synced]);
}

#[test]
fn who_is_slower_than_tombstones_are_forgotten_begins_anew() {
    let mut changes = changes(2, [1, 2, 3, 4]);
    let version = changes.head();
    let mut follower = Follower::after(&changes, version);
    assert_eq!(told(&mut follower, &changes), [Step::Synced]);
    changes.remove(&1);
    changes.remove(&2);
    assert!(Follower::after(&changes, version).next(&changes) == Step::Removed(1));
    changes.remove(&3);
    assert_eq!(changes.tombstones(), 2);
    let reset = Step::Reset(ResetReason::Forgotten);
    let anew = [reset, swept(4), Step::Synced];
    assert_eq!(told(&mut follower, &changes), anew, "in mid-stream");
    let mut back = Follower::after(&changes, version);
    assert_eq!(told(&mut back, &changes), anew, "and when it comes back");
    let mut enough = Follower::after(&changes, version + 1);
    let rest = [Step::Removed(2), Step::Removed(3), Step::Synced];
    assert_eq!(told(&mut enough, &changes), rest);
}

#[test]
fn a_version_that_never_was_is_told_to_begin_anew() {
    let changes = changes(2, [1]);
    let reset = Step::Reset(ResetReason::Unknown);
    for mut follower in [
        Follower::unknown(&changes),
        Follower::after(&changes, changes.head() + 1),
    ] {
        let anew = [reset.clone(), swept(1), Step::Synced];
        assert_eq!(told(&mut follower, &changes), anew);
    }
}

#[test]
fn nobody_is_synced_before_all_is_there_and_then_was_told_all() {
    let mut changes = Changes::new(2);
    changes.add(1);
    let mut follower = Follower::fresh(&changes);
    assert_eq!(told(&mut follower, &changes), [swept(1)]);
    let early = follower.version().expect("it follows");
    changes.add(2);
    changes.complete();
    for mut follower in [follower, Follower::after(&changes, early)] {
        let all = [swept(1), swept(2), changed(2), Step::Synced];
        assert_eq!(told_without_news(&mut follower, &changes), all);
        assert_eq!(follower.version(), Some(changes.head()));
    }
}

#[test]
fn what_went_before_all_was_there_is_told_before_synced_without_any_news() {
    let mut changes = Changes::new(2);
    changes.add(1);
    changes.add(2);
    let mut follower = Follower::fresh(&changes);
    assert_eq!(told(&mut follower, &changes), [swept(1), swept(2)]);
    let early = follower.version().expect("it follows");
    changes.remove(&1);
    changes.change(&2);
    changes.complete();
    let mut back = Follower::after(&changes, early);
    let all = [swept(2), Step::Removed(1), changed(2), Step::Synced];
    assert_eq!(told_without_news(&mut back, &changes), all);
    assert_eq!(back.version(), Some(changes.head()));
}

#[derive(Clone, Debug)]
enum Op {
    Add(u8),
    Change(u8),
    Remove(u8),
    Complete,
    Tell(usize),
    /// The client comes back by a version that it had, the newest for 0.
    ComeBack(usize),
    /// It comes back by a version of another agent.
    ComeFromElsewhere,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (0u8..8).prop_map(Op::Add),
        4 => (0u8..8).prop_map(Op::Change),
        3 => (0u8..8).prop_map(Op::Remove),
        1 => Just(Op::Complete),
        6 => (1usize..6).prop_map(Op::Tell),
        2 => prop_oneof![3 => Just(0), 1 => 0usize..9].prop_map(Op::ComeBack),
        1 => Just(Op::ComeFromElsewhere),
    ];
    prop::collection::vec(op, 0..120)
}

/// A client that keeps what it is told, and who tells it.
struct Model {
    changes: Changes<u8>,
    truth: BTreeMap<u8, u32>,
    /// The client sees only even values.
    filtered: bool,
    follower: Follower<u8>,
    known: BTreeMap<u8, u32>,
    versions: Vec<u64>,
    /// What was there all the time since the client last knew nothing.
    lasting: BTreeSet<u8>,
    synced: bool,
    /// Whether something happened since it was last renewed, or came back.
    news: bool,
    completed: bool,
    clock: u32,
}

impl Model {
    fn new(filtered: bool) -> Self {
        let changes = Changes::new(3);
        Self {
            follower: Follower::fresh(&changes),
            changes,
            truth: BTreeMap::new(),
            filtered,
            known: BTreeMap::new(),
            versions: Vec::new(),
            lasting: BTreeSet::new(),
            synced: false,
            news: false,
            completed: false,
            clock: 0,
        }
    }

    fn admits(&self, value: u32) -> bool {
        !self.filtered || value.is_multiple_of(2)
    }

    /// It knows nothing, and has no version either.
    fn forget(&mut self) {
        self.known.clear();
        self.versions.clear();
        self.lasting = self.truth.keys().copied().collect();
    }

    fn set(&mut self, key: u8) {
        // Values that pass the filter follow ones that do not, at random.
        self.clock += 1 + u32::from(key) % 3;
        self.truth.insert(key, self.clock);
    }

    fn apply(&mut self, step: Step<u8>) {
        match step {
            Step::Reset(_) => self.forget(),
            Step::Changed { key, sweep } => match self.truth.get(&key) {
                Some(value) if self.admits(*value) => {
                    self.known.insert(key, *value);
                }
                Some(_) if !sweep => {
                    self.known.remove(&key);
                }
                _ => {}
            },
            Step::Removed(key) => {
                self.known.remove(&key);
            }
            Step::Synced => {
                self.synced = true;
                let missed = |key: &u8| !self.filtered && !self.known.contains_key(key);
                let missed: Vec<_> = self.lasting.iter().copied().filter(missed).collect();
                assert!(missed.is_empty(), "synced without {missed:?}");
            }
            // Only news has it renewed, as those who wait for them do.
            Step::Nothing if std::mem::take(&mut self.news) => self.follower.renew(&self.changes),
            Step::Nothing => {}
        }
        self.versions.extend(self.follower.version());
    }

    fn step(&mut self, op: &Op) {
        self.news |= !matches!(op, Op::Tell(_));
        match *op {
            Op::Add(key) => {
                self.set(key);
                self.changes.add(key);
            }
            Op::Change(key) => {
                if self.changes.change(&key) {
                    self.set(key);
                }
            }
            Op::Remove(key) => {
                self.truth.remove(&key);
                self.lasting.remove(&key);
                self.changes.remove(&key);
            }
            Op::Complete => {
                self.changes.complete();
                self.completed = true;
            }
            Op::Tell(times) => {
                for _ in 0..times {
                    let step = self.follower.next(&self.changes);
                    self.apply(step);
                }
            }
            Op::ComeBack(back) => {
                let index = self.versions.len().checked_sub(back + 1);
                let version = index.and_then(|index| self.versions.get(index).copied());
                self.follower = match version {
                    Some(version) => Follower::after(&self.changes, version),
                    None => {
                        self.forget();
                        Follower::fresh(&self.changes)
                    }
                };
                (self.synced, self.news) = (false, false);
            }
            Op::ComeFromElsewhere => {
                self.follower = Follower::unknown(&self.changes);
                self.versions.clear();
                (self.synced, self.news) = (false, false);
            }
        }
    }

    /// Tells until there is nothing more to tell, to a client that `leaves` before and comes
    /// back when there are no more news.
    fn settle(&mut self, leaves: bool) {
        if !self.completed {
            self.step(&Op::Complete);
        }
        if leaves {
            self.step(&Op::ComeBack(0));
        }
        for _ in 0..1000 {
            let step = self.follower.next(&self.changes);
            let settled = step == Step::Nothing && !self.news;
            self.apply(step);
            if settled {
                return;
            }
        }
        panic!("it is told things for ever");
    }
}

proptest! {
    #[test]
    fn a_client_that_leaves_and_comes_back_ends_up_with_the_truth(
        ops in ops(),
        filtered in any::<bool>(),
        leaves in any::<bool>(),
    ) {
        let mut model = Model::new(filtered);
        for op in &ops {
            model.step(op);
            prop_assert!(model.changes.tombstones() <= 3);
        }
        model.settle(leaves);
        prop_assert!(model.synced);
        let mut truth = model.truth.clone();
        truth.retain(|_, value| model.admits(*value));
        prop_assert_eq!(&model.known, &truth);
    }
}
