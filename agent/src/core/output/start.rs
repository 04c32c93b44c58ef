//! Where a viewer begins, and what it is told first of what it asked for and cannot have.
//!
//! ```text
//!  asked for                                     first told
//!  Live, TailBytes, TailLines, TailFrom          output
//!  Resume, FromBoot: kept                        output, from exactly there
//!                    no longer kept              Gap{Overrun} to the oldest byte
//!  Resume: in no generation that is kept,        Gap{GenerationPassed} to the oldest byte
//!          or beyond its generation's end        of the current one
//!  FromBoot: no boot was seen                    Gap of unknown length, to the oldest byte
//! ```
//! What was asked for is where the viewer is until then. It refuses nothing.

use super::kept::{Interruption, Kept};
use super::{Cursor, Gap, GapReason, LineScan, OutputLog};
use crate::core::position::{Generation, Position};

/// Where a viewer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what comes from now on.
    Live,
    /// So many bytes before that, as far as the current generation is kept.
    TailBytes(u64),
    /// So many lines before that, as far as the current generation is kept, but at most the
    /// last [`MAX_LINES_SCAN`](super::MAX_LINES_SCAN) bytes. A last line that has no newline
    /// yet counts as one. They are looked for all at once: see [`LineScan`] for a way that does
    /// not keep others waiting.
    TailLines(u32),
    /// Here, as far as that is kept, with nothing told of what is not; at the oldest byte if
    /// this is not of the current generation.
    TailFrom(Position),
    /// Here: the viewer has everything before it. An interruption exactly here may be told a
    /// second time.
    Resume(Position),
    /// With the newest start or reset that was seen.
    FromBoot,
}

/// What a viewer has yet to be told of where it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Nothing.
    #[default]
    Told,
    /// It named its place. If that is no longer kept, all that is kept comes after it.
    Placed,
    /// It named a place that no output is known of. It is counted in no generation.
    Nowhere,
    /// It asked for a boot that was not seen.
    NoBoot,
}

impl OutputLog {
    /// A new viewer's place.
    pub fn open(&mut self, start: Start) -> Cursor {
        let (oldest, end) = (self.oldest().offset, self.head().offset);
        let back_to = match start {
            Start::Live => end,
            Start::TailBytes(bytes) => end.saturating_sub(bytes).max(oldest),
            Start::TailLines(lines) => LineScan::whole(self, lines).offset.clamp(oldest, end),
            Start::TailFrom(from) if from.generation == self.current.generation => {
                from.offset.clamp(oldest, end)
            }
            Start::TailFrom(_) => oldest,
            Start::Resume(from) => return self.resume(from),
            Start::FromBoot => {
                let (boot, beginning) = match self.current.boot {
                    Some(boot) => (boot, Beginning::Placed),
                    None => (0, Beginning::NoBoot),
                };
                return self.current.place(boot, |i| i.offset >= boot, beginning);
            }
        };
        self.current
            .place(back_to, |i| i.offset > back_to, Beginning::Told)
    }

    fn resume(&mut self, from: Position) -> Cursor {
        let kept = [Some(&mut self.current), self.previous.as_mut()];
        let mut kept = kept.into_iter().flatten();
        match kept.find(|kept| kept.generation == from.generation) {
            Some(kept) if from.offset <= kept.ring.end() => {
                kept.place(from.offset, |i| i.offset >= from.offset, Beginning::Placed)
            }
            _ => Cursor {
                position: from,
                interruption: 0,
                beginning: Beginning::Nowhere,
            },
        }
    }

    /// Whether this viewer is told first that output of unknown number is missing at the very
    /// place where it begins: what one that resumes there may have been told before.
    pub fn begins_interrupted(&self, cursor: &Cursor) -> bool {
        let at = cursor.position;
        let Some(kept) = self.kept(at.generation) else {
            return false;
        };
        match cursor.beginning {
            Beginning::Nowhere => false,
            Beginning::NoBoot => kept.ring.oldest() == 0,
            Beginning::Told | Beginning::Placed => {
                let mut untold = kept.untold(cursor);
                kept.has_passed(cursor) && at.offset >= kept.ring.oldest()
                    || untold.any(|i| i.offset == at.offset)
            }
        }
    }

    /// Whether this viewer has been told all of the generation `last`, or is past it.
    pub fn is_told(&self, cursor: &Cursor, last: Generation) -> bool {
        let at = cursor.position;
        if matches!(cursor.beginning, Beginning::Nowhere | Beginning::NoBoot) {
            return false;
        }
        if at.generation != last {
            return at.generation == self.current.generation;
        }
        self.kept(last).is_some_and(|kept| {
            let all = at.offset == kept.ring.end() && !kept.has_passed(cursor);
            all && kept.untold(cursor).next().is_none()
        })
    }

    fn kept(&self, generation: Generation) -> Option<&Kept> {
        let kept = [Some(&self.current), self.previous.as_ref()];
        let mut kept = kept.into_iter().flatten();
        kept.find(|kept| kept.generation == generation)
    }
}

impl Kept {
    /// A viewer's place at `offset`; the first interruption that is `untold` is its next.
    fn place(
        &mut self,
        offset: u64,
        untold: impl Fn(&Interruption) -> bool,
        beginning: Beginning,
    ) -> Cursor {
        self.cursors += 1;
        let forgotten = |at| Interruption {
            number: 0,
            offset: at,
        };
        let interruption = match self.forgotten_at {
            // One that is forgotten lies ahead: it makes the gap's length unknown.
            Some(at) if untold(&forgotten(at)) => self.forgotten_interruptions - 1,
            _ => {
                let next = self.interruptions.iter().find(|i| untold(i));
                next.map_or(self.next_interruption, |next| next.number)
            }
        };
        Cursor {
            position: Position {
                generation: self.generation,
                offset,
            },
            interruption,
            beginning,
        }
    }

    /// Tells one that asked for a boot that was not seen: nobody knows how much is missing.
    pub(super) fn before_boot(&self, cursor: &mut Cursor) -> Gap {
        let from = cursor.position;
        let to = Position {
            offset: self.ring.oldest(),
            ..from
        };
        let ahead = self.interruptions.iter().find(|i| i.offset > to.offset);
        cursor.position = to;
        cursor.interruption = ahead.map_or(self.next_interruption, |ahead| ahead.number);
        let reason = if to == from {
            GapReason::NotAttached
        } else {
            GapReason::Overrun
        };
        Gap {
            from,
            to,
            length_known: false,
            reason,
        }
    }

    const fn has_passed(&self, cursor: &Cursor) -> bool {
        cursor.interruption < self.forgotten_interruptions
    }

    /// The interruptions that this viewer has yet to be told of.
    fn untold(&self, cursor: &Cursor) -> impl Iterator<Item = &Interruption> {
        let next = cursor.interruption;
        self.interruptions.iter().filter(move |i| i.number >= next)
    }
}
