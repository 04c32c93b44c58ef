//! A bounded byte ring with absolute offsets.
//!
//! It keeps the newest bytes and forgets the oldest. It knows nothing of readers:
//! whoever reads brings an offset, and sees by [`Ring::oldest`] whether it came too late.

/// What a ring allocates at first, in bytes; it doubles from there up to its limit.
pub const FIRST_ALLOCATION: usize = 4096;

/// A bounded byte ring with absolute offsets. Its memory is at most its limit.
#[derive(Debug)]
pub struct Ring {
    /// The byte with offset `o` is at index `o % buffer.len()`.
    buffer: Box<[u8]>,
    limit: usize,
    oldest: u64,
    end: u64,
}

impl Ring {
    /// An empty ring that will keep at most `limit` bytes (at least 1).
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: Box::default(),
            limit: limit.max(1),
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

    /// Appends `bytes`, forgetting the oldest as needed.
    pub fn append(&mut self, bytes: &[u8]) {
        self.grow_for(bytes.len());
        let kept = &bytes[bytes.len().saturating_sub(self.buffer.len())..];
        let first_kept = self.end + (bytes.len() - kept.len()) as u64;
        self.copy_in(first_kept, kept);
        self.end += bytes.len() as u64;
        self.oldest = self
            .oldest
            .max(self.end.saturating_sub(self.buffer.len() as u64));
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

    /// Makes room for `more` bytes beside those kept, as far as the limit goes.
    fn grow_for(&mut self, more: usize) {
        let kept = (self.end - self.oldest) as usize;
        let wanted = kept.saturating_add(more).min(self.limit);
        if wanted <= self.buffer.len() {
            return;
        }
        let size = wanted
            .next_power_of_two()
            .max(FIRST_ALLOCATION)
            .min(self.limit);
        let mut larger = Self {
            buffer: vec![0; size].into_boxed_slice(),
            limit: self.limit,
            oldest: self.oldest,
            end: self.end,
        };
        if kept > 0 {
            let (first, second) = self.read(self.oldest, kept);
            larger.copy_in(self.oldest, first);
            larger.copy_in(self.oldest + first.len() as u64, second);
        }
        *self = larger;
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

    proptest! {
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
