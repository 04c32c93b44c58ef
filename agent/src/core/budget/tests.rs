use proptest::prelude::*;

use super::*;

const KIB: usize = 1024;

fn ring(kib: usize, wanted_kib: usize, viewed: bool, last_use: u64) -> RingUse {
    RingUse {
        bytes: kib * KIB,
        wanted: wanted_kib * KIB,
        viewed,
        last_use,
    }
}

/// Where nothing else is used of the budget.
fn reclaim_all(limit: usize, rings: &[RingUse]) -> Vec<(usize, usize)> {
    reclaim(limit, 0, rings)
}

/// What each ring holds after `changes`, if it is not shrunk further, and does not grow.
fn after(rings: &[RingUse], changes: &[(usize, usize)]) -> Vec<usize> {
    let mut sizes: Vec<usize> = rings.iter().map(|ring| ring.bytes).collect();
    for &(index, most) in changes {
        sizes[index] = sizes[index].min(most);
    }
    sizes
}

#[test]
fn a_share_is_given_back_when_it_is_dropped_or_made_smaller() {
    let budget = Arc::new(Budget::new(100));
    let mut first = Share::of(Some(budget.clone()));
    let mut second = Share::of(Some(budget.clone()));
    assert!(first.resize(60));
    assert!(!second.resize(41));
    assert_eq!(budget.used(), 60);
    assert!(first.resize(50) && second.resize(41));
    assert_eq!(budget.used(), 91);
    drop(first);
    assert_eq!(budget.used(), 41);
    assert!(!second.resize(usize::MAX));
}

#[test]
fn who_is_not_viewed_gives_way_to_who_is_and_the_longest_unused_first() {
    let rings = [
        ring(512, 512, true, 1),
        ring(256, 0, false, 9),
        ring(256, 0, false, 3),
        ring(256, 0, true, 2),
    ];
    // The third goes to the floor, which is enough together with what is free.
    let changes = reclaim_all(1600 * KIB, &rings);
    assert_eq!(
        after(&rings, &changes),
        [512 * KIB, 256 * KIB, 64 * KIB, 256 * KIB]
    );
    assert_eq!(changes[0], (0, 1024 * KIB));
}

#[test]
fn who_is_less_used_takes_nothing_but_to_reach_the_floor() {
    let rings = [ring(512, 0, true, 1), ring(64, 64, false, 2)];
    assert_eq!(reclaim_all(576 * KIB, &rings), []);
    let rings = [ring(512, 0, true, 1), ring(0, 64, false, 2)];
    assert_eq!(
        reclaim_all(512 * KIB, &rings),
        [(1, 64 * KIB), (0, 256 * KIB)],
        "nobody is left with nothing"
    );
}

#[test]
fn what_others_use_of_the_budget_is_not_free() {
    let rings = [ring(64, 64, true, 2), ring(256, 0, false, 1)];
    let limit = 512 * KIB;
    assert_eq!(reclaim_all(limit, &rings), [(0, 128 * KIB)]);
    // A console that is no more, and still read, has all the rest.
    assert_eq!(
        reclaim(limit, limit, &rings),
        [(0, 128 * KIB), (1, 128 * KIB)]
    );
    // What is used beyond the limit is made up for first.
    assert_eq!(
        reclaim(limit, limit + 96 * KIB, &rings),
        [(0, 128 * KIB), (1, 64 * KIB)]
    );
}

#[test]
fn what_is_insisted_on_is_had_and_counted() {
    let budget = Arc::new(Budget::new(100));
    let mut first = Share::of(Some(budget.clone()));
    assert!(first.resize(90));
    let mut second = Share::of(Some(budget.clone()));
    second.insist(40);
    second.insist(30);
    assert_eq!(budget.used(), 130);
    assert!(!second.resize(41));
    drop(second);
    assert_eq!(budget.used(), 90);
}

#[test]
fn what_is_free_goes_to_the_most_used_who_asked() {
    let rings = [ring(128, 128, false, 1), ring(128, 128, true, 1)];
    let changes = reclaim_all(384 * KIB, &rings);
    assert_eq!(changes, [(1, 256 * KIB)]);
}

fn rings() -> impl Strategy<Value = Vec<RingUse>> {
    let one = (0..2048_usize, 0..2048_usize, any::<bool>(), 0..8_u64);
    let one = one.prop_map(|(kib, wanted, viewed, used)| ring(kib, wanted, viewed, used));
    prop::collection::vec(one, 1..12)
}

proptest! {
    #[test]
    fn what_is_allowed_stays_within_the_budget(rings in rings(), spare in 0..1024_usize) {
        let limit = rings.iter().map(|ring| ring.bytes).sum::<usize>() + spare * KIB;
        let mut sizes: Vec<usize> = rings.iter().map(|ring| ring.bytes).collect();
        for (index, most) in reclaim_all(limit, &rings) {
            sizes[index] = most;
        }
        prop_assert!(sizes.iter().sum::<usize>() <= limit);
    }

    #[test]
    fn nobody_is_shrunk_below_the_floor_or_without_somebody_who_asked(
        mut rings in rings(),
        spare in 0..1024_usize,
    ) {
        let limit = rings.iter().map(|ring| ring.bytes).sum::<usize>() + spare * KIB;
        let floor = floor(limit, rings.len());
        for (before, after) in rings.iter().zip(after(&rings, &reclaim_all(limit, &rings))) {
            prop_assert!(after >= before.bytes.min(floor));
        }
        for ring in &mut rings {
            ring.wanted = 0;
        }
        prop_assert_eq!(reclaim_all(limit, &rings), []);
    }

    /// One asks: whoever gives anything is less used than the asker, and all that are less
    /// used than the giver are at the floor.
    #[test]
    fn the_least_used_gives_first(mut rings in rings(), spare in 0..64_usize, asker in any::<prop::sample::Index>()) {
        let asker = asker.index(rings.len());
        let limit = rings.iter().map(|ring| ring.bytes).sum::<usize>() + spare * KIB;
        let floor = floor(limit, rings.len());
        for (index, ring) in rings.iter_mut().enumerate() {
            if index != asker {
                ring.wanted = 0;
            }
        }
        rings[asker].bytes = rings[asker].bytes.max(floor);
        let limit = limit.max(rings.iter().map(|ring| ring.bytes).sum::<usize>());
        let floor = super::floor(limit, rings.len()).min(rings[asker].bytes);
        let key = |index: usize| (rings[index].viewed, rings[index].last_use, index);
        let sizes = after(&rings, &reclaim_all(limit, &rings));
        for giver in 0..rings.len() {
            if sizes[giver] == rings[giver].bytes {
                continue;
            }
            prop_assert!(key(giver) < key(asker));
            for other in (0..rings.len()).filter(|other| key(*other) < key(giver)) {
                prop_assert!(sizes[other] <= super::floor(limit, rings.len()), "{other} before {giver}, floor {floor}");
            }
        }
    }

    #[test]
    fn shares_are_never_more_than_the_budget(
        limit in 0..2000_usize,
        steps in prop::collection::vec((0..4_usize, 0..1000_usize), 0..60),
    ) {
        let budget = Arc::new(Budget::new(limit));
        let mut shares: Vec<_> = (0..4).map(|_| Share::of(Some(budget.clone()))).collect();
        let mut sizes = [0; 4];
        for (which, bytes) in steps {
            let others: usize = sizes.iter().sum::<usize>() - sizes[which];
            let fits = others + bytes <= limit || bytes <= sizes[which];
            prop_assert_eq!(shares[which].resize(bytes), fits);
            if fits {
                sizes[which] = bytes;
            }
            prop_assert_eq!(budget.used(), sizes.iter().sum::<usize>());
            prop_assert!(budget.used() <= limit);
        }
        drop(shares);
        prop_assert_eq!(budget.used(), 0);
    }
}
