//! What the agent sent and the local connection has not taken yet: a pure queue.
//!
//! Bytes are kept as they came, and never copied. Refuses to limit itself: the output window,
//! which is checked before anything is put here, does, or else whoever asks whether it is full.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf as _, Bytes};
use vmconsole_proto::v1::Position;

use super::wire::OUTPUT_WINDOW;
use crate::attach::window::{Dealt, MAX_UNACKED_MESSAGES};

/// How many pieces are written by one system call.
pub(super) const MAX_SLICES: usize = 16;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Each with the position behind its last byte.
    pieces: VecDeque<(Bytes, Position)>,
    /// How many bytes they have together.
    bytes: u64,
    written_to: Position,
    dealt: Dealt,
}

impl Pending {
    /// Puts bytes behind the others; `end` is the position behind the last of them. No bytes
    /// are nothing to be written.
    pub(super) fn push(&mut self, bytes: Bytes, end: Position) {
        if !bytes.is_empty() {
            self.bytes += bytes.len() as u64;
            self.pieces.push_back((bytes, end));
        }
    }

    /// Whether all was written.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether as much waits as an output window lets through.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= OUTPUT_WINDOW || self.pieces.len() as u64 >= MAX_UNACKED_MESSAGES
    }

    /// The next bytes to be written, in at most [`MAX_SLICES`] pieces; returns how many of
    /// `slices` were filled.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let pieces = self.pieces.iter().take(MAX_SLICES);
        let mut filled = 0;
        for (slice, (bytes, _)) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(bytes);
            filled += 1;
        }
        filled
    }

    /// So many bytes were written.
    pub(super) fn wrote(&mut self, mut bytes: usize) {
        self.dealt.bytes += bytes as u64;
        while bytes > 0
            && let Some((piece, end)) = self.pieces.front_mut()
        {
            let taken = bytes.min(piece.len());
            piece.advance(taken);
            bytes -= taken;
            self.bytes -= taken as u64;
            let left = piece.len() as u64;
            self.written_to = Position {
                generation: end.generation,
                offset: end.offset.saturating_sub(left),
            };
            if left == 0 {
                self.dealt.messages += 1;
                self.pieces.pop_front();
            }
        }
    }

    /// The position behind the last byte that was written, and how much that was in all.
    pub(super) const fn progress(&self) -> (Position, Dealt) {
        (self.written_to, self.dealt)
    }

    /// Drops what was not written.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn written(pending: &mut Pending, most: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let filled = pending.slices(&mut slices);
        let joined: Vec<u8> = slices[..filled]
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        let taken = joined[..most.min(joined.len())].to_vec();
        pending.wrote(taken.len());
        taken
    }

    proptest! {
        #[test]
        fn bytes_come_out_whole_and_in_order_however_they_are_cut(
            pieces in vec(vec(any::<u8>(), 0..40), 0..60),
            writes in vec(1_usize..100, 1..40),
        ) {
            let mut pending = Pending::default();
            let mut end = Position { generation: 7, offset: 100 };
            for piece in &pieces {
                end.offset += piece.len() as u64;
                pending.push(Bytes::from(piece.clone()), end);
            }
            let (mut out, mut writes) = (Vec::new(), writes.into_iter().cycle());
            while !pending.is_empty() {
                out.extend(written(&mut pending, writes.next().unwrap()));
                let (position, dealt) = pending.progress();
                prop_assert_eq!(position.offset, 100 + out.len() as u64);
                prop_assert_eq!(dealt.bytes, out.len() as u64);
            }
            prop_assert_eq!(out, pieces.concat());
            let whole = pieces.iter().filter(|piece| !piece.is_empty()).count();
            prop_assert_eq!(pending.progress().1.messages, whole as u64);
        }
    }

    #[test]
    fn it_is_full_by_bytes_or_by_pieces_until_some_are_written() {
        let piece = |len: u64| Bytes::from(vec![7; usize::try_from(len).unwrap()]);
        for (len, count) in [(OUTPUT_WINDOW / 4, 4), (1, MAX_UNACKED_MESSAGES)] {
            let mut pending = Pending::default();
            for _ in 0..count {
                assert!(!pending.is_full());
                pending.push(piece(len), Position::default());
            }
            assert!(pending.is_full());
            pending.wrote(1);
            assert!(!pending.is_full());
            pending.push(piece(OUTPUT_WINDOW), Position::default());
            assert!(pending.is_full());
            pending.clear();
            assert!(!pending.is_full());
        }
    }

    #[test]
    fn what_is_dropped_is_not_written() {
        let mut pending = Pending::default();
        pending.push(
            Bytes::from_static(b"abc"),
            Position {
                generation: 1,
                offset: 3,
            },
        );
        pending.wrote(1);
        pending.clear();
        assert!(pending.is_empty());
        let (position, dealt) = pending.progress();
        assert_eq!((position.offset, dealt.bytes, dealt.messages), (1, 1, 0));
    }
}
