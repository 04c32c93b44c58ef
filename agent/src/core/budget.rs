//! How much memory the rings of all consoles together may hold, and whose ring gives way when
//! that is not enough.
//!
//! A ring that wants to grow asks its [`Share`], which never waits: it gets the bytes, or not,
//! and then goes on as large as it is. [`reclaim`] says afterwards who is to be smaller for it.
//! Nothing here shrinks a ring or knows of a console.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ring::FIRST_ALLOCATION;

/// What each console keeps while others want more, in bytes; less where there are so many that
/// the budget does not hold as much for each of them, but never less than a ring's
/// [`FIRST_ALLOCATION`].
pub const FLOOR: usize = 64 * 1024;

/// What all rings together may hold, and do.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes, of which none is used.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
        }
    }

    /// The most that may be used, in bytes, beside what is insisted on.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// How many bytes are used now: more than the limit only by what rings insisted on
    /// ([`Share::insist`]).
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let taken = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        // Only the number matters, and nothing is read by it.
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken)
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What one ring has of a budget. Dropping it gives it back.
#[derive(Debug)]
pub struct Share {
    /// `None`: as much as it likes.
    budget: Option<Arc<Budget>>,
    bytes: usize,
}

impl Share {
    /// A share of `budget`, of no bytes as yet; of nothing, without a limit, if there is none.
    pub const fn of(budget: Option<Arc<Budget>>) -> Self {
        Self { budget, bytes: 0 }
    }

    /// Makes the share so many bytes. Returns whether it could, which it always can to fewer;
    /// if not, it is as before. Never waits.
    pub fn resize(&mut self, bytes: usize) -> bool {
        if let Some(budget) = &self.budget {
            if bytes > self.bytes && !budget.take(bytes - self.bytes) {
                return false;
            }
            budget.give_back(self.bytes.saturating_sub(bytes));
        }
        self.bytes = bytes;
        true
    }

    /// Makes the share at least so many bytes, whether the budget has as much left or not: for
    /// what each ring has in any case.
    pub fn insist(&mut self, bytes: usize) {
        let more = bytes.saturating_sub(self.bytes);
        if let Some(budget) = &self.budget {
            budget.used.fetch_add(more, Ordering::Relaxed);
        }
        self.bytes += more;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.resize(0);
    }
}

/// One console's rings, as [`reclaim`] goes by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingUse {
    /// What they hold, in bytes.
    pub bytes: usize,
    /// How many more they asked for in vain.
    pub wanted: usize,
    /// Whether anybody views the console.
    pub viewed: bool,
    /// When somebody last came to view it or left: a later one has a larger number.
    pub last_use: u64,
}

/// Which rings are to hold how much from now on, so that those that asked in vain can have
/// more: each by its index in `rings`, with the most that it may hold. One that is given less
/// than it holds here is to be shrunk; the others asked, and are to have at least that. `used` is
/// what is used of the budget by all, those included that are not among `rings` any more.
///
/// The most used asks first: one with viewers before one without, then the latest use. It takes
/// from those that are less used than itself, the least used first, down to a floor
/// ([`FLOOR`], or an equal part of the budget if that is less); to reach the floor itself, it
/// takes from anybody above it. Rings are halved, so that little is not moved much.
pub fn reclaim(limit: usize, used: usize, rings: &[RingUse]) -> Vec<(usize, usize)> {
    let mut sizes: Vec<usize> = rings.iter().map(|ring| ring.bytes).collect();
    let used = used.max(sizes.iter().sum());
    let (mut free, mut over) = (limit.saturating_sub(used), used.saturating_sub(limit));
    let mut order: Vec<usize> = (0..rings.len()).collect();
    order.sort_by_key(|&index| (rings[index].viewed, rings[index].last_use, index));
    let floor = floor(limit, rings.len());
    let mut allowed = Vec::new();
    // Those before it are at the floor: nobody looks at them again.
    let mut first = 0;
    for (rank, &asker) in order.iter().enumerate().rev() {
        let RingUse { bytes, wanted, .. } = rings[asker];
        if wanted == 0 || sizes[asker] < bytes {
            continue;
        }
        while first < rank && sizes[order[first]] <= floor {
            first += 1;
        }
        let below_floor = wanted.min(floor.saturating_sub(bytes));
        let less_used = order.get(first..rank).unwrap_or_default();
        for (needed, victims) in [(wanted, less_used), (below_floor, &order[rank + 1..])] {
            for &victim in victims {
                if free >= needed {
                    break;
                }
                let freed = halve(&mut sizes[victim], floor, over + needed - free);
                let repaid = freed.min(over);
                over -= repaid;
                free += freed - repaid;
            }
        }
        let granted = wanted.min(free);
        free -= granted;
        if granted > 0 {
            allowed.push((asker, bytes + granted));
        }
    }
    let shrunk = (0..rings.len()).filter(|&index| sizes[index] < rings[index].bytes);
    let shrunk = shrunk.map(|index| (index, sizes[index]));
    allowed.retain(|(index, _)| sizes[*index] == rings[*index].bytes);
    allowed.extend(shrunk);
    allowed
}

/// What each of so many consoles may keep in any case.
fn floor(limit: usize, consoles: usize) -> usize {
    FLOOR.min(limit / consoles.max(1)).max(FIRST_ALLOCATION)
}

/// Halves `size` until `missing` bytes are freed or it is at `floor`; returns how many are.
fn halve(size: &mut usize, floor: usize, missing: usize) -> usize {
    let before = *size;
    while before - *size < missing && *size > floor {
        *size = (*size / 2).max(floor);
    }
    before - *size
}

#[cfg(test)]
mod tests;
