//! One reader's place in [`Changes`]: what it is to be told next, and where it can go on.
//!
//! ```text
//!            fresh ──▶ Sweep: every key, in order ──────────┐
//!                        ▲          ▲                       ▼
//!   stale ──▶ Reset ─────┘          └── complete only ── Following: what changed, by version
//!               ▲                       since then          │  ▲
//!               └──── a tombstone was forgotten too soon ───┘  └── after(version)
//! ```
//! It holds its place alone, whatever changes and however slowly it reads.

use super::{Change, Changes};

/// Why a reader has to begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// The version that it wants to go on after is none of these changes'.
    Unknown,
    /// Keys went since of which nothing is known any more.
    Forgotten,
}

/// What a reader is to be told next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<K> {
    /// To forget all that it was told: everything follows.
    Reset(ResetReason),
    /// How this key is now.
    Changed {
        /// Which.
        key: K,
        /// Whether that is one of all keys, and not told because it changed.
        sweep: bool,
    },
    /// That this key is gone. It may never have heard of it.
    Removed(K),
    /// That it has been told all that there was.
    Synced,
    /// Nothing, until [`Follower::renew`].
    Nothing,
}

#[derive(Clone, Debug)]
enum Stage<K> {
    /// Is to be told to begin anew.
    Reset(ResetReason),
    /// Is told every key. `after`: which it was told last. `whole`: whether all was there
    /// when it began.
    Sweep { after: Option<K>, whole: bool },
    /// Is told what changed, up to and with the version `until`.
    Following { until: u64 },
}

/// One reader's place.
#[derive(Clone, Debug)]
pub struct Follower<K> {
    stage: Stage<K>,
    /// Every change up to here was told, or will be by the sweep; those after it follow that.
    told: u64,
    /// Whether `told` holds, also if the reader leaves now.
    resumable: bool,
    /// Whether a sweep is due once all is there.
    sweep_due: bool,
    synced: bool,
}

impl<K: Clone + Ord> Follower<K> {
    /// A reader that knows nothing.
    pub const fn fresh(changes: &Changes<K>) -> Self {
        Self {
            stage: Stage::Sweep {
                after: None,
                whole: changes.whole.is_some(),
            },
            told: changes.head,
            resumable: false,
            sweep_due: true,
            synced: false,
        }
    }

    /// A reader that was told everything up to `version`, if there is such a version.
    pub fn after(changes: &Changes<K>, version: u64) -> Self {
        if version > changes.head {
            return Self::unknown(changes);
        }
        Self {
            stage: Stage::Following {
                until: changes.head,
            },
            told: version,
            resumable: true,
            sweep_due: changes.whole.is_none_or(|whole| version < whole),
            synced: false,
        }
    }

    /// A reader that goes by versions which are not those of `changes`.
    pub fn unknown(changes: &Changes<K>) -> Self {
        let mut follower = Self::fresh(changes);
        follower.stage = Stage::Reset(ResetReason::Unknown);
        follower
    }

    /// The version after which the reader can go on, having been told all steps so far.
    /// `None`: there is none yet since it last knew nothing, so only anew.
    pub fn version(&self) -> Option<u64> {
        self.resumable.then_some(self.told)
    }

    /// Has what changed meanwhile told too.
    pub const fn renew(&mut self, changes: &Changes<K>) {
        if let Stage::Following { until } = &mut self.stage {
            *until = changes.head;
        }
    }

    /// What it is to be told next, and takes it for told.
    pub fn next(&mut self, changes: &Changes<K>) -> Step<K> {
        match &mut self.stage {
            Stage::Reset(why) => {
                let why = *why;
                *self = Self::fresh(changes);
                Step::Reset(why)
            }
            Stage::Sweep { after, whole } => {
                if let Some(key) = changes.key_after(after.as_ref()) {
                    *after = Some(key.clone());
                    return Step::Changed {
                        key: key.clone(),
                        sweep: true,
                    };
                }
                self.sweep_due = !*whole;
                // What changed or went since the sweep was due may not be news to anybody later.
                self.stage = Stage::Following {
                    until: changes.head,
                };
                self.follow(changes)
            }
            Stage::Following { .. } => self.follow(changes),
        }
    }

    fn follow(&mut self, changes: &Changes<K>) -> Step<K> {
        let Stage::Following { until } = self.stage else {
            return Step::Nothing;
        };
        if self.told < changes.forgotten {
            self.stage = Stage::Reset(ResetReason::Forgotten);
            return self.next(changes);
        }
        self.resumable = true;
        if self.sweep_due && changes.whole.is_some() {
            // What it was told until now may not have been all.
            self.stage = Stage::Sweep {
                after: None,
                whole: true,
            };
            return self.next(changes);
        }
        if let Some((version, key, change)) = changes.next_after(self.told)
            && version <= until
        {
            self.told = version;
            let key = key.clone();
            return match change {
                Change::Changed => Step::Changed { key, sweep: false },
                Change::Removed => Step::Removed(key),
            };
        }
        self.told = until;
        if self.synced || self.sweep_due {
            return Step::Nothing;
        }
        self.synced = true;
        Step::Synced
    }
}
