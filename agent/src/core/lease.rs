//! The writer's lease: at most one session types, and everybody can tell since when.
//!
//! ```text
//!         claim, whichever                    claim (takeover)
//!  Free ───────────────────▶ Held(session) ───────────────────▶ Held(another)
//!    ▲                        │   ▲   │
//!    │   release, none waits  │   │   └── release ─▶ Held(the first who waits and is there)
//!    └────────────────────────┘   │
//!              claim (queue) ─▶ Waiting(place)        each arrow that changes who writes: epoch + 1
//! ```
//! Whoever loses the lease to a takeover does not wait for it: two clients that both want it back
//! would take it from each other for ever.

use std::collections::VecDeque;

/// A change of writer, counted. Input carries the epoch under which it was typed, so that
/// what was typed before a change is told from what was typed after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// How the lease is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Only if nobody holds it.
    IfFree,
    /// As soon as it is free, after those who asked so before.
    Queue,
    /// Whoever holds it loses it.
    Takeover,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed<H> {
    /// The session held it already.
    Already,
    /// It holds it from now on; who lost it, if anybody did.
    Granted(Option<H>),
    /// It waits.
    Waits,
}

/// Why input may not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTheWriter {
    /// The session held the lease when this was typed, and lost it.
    Stale,
    /// The session does not hold the lease.
    NeverHeld,
}

/// The writer's lease of one console. `H` names a session. Each session waits once at most, so
/// that the queue is no longer than there are sessions.
#[derive(Debug)]
pub struct Lease<H> {
    epoch: Epoch,
    holder: Option<H>,
    queue: VecDeque<H>,
}

impl<H> Default for Lease<H> {
    fn default() -> Self {
        Self {
            epoch: Epoch(0),
            holder: None,
            queue: VecDeque::new(),
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

    /// The place among those who wait, from 1; `None` if `who` does not wait.
    pub fn place(&self, who: H) -> Option<usize> {
        let before = self.queue.iter().position(|waiting| *waiting == who);
        before.map(|before| before + 1)
    }

    /// Asks for the lease. A claim that does not wait takes `who` out of the queue, unless it
    /// is refused.
    ///
    /// # Errors
    /// Who holds it, if it is not free and `claim` takes only a free one.
    pub fn claim(&mut self, who: H, claim: Claim) -> Result<Claimed<H>, H> {
        match (self.holder, claim) {
            (Some(holder), _) if holder == who => Ok(Claimed::Already),
            (Some(holder), Claim::IfFree) => Err(holder),
            (Some(_), Claim::Queue) => {
                if self.place(who).is_none() {
                    self.queue.push_back(who);
                }
                Ok(Claimed::Waits)
            }
            (before, _) => {
                self.withdraw(who);
                self.change(Some(who));
                Ok(Claimed::Granted(before))
            }
        }
    }

    /// Gives the lease back: it is the first one's who waits and is `there`, or free. Returns
    /// whether `who` held it.
    pub fn release(&mut self, who: H, there: impl Fn(H) -> bool) -> bool {
        let held = self.holder == Some(who);
        if held {
            let next = self.take_first(there);
            self.change(next);
        }
        held
    }

    /// If the lease is free, gives it to the first one who waits and is `there`.
    pub fn offer(&mut self, there: impl Fn(H) -> bool) -> Option<H> {
        if self.holder.is_some() {
            return None;
        }
        let next = self.take_first(there)?;
        self.change(Some(next));
        Some(next)
    }

    /// `who` waits no longer. Returns whether it did.
    pub fn withdraw(&mut self, who: H) -> bool {
        let before = self.queue.len();
        self.queue.retain(|waiting| *waiting != who);
        self.queue.len() < before
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

    fn take_first(&mut self, there: impl Fn(H) -> bool) -> Option<H> {
        let first = self.queue.iter().position(|waiting| there(*waiting))?;
        self.queue.remove(first)
    }

    fn change(&mut self, holder: Option<H>) {
        self.holder = holder;
        self.epoch.0 += 1;
    }
}

#[cfg(test)]
mod tests;
