//! The writer's lease: at most one session types, and everybody can tell since when.
//!
//! ```text
//!         request (if free)                 request (takeover)
//!  Free ───────────────────▶ Held(session) ───────────────────▶ Held(another)
//!    ▲                            │
//!    └──────── release ───────────┘          each arrow that changes who writes: epoch + 1
//! ```

/// A change of writer, counted. Input carries the epoch under which it was typed, so that
/// what was typed before a change is told from what was typed after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// How the lease is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Only if nobody holds it.
    IfFree,
    /// Whoever holds it loses it.
    Takeover,
}

/// Why input may not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTheWriter {
    /// The session held the lease when this was typed, and lost it.
    Stale,
    /// The session does not hold the lease.
    NeverHeld,
}

/// The writer's lease of one console. `H` names a session.
#[derive(Debug)]
pub struct Lease<H> {
    epoch: Epoch,
    holder: Option<H>,
}

impl<H> Default for Lease<H> {
    fn default() -> Self {
        Self {
            epoch: Epoch(0),
            holder: None,
        }
    }
}

impl<H: Copy + PartialEq> Lease<H> {
    /// The number of changes so far.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Who may type.
    pub const fn holder(&self) -> Option<H> {
        self.holder
    }

    /// Asks for the lease. Returns who lost it, if anybody else held it.
    ///
    /// # Errors
    /// Who holds it, if it is not free and was not to be taken over.
    pub fn claim(&mut self, who: H, claim: Claim) -> Result<Option<H>, H> {
        match self.holder {
            Some(holder) if holder == who => Ok(None),
            Some(holder) if claim == Claim::IfFree => Err(holder),
            before => {
                self.change(Some(who));
                Ok(before)
            }
        }
    }

    /// Gives the lease back. Returns whether `who` held it.
    pub fn release(&mut self, who: H) -> bool {
        let held = self.holder == Some(who);
        if held {
            self.change(None);
        }
        held
    }

    /// Whether what `who` typed under `epoch` may be written.
    ///
    /// # Errors
    /// Why not. An epoch that is yet to come counts as never held.
    pub fn check(&self, who: H, epoch: Epoch) -> Result<(), NotTheWriter> {
        if self.holder == Some(who) && epoch == self.epoch {
            Ok(())
        } else if epoch < self.epoch && epoch != Epoch(0) {
            Err(NotTheWriter::Stale)
        } else {
            Err(NotTheWriter::NeverHeld)
        }
    }

    fn change(&mut self, holder: Option<H>) {
        self.holder = holder;
        self.epoch.0 += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_holds_it() {
        let mut lease = Lease::default();
        assert_eq!(lease.claim('a', Claim::IfFree), Ok(None));
        assert_eq!(lease.claim('b', Claim::IfFree), Err('a'));
        assert_eq!(lease.epoch(), Epoch(1));
    }

    #[test]
    fn what_was_typed_before_a_takeover_is_stale() {
        let mut lease = Lease::default();
        assert_eq!(lease.claim('a', Claim::IfFree), Ok(None));
        let typed = lease.epoch();
        assert_eq!(lease.claim('b', Claim::Takeover), Ok(Some('a')));
        assert_eq!(lease.check('a', typed), Err(NotTheWriter::Stale));
        assert_eq!(lease.check('b', typed), Err(NotTheWriter::Stale));
        assert_eq!(lease.check('b', lease.epoch()), Ok(()));
        assert_eq!(lease.check('c', Epoch(0)), Err(NotTheWriter::NeverHeld));
    }

    proptest! {
        #[test]
        fn at_most_one_writes_and_epochs_only_grow(
            steps in prop::collection::vec((0u8..4, 0u8..3), 0..200),
        ) {
            let mut lease = Lease::default();
            let mut before = (lease.epoch(), lease.holder());
            for (who, what) in steps {
                match what {
                    0 => { let _ = lease.claim(who, Claim::IfFree); }
                    1 => prop_assert!(lease.claim(who, Claim::Takeover).is_ok()),
                    _ => { lease.release(who); }
                }
                let now = (lease.epoch(), lease.holder());
                prop_assert!(now.0 >= before.0);
                prop_assert_eq!(now.0 == before.0, now.1 == before.1, "a change of writer and only that changes the epoch");
                let writers: Vec<u8> =
                    (0..4).filter(|who| lease.check(*who, lease.epoch()).is_ok()).collect();
                prop_assert_eq!(writers, now.1.into_iter().collect::<Vec<u8>>());
                for who in 0..4 {
                    prop_assert!(before.0 == now.0 || lease.check(who, before.0).is_err());
                }
                before = now;
            }
        }
    }
}
