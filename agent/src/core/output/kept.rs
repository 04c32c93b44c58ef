//! One generation of output, as far as it is kept: its bytes, when they came, and where some are
//! missing. It knows of no other generation.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;

use super::start::Beginning;
use super::{Cursor, Gap, GapReason, Next};
use crate::core::budget::Budget;
use crate::core::position::{Generation, Position};
use crate::core::ring::Ring;
use crate::core::stamps::Stamps;

/// The most interruptions that are remembered within one ring. One more forgets the
/// output before the oldest of them, as a gap whose length is not known.
pub const MAX_INTERRUPTIONS: usize = 64;

/// A viewer that was overrun goes on this part of what is kept above the oldest byte.
const OVERRUN_MARGIN: u64 = 16;

#[derive(Debug)]
pub(super) struct Interruption {
    pub(super) number: u64,
    pub(super) offset: u64,
}

#[derive(Debug)]
pub(super) struct Kept {
    pub(super) generation: Generation,
    pub(super) ring: Ring,
    pub(super) stamps: Stamps,
    pub(super) interruptions: VecDeque<Interruption>,
    pub(super) next_interruption: u64,
    /// Interruptions below this number went with the output around them.
    pub(super) forgotten_interruptions: u64,
    /// Where the newest of those was.
    pub(super) forgotten_at: Option<u64>,
    /// Where output of the newest boot begins, if one was seen.
    pub(super) boot: Option<u64>,
    pub(super) cursors: usize,
}

impl Kept {
    pub(super) fn new(limit: usize, budget: Option<Arc<Budget>>, generation: Generation) -> Self {
        Self {
            generation,
            ring: Ring::within(limit, budget),
            stamps: Stamps::default(),
            interruptions: VecDeque::new(),
            next_interruption: 0,
            forgotten_interruptions: 0,
            forgotten_at: None,
            boot: None,
            cursors: 0,
        }
    }

    pub(super) fn allow(&mut self, bytes: usize) {
        self.ring.allow(bytes);
        self.forget_passed_interruptions();
    }

    pub(super) fn interrupt(&mut self) {
        let offset = self.ring.end();
        // Another one at the same place takes the first one's: whoever was told of that is
        // told again, and whoever was not is told once.
        if self
            .interruptions
            .back()
            .is_some_and(|last| last.offset == offset)
        {
            self.interruptions.pop_back();
        }
        if self.interruptions.len() == MAX_INTERRUPTIONS
            && let Some(passed) = self.interruptions.pop_front()
        {
            self.forget(&passed);
            self.ring.forget_before(passed.offset);
        }
        self.interruptions.push_back(Interruption {
            number: self.next_interruption,
            offset,
        });
        self.next_interruption += 1;
    }

    pub(super) fn forget_passed_interruptions(&mut self) {
        let oldest = self.ring.oldest();
        while let Some(passed) = self.interruptions.pop_front_if(|i| i.offset < oldest) {
            self.forget(&passed);
        }
    }

    const fn forget(&mut self, passed: &Interruption) {
        self.forgotten_interruptions = passed.number + 1;
        self.forgotten_at = Some(passed.offset);
    }

    pub(super) fn next(
        &mut self,
        cursor: &mut Cursor,
        max: usize,
        hidden: usize,
        beginning: Beginning,
    ) -> Next {
        if beginning == Beginning::NoBoot {
            return Next::Gap(self.before_boot(cursor));
        }
        let at = cursor.position;
        let oldest = self.ring.oldest();
        let passed = cursor.interruption < self.forgotten_interruptions;
        if at.offset < oldest || passed {
            cursor.interruption = cursor.interruption.max(self.forgotten_interruptions);
            let to = Position {
                offset: self.overtake(at.offset, cursor.interruption, beginning),
                ..at
            };
            // An interruption that is forgotten lay within: nobody knows how much was lost.
            let length_known = !passed;
            cursor.position = to;
            return Next::Gap(Gap {
                from: at,
                to,
                length_known,
                reason: GapReason::Overrun,
            });
        }
        let ahead = self
            .interruptions
            .iter()
            .find(|i| i.number >= cursor.interruption);
        let until = match ahead {
            Some(here) if here.offset == at.offset => {
                cursor.interruption = here.number + 1;
                return Next::Gap(Gap {
                    from: at,
                    to: at,
                    length_known: false,
                    reason: GapReason::NotAttached,
                });
            }
            Some(ahead) => usize::try_from(ahead.offset - at.offset).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        let shown = self
            .ring
            .end()
            .saturating_sub(hidden as u64)
            .saturating_sub(at.offset);
        let shown = usize::try_from(shown).unwrap_or(usize::MAX);
        self.read(cursor, max.min(until).min(shown))
    }

    /// Where a viewer at `offset` that was overrun goes on: a little above the ring's edge,
    /// lest the next bytes overrun it again, but past no interruption from `interruption` on.
    /// A viewer that only begins gets all that is kept.
    fn overtake(&self, offset: u64, interruption: u64, beginning: Beginning) -> u64 {
        let oldest = self.ring.oldest();
        if offset >= oldest {
            return offset;
        }
        let margin = match beginning {
            Beginning::Placed => 0,
            _ => (self.ring.end() - oldest) / OVERRUN_MARGIN,
        };
        let mut ahead = self
            .interruptions
            .iter()
            .filter(|i| i.number >= interruption);
        let limit = ahead.next().map_or(u64::MAX, |ahead| ahead.offset);
        (oldest + margin).min(limit)
    }

    fn read(&self, cursor: &mut Cursor, max: usize) -> Next {
        let (first, second) = self.ring.read(cursor.position.offset, max);
        let length = first.len() + second.len();
        if length == 0 {
            return Next::Idle;
        }
        let mut bytes = BytesMut::with_capacity(length);
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        let position = cursor.position;
        cursor.position.offset += length as u64;
        let time = self.stamps.at(cursor.position.offset);
        Next::Output {
            position,
            bytes: bytes.freeze(),
            time,
        }
    }
}
