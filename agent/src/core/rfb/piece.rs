//! Collects a known number of bytes that come in pieces of any size. It takes not one byte more
//! than that number, and memory only for what came.

/// The next so many bytes.
#[derive(Debug)]
pub(super) struct Piece {
    have: Vec<u8>,
    need: usize,
}

impl Piece {
    /// Wants `need` bytes; none is whole at once.
    pub(super) const fn of(need: usize) -> Self {
        Self {
            have: Vec::new(),
            need,
        }
    }

    /// How many bytes have not come yet.
    pub(super) const fn missing(&self) -> usize {
        self.need - self.have.len()
    }

    /// What came so far.
    pub(super) fn have(&self) -> &[u8] {
        &self.have
    }

    /// Takes what is missing from the front of `bytes`. Gives the piece out once it is whole,
    /// and wants nothing after it.
    pub(super) fn fill(&mut self, bytes: &mut &[u8]) -> Option<Vec<u8>> {
        let (taken, rest) = bytes.split_at(self.missing().min(bytes.len()));
        self.have.extend_from_slice(taken);
        *bytes = rest;
        (self.missing() == 0).then(|| {
            self.need = 0;
            std::mem::take(&mut self.have)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_takes_what_it_needs_and_no_more() {
        let mut piece = Piece::of(3);
        let mut bytes = b"ab".as_slice();
        assert_eq!(piece.fill(&mut bytes), None);
        assert_eq!((piece.missing(), piece.have()), (1, b"ab".as_slice()));
        bytes = b"cde";
        assert_eq!(piece.fill(&mut bytes), Some(b"abc".to_vec()));
        assert_eq!((piece.missing(), bytes), (0, b"de".as_slice()));
        assert_eq!(Piece::of(0).fill(&mut bytes), Some(Vec::new()));
    }
}
