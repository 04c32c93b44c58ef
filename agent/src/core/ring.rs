//! A bounded byte ring with absolute offsets.
//!
//! It keeps the newest bytes and forgets the oldest. It knows nothing of readers:
//! whoever reads brings an offset, and sees by [`Ring::oldest`] whether it came too late.

use std::sync::Arc;

use super::budget::{Budget, Share};

/// What a ring allocates at first, in bytes, be the budget of all rings used up or not; it
/// doubles from there up to its limit, as far as that budget allows.
pub const FIRST_ALLOCATION: usize = 4096;

/// A bounded byte ring with absolute offsets. Its memory is at most its limit.
#[derive(Debug)]
pub struct Ring {
    /// The byte with offset `o` is at index `o % buffer.len()`.
    buffer: Box<[u8]>,
    share: Share,
    limit: usize,
    /// How large it may become until it is allowed more.
    allowed: usize,
    /// How much larger it was to become when it was denied that; 0 if it was not.
    wanted: usize,
    oldest: u64,
    end: u64,
}

impl Ring {
    /// An empty ring that will keep at most `limit` bytes (at least 1).
    pub fn new(limit: usize) -> Self {
        Self::within(limit, None)
    }

    /// As [`Ring::new`], and beyond [`FIRST_ALLOCATION`] only as much as `budget`, if there is
    /// one, has left.
    pub fn within(limit: usize, budget: Option<Arc<Budget>>) -> Self {
        let limit = limit.max(1);
        Self {
            buffer: Box::default(),
            share: Share::of(budget),
            limit,
            allowed: limit,
            wanted: 0,
            oldest: 0,
            end: 0,
        }
    }

    /// The offset of the oldest byte that is kept; equal to [`Ring::end`] if none is.
    pub const fn oldest(&self) -> u64 {
        self.oldest
    }

    /// The offset of the next byte to come: how many have been appended in all.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// How many bytes of memory the ring holds now.
    pub const fn allocated(&self) -> usize {
        self.buffer.len()
    }

    /// Appends `bytes`, forgetting the oldest as needed. Returns whether it was to grow for
    /// them and could not, for the first time since [`Ring::take_wanted`].
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let denied = self.grow_for(bytes.len());
        let kept = &bytes[bytes.len().saturating_sub(self.buffer.len())..];
        let first_kept = self.end + (bytes.len() - kept.len()) as u64;
        self.copy_in(first_kept, kept);
        self.end += bytes.len() as u64;
        self.oldest = self
            .oldest
            .max(self.end.saturating_sub(self.buffer.len() as u64));
        denied
    }

    /// How much larger it was to become when it could not, in bytes, since this was last asked.
    pub const fn take_wanted(&mut self) -> usize {
        std::mem::replace(&mut self.wanted, 0)
    }

    /// Allows it so many bytes of memory, or as many as it has, if that is more: to that much it
    /// grows when it is to, even if it is less than twice what it has.
    pub fn allow_more(&mut self, bytes: usize) {
        self.allowed = bytes.min(self.limit).max(self.buffer.len());
    }

    /// Allows it so many bytes of memory. If it has more, it forgets its oldest bytes and gives
    /// memory back.
    pub fn allow(&mut self, bytes: usize) {
        self.allowed = bytes.min(self.limit);
        if self.allowed < self.buffer.len() {
            self.resize(self.allowed);
            self.share.resize(self.allowed);
        }
    }

    /// Forgets everything before `offset`.
    pub fn forget_before(&mut self, offset: u64) {
        self.oldest = self.oldest.max(offset.min(self.end));
    }

    /// At most `max` bytes from `from` on, in two pieces of which either may be empty. What
    /// is no longer kept, or not yet there, is left out: `from` is taken as within
    /// `oldest..=end`.
    pub fn read(&self, from: u64, max: usize) -> (&[u8], &[u8]) {
        let from = from.clamp(self.oldest, self.end);
        let length = usize::try_from(self.end - from)
            .unwrap_or(usize::MAX)
            .min(max);
        if length == 0 {
            return (&[], &[]);
        }
        let start = self.index(from);
        let first = length.min(self.buffer.len() - start);
        (
            &self.buffer[start..start + first],
            &self.buffer[..length - first],
        )
    }

    fn index(&self, offset: u64) -> usize {
        // The remainder is below the buffer's length, which is a usize.
        (offset % self.buffer.len() as u64) as usize
    }

    /// Makes room for `more` bytes beside those kept, as far as limit and budget go. Returns
    /// whether they did not go far enough, for the first time.
    fn grow_for(&mut self, more: usize) -> bool {
        let kept = (self.end - self.oldest) as usize;
        let needed = kept.saturating_add(more).min(self.limit);
        let before = self.buffer.len();
        if needed <= before {
            return false;
        }
        let size = needed
            .next_power_of_two()
            .max(FIRST_ALLOCATION)
            .min(self.limit);
        let mut granted = size.min(self.allowed);
        while granted > before && !self.share.resize(granted) {
            if granted <= FIRST_ALLOCATION {
                self.share.insist(granted);
                break;
            }
            granted = (granted / 2).max(FIRST_ALLOCATION);
        }
        if granted > before {
            self.resize(granted);
        }
        if granted == size {
            self.wanted = 0;
            return false;
        }
        std::mem::replace(&mut self.wanted, size - self.buffer.len()) == 0
    }

    /// Makes the buffer so large, and keeps the newest bytes that fit: they are copied, and
    /// nothing else is touched. What is new of the memory comes zeroed of the system, which
    /// gives it only when it is written to.
    fn resize(&mut self, size: usize) {
        let kept = (self.end - self.oldest).min(size as u64);
        self.oldest = self.end - kept;
        let new = vec![0; size].into_boxed_slice();
        let old = std::mem::replace(&mut self.buffer, new);
        if kept == 0 {
            return;
        }
        let begin = (self.oldest % old.len() as u64) as usize;
        let first = (kept as usize).min(old.len() - begin);
        self.copy_in(self.oldest, &old[begin..begin + first]);
        self.copy_in(self.oldest + first as u64, &old[..kept as usize - first]);
    }

    /// Copies `bytes`, at most the buffer's length, to where `offset` belongs.
    fn copy_in(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let start = self.index(offset);
        let first = bytes.len().min(self.buffer.len() - start);
        self.buffer[start..start + first].copy_from_slice(&bytes[..first]);
        self.buffer[..bytes.len() - first].copy_from_slice(&bytes[first..]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(ring: &Ring, from: u64, max: usize) -> Vec<u8> {
        let (first, second) = ring.read(from, max);
        [first, second].concat()
    }

    #[test]
    fn an_empty_ring_has_nothing_and_costs_nothing() {
        let ring = Ring::new(1 << 20);
        assert_eq!(read(&ring, 0, 10), b"");
        assert_eq!((ring.oldest(), ring.end(), ring.allocated()), (0, 0, 0));
    }

    #[test]
    fn one_append_larger_than_the_ring_keeps_its_end() {
        let mut ring = Ring::new(4);
        ring.append(b"ab");
        ring.append(b"0123456789");
        assert_eq!((ring.oldest(), ring.end()), (8, 12));
        assert_eq!(read(&ring, 0, 99), b"6789");
    }

    #[test]
    fn forgetting_never_passes_the_end() {
        let mut ring = Ring::new(8);
        ring.append(b"abc");
        ring.forget_before(99);
        assert_eq!((ring.oldest(), ring.end()), (3, 3));
        assert_eq!(read(&ring, 0, 99), b"");
    }

    #[test]
    fn a_ring_that_may_not_grow_forgets_its_oldest_and_says_so_once() {
        let budget = Arc::new(Budget::new(FIRST_ALLOCATION));
        let mut first = Ring::within(1 << 20, Some(budget.clone()));
        let mut second = Ring::within(1 << 20, Some(budget.clone()));
        assert!(!first.append(b"first"));
        assert!(!second.append(b"second"), "the first allocation is its own");
        assert_eq!(read(&second, 0, 99), b"second");
        assert_eq!(budget.used(), 2 * FIRST_ALLOCATION);
        let more = [b'x'; FIRST_ALLOCATION];
        assert!(second.append(&more), "nothing is left for it");
        assert!(!second.append(&more), "that was said");
        assert_eq!(read(&second, 0, usize::MAX), more);
        assert_eq!(second.take_wanted(), FIRST_ALLOCATION);
        assert!(second.append(b"again"));
        drop(first);
        assert_eq!(budget.used(), FIRST_ALLOCATION);
        assert_eq!(
            second.take_wanted(),
            FIRST_ALLOCATION,
            "that is all there is"
        );
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_ring_is_not_made_smaller_by_being_allowed_more() {
        let mut ring = Ring::new(1 << 20);
        ring.append(&[b'x'; 10_000]);
        ring.allow_more(8192);
        assert_eq!((ring.allocated(), ring.oldest()), (16_384, 0));
        ring.allow_more(20_000);
        assert!(ring.append(&[b'y'; 100_000]));
        assert_eq!(ring.allocated(), 20_000, "all that it was allowed");
    }

    #[test]
    fn a_ring_that_is_allowed_less_grows_again_when_it_is_allowed_more() {
        let mut ring = Ring::new(1 << 20);
        ring.append(&[b'x'; 10_000]);
        ring.allow(100);
        assert_eq!((ring.allocated(), ring.oldest()), (100, 9900));
        assert!(ring.append(&[b'y'; 10_000]));
        assert_eq!(ring.allocated(), 100);
        let wanted = ring.take_wanted();
        ring.allow_more(ring.allocated() + wanted);
        assert!(!ring.append(&[b'z'; 10_000]));
        assert_eq!(read(&ring, 20_000, 99_999), [b'z'; 10_000]);
    }

    /// What may happen to a ring of several with one budget.
    #[derive(Clone, Debug)]
    enum Step {
        Append(usize, Vec<u8>),
        Allow(usize, usize),
        AllowMore(usize, usize),
        Forget(usize, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let bytes = prop::collection::vec(any::<u8>(), 0..5000);
        prop_oneof![
            3 => (0..3_usize, bytes).prop_map(|(ring, bytes)| Step::Append(ring, bytes)),
            1 => (0..3_usize, 0..9000_usize).prop_map(|(ring, bytes)| Step::Allow(ring, bytes)),
            1 => (0..3_usize, 0..9000_usize)
                .prop_map(|(ring, bytes)| Step::AllowMore(ring, bytes)),
            1 => (0..3_usize, 0..20_000_u64).prop_map(|(ring, to)| Step::Forget(ring, to)),
        ]
    }

    proptest! {
        #[test]
        fn rings_keep_their_newest_bytes_at_their_offsets_within_the_budget_and_their_first(
            budget in 0..20_000_usize,
            steps in prop::collection::vec(step(), 0..40),
        ) {
            let budget = Arc::new(Budget::new(budget));
            let mut rings: Vec<_> = (0..3)
                .map(|_| (Ring::within(8192, Some(budget.clone())), Vec::new()))
                .collect();
            for step in steps {
                match step {
                    Step::Append(which, bytes) => {
                        let (ring, all) = &mut rings[which];
                        let before = ring.oldest();
                        ring.append(&bytes);
                        all.extend_from_slice(&bytes);
                        prop_assert!(ring.oldest() == before || ring.end() - ring.oldest() == ring.allocated() as u64);
                    }
                    Step::Allow(which, bytes) => {
                        let ring = &mut rings[which].0;
                        let kept = ring.end() - ring.oldest();
                        ring.allow(bytes);
                        prop_assert!(ring.allocated() <= bytes.min(8192));
                        prop_assert_eq!(ring.end() - ring.oldest(), kept.min(bytes as u64).min(8192));
                    }
                    Step::AllowMore(which, bytes) => rings[which].0.allow_more(bytes),
                    Step::Forget(which, to) => rings[which].0.forget_before(to),
                }
                let held: usize = rings.iter().map(|(ring, _)| ring.allocated()).sum();
                prop_assert_eq!(budget.used(), held);
                prop_assert!(held <= budget.limit() + rings.len() * FIRST_ALLOCATION);
                for (ring, all) in &rings {
                    let oldest = ring.oldest() as usize;
                    prop_assert_eq!(read(ring, 0, usize::MAX), &all[oldest..]);
                }
            }
        }

        #[test]
        fn it_keeps_the_newest_bytes_at_their_offsets_within_its_limit(
            limit in 1usize..9000,
            appends in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 0..20),
            max in 0usize..9000,
        ) {
            let mut ring = Ring::new(limit);
            let mut all = Vec::new();
            for bytes in &appends {
                ring.append(bytes);
                all.extend_from_slice(bytes);
                prop_assert!(ring.allocated() <= limit);
                prop_assert_eq!(ring.end(), all.len() as u64);
                let kept = ring.end() - ring.oldest();
                prop_assert!(kept as usize >= all.len().min(limit));
                for from in [ring.oldest(), ring.oldest() + kept / 2, ring.end()] {
                    let expected = &all[from as usize..];
                    let expected = &expected[..expected.len().min(max)];
                    prop_assert_eq!(read(&ring, from, max), expected);
                }
            }
        }
    }
}
