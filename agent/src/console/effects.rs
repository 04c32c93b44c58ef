//! Side effects as viewers are told of them: the last few, numbered, so that each viewer is
//! told each of them once. A viewer that does not keep up misses the oldest.

use std::collections::VecDeque;

use super::live::Console;
use super::state::SideEffect;

/// The most side effects that are kept for viewers that have not been told yet.
const MAX_EFFECTS: usize = 16;

/// The newest side effects.
#[derive(Debug, Default)]
pub(super) struct Effects {
    newest: VecDeque<SideEffect>,
    /// How many there were in all.
    count: u64,
}

impl Effects {
    /// How many there were so far: what who comes now need not be told.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    fn push(&mut self, effect: SideEffect) {
        if self.newest.len() >= MAX_EFFECTS {
            self.newest.pop_front();
        }
        self.newest.push_back(effect);
        self.count += 1;
    }

    /// The oldest that is kept and not among the first `told`, and how many there were up to it.
    pub(super) fn after(&self, told: u64) -> Option<(u64, &SideEffect)> {
        let first = self.count - self.newest.len() as u64;
        let next = told.max(first);
        let effect = self.newest.get(usize::try_from(next - first).ok()?)?;
        Some((next + 1, effect))
    }
}

impl Console {
    /// Tells every viewer that is attached now of a side effect.
    pub fn announce(&self, effect: SideEffect) {
        self.shared.lock().effects.push(effect);
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;
    use crate::console::state::SideEffectKind;
    use crate::core::id::PeerIdentity;

    fn effect(number: u64) -> SideEffect {
        SideEffect {
            kind: SideEffectKind::Keys,
            proxy: PeerIdentity::new("spiffe://test/proxy"),
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(number),
        }
    }

    proptest! {
        #[test]
        fn each_is_told_once_in_order_and_only_the_oldest_are_missed(
            steps in prop::collection::vec((0_u64..40, 0_u64..40), 1..20)
        ) {
            let mut effects = Effects::default();
            let (mut pushed, mut told) = (0, 0);
            for (push, tell) in steps {
                for _ in 0..push {
                    effects.push(effect(pushed));
                    pushed += 1;
                }
                prop_assert_eq!(effects.count(), pushed);
                for _ in 0..tell {
                    let expected = told.max(pushed.saturating_sub(MAX_EFFECTS as u64));
                    let Some((next, told_now)) = effects.after(told) else {
                        prop_assert_eq!(told, pushed);
                        break;
                    };
                    prop_assert_eq!(told_now, &effect(expected));
                    prop_assert_eq!(next, expected + 1);
                    told = next;
                }
            }
        }
    }
}
