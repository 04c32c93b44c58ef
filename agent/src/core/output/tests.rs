use std::num::NonZeroU64;

use proptest::prelude::*;

use super::*;

fn generation(number: u64) -> Generation {
    Generation::new(NonZeroU64::new(number).unwrap())
}

fn at(number: u64, offset: u64) -> Position {
    Position {
        generation: generation(number),
        offset,
    }
}

fn log(limit: usize) -> OutputLog {
    OutputLog::new(limit, generation(1))
}

fn output(number: u64, offset: u64, bytes: &'static [u8]) -> Next {
    let bytes = Bytes::from_static(bytes);
    Next::Output {
        position: at(number, offset),
        bytes,
        time: Stamp(7),
    }
}

#[test]
fn history_then_live_has_no_seam() {
    let mut log = log(64);
    log.append(b"before", Stamp(7));
    let mut cursor = log.open(Start::TailBytes(3));
    log.append(b"after", Stamp(7));
    assert_eq!(log.next(&mut cursor, 64, 0), output(1, 3, b"oreafter"));
    assert_eq!(log.next(&mut cursor, 64, 0), Next::Idle);
}

#[test]
fn hidden_output_waits_and_a_gap_does_not() {
    let mut log = log(64);
    let mut cursor = log.open(Start::Live);
    log.append(b"shown", Stamp(7));
    log.append(b"hidden", Stamp(7));
    assert_eq!(log.next(&mut cursor, 64, 6), output(1, 0, b"shown"));
    assert_eq!(log.next(&mut cursor, 64, 6), Next::Idle);
    log.append(&[b'x'; 64], Stamp(7));
    assert!(matches!(log.next(&mut cursor, 64, 70), Next::Gap(_)));
    assert_eq!(log.next(&mut cursor, 64, 70), Next::Idle);
}

#[test]
fn a_passed_viewer_is_told_how_much_it_lost() {
    let mut log = log(4);
    let mut cursor = log.open(Start::Live);
    log.append(b"0123456789", Stamp(7));
    let gap = Gap {
        from: at(1, 0),
        to: at(1, 6),
        length_known: true,
        reason: GapReason::Overrun,
    };
    assert_eq!(log.next(&mut cursor, 64, 0), Next::Gap(gap));
    assert_eq!(log.next(&mut cursor, 64, 0), output(1, 6, b"6789"));
}

#[test]
fn an_interruption_is_told_once_at_its_place() {
    let mut log = log(64);
    let mut cursor = log.open(Start::Live);
    log.append(b"one", Stamp(7));
    log.interrupt();
    log.append(b"two", Stamp(7));
    let gap = Gap {
        from: at(1, 3),
        to: at(1, 3),
        length_known: false,
        reason: GapReason::NotAttached,
    };
    assert_eq!(log.next(&mut cursor, 64, 0), output(1, 0, b"one"));
    assert_eq!(log.next(&mut cursor, 64, 0), Next::Gap(gap));
    assert_eq!(log.next(&mut cursor, 64, 0), output(1, 3, b"two"));
    let mut later = log.open(Start::TailBytes(3));
    assert_eq!(log.next(&mut later, 64, 0), output(1, 3, b"two"));
}

#[test]
fn a_gap_that_swallows_an_interruption_has_no_known_length() {
    let mut log = log(4);
    let mut cursor = log.open(Start::Live);
    log.append(b"one", Stamp(7));
    log.interrupt();
    log.append(b"12345678", Stamp(7));
    let gap = Gap {
        from: at(1, 0),
        to: at(1, 7),
        length_known: false,
        reason: GapReason::Overrun,
    };
    assert_eq!(log.next(&mut cursor, 64, 0), Next::Gap(gap));
    assert_eq!(log.next(&mut cursor, 64, 0), output(1, 7, b"5678"));
}

#[test]
fn the_last_words_of_a_generation_are_kept_for_those_who_are_in_it() {
    let mut log = log(64);
    let mut cursor = log.open(Start::Live);
    log.append(b"panic", Stamp(7));
    log.begin(generation(2));
    log.append(b"SeaBIOS", Stamp(7));
    assert_eq!(log.next(&mut cursor, 64, 0), output(1, 0, b"panic"));
    assert_eq!(
        log.next(&mut cursor, 64, 0),
        Next::GenerationStarted(at(2, 0))
    );
    assert_eq!(log.next(&mut cursor, 64, 0), output(2, 0, b"SeaBIOS"));
    assert!(log.previous.is_none(), "nobody is in it any more");
}

#[test]
fn what_is_hidden_is_of_the_current_generation_alone() {
    let mut log = log(64);
    let mut cursor = log.open(Start::Live);
    log.append(b"panic", Stamp(7));
    log.begin(generation(2));
    log.append(b"x", Stamp(7));
    assert_eq!(log.next(&mut cursor, 64, 1), output(1, 0, b"panic"));
    assert_eq!(
        log.next(&mut cursor, 64, 1),
        Next::GenerationStarted(at(2, 0))
    );
    assert_eq!(log.next(&mut cursor, 64, 1), Next::Idle);
}

#[test]
fn a_generation_that_nobody_is_in_is_forgotten() {
    let mut log = log(64);
    log.append(b"panic", Stamp(7));
    log.begin(generation(2));
    assert!(log.previous.is_none());
    let cursor = log.open(Start::Live);
    log.begin(generation(3));
    assert!(log.previous.is_some());
    log.close(cursor);
    assert!(log.previous.is_none());
}

#[test]
fn a_viewer_two_generations_behind_is_told_so() {
    let mut log = log(64);
    let mut cursor = log.open(Start::Live);
    log.append(b"one", Stamp(7));
    log.begin(generation(2));
    log.begin(generation(3));
    log.append(b"three", Stamp(7));
    let gap = Gap {
        from: at(1, 0),
        to: at(3, 0),
        length_known: false,
        reason: GapReason::GenerationPassed,
    };
    assert_eq!(log.next(&mut cursor, 64, 0), Next::Gap(gap));
    assert_eq!(log.next(&mut cursor, 64, 0), output(3, 0, b"three"));
    log.close(cursor);
    assert_eq!(log.current.cursors, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u8>),
    Interrupt,
    Begin,
    Boot,
    Open(Opening),
    Close(usize),
    Next(usize, usize, usize),
    Allow(usize),
}

/// Where a viewer begins, by what there is then.
#[derive(Clone, Debug)]
enum Opening {
    Live,
    Bytes(u64),
    Lines(u32),
    /// So many generations back, and so far into it, modulo a little more than its length.
    Resume(u64, u64),
    FromBoot,
}

fn opening() -> impl Strategy<Value = Opening> {
    prop_oneof![
        Just(Opening::Live),
        (0u64..300).prop_map(Opening::Bytes),
        (0u32..9).prop_map(Opening::Lines),
        (0u64..3, any::<u64>()).prop_map(|(back, offset)| Opening::Resume(back, offset)),
        Just(Opening::FromBoot),
    ]
}

fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![4 => any::<u8>(), 1 => Just(b'\n')]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(byte(), 1..200).prop_map(Step::Append),
        2 => Just(Step::Interrupt),
        1 => Just(Step::Begin),
        1 => Just(Step::Boot),
        1 => (0usize..1200).prop_map(Step::Allow),
        3 => opening().prop_map(Step::Open),
        1 => (0usize..8).prop_map(Step::Close),
        8 => (0usize..8, 1usize..300, 0usize..100).prop_map(|(who, max, hidden)| Step::Next(who, max, hidden)),
    ]
}

/// One viewer as a client sees it, checked against everything that was ever appended.
struct Viewer {
    cursor: Cursor,
    expected: Position,
    /// How many of its generation's interruptions it was told of, or came after.
    told: usize,
    /// Where a gap of unknown length ended: an interruption there may count as told by it.
    maybe_told_at: Option<u64>,
    /// What it is told first, if that is special.
    first: Beginning,
}

/// Everything that was ever appended, and where it was interrupted.
struct Truth {
    generations: Vec<Vec<u8>>,
    interruptions: Vec<Vec<u64>>,
    boots: Vec<Option<u64>>,
}

impl Truth {
    fn interruptions(&self, position: Position) -> &[u64] {
        &self.interruptions[position.generation.get() as usize - 1]
    }

    fn up_to(&self, position: Position) -> usize {
        self.interruptions(position)
            .iter()
            .filter(|i| **i <= position.offset)
            .count()
    }

    fn before(&self, position: Position) -> usize {
        self.interruptions(position)
            .iter()
            .filter(|i| **i < position.offset)
            .count()
    }

    fn untold(&self, viewer: &Viewer) -> &[u64] {
        &self.interruptions(viewer.expected)[viewer.told..]
    }

    /// Whether a viewer has an interruption to hear of before `offset`, for certain.
    fn untold_before(&self, viewer: &Viewer, offset: u64) -> bool {
        let certain = |i: &&u64| Some(**i) != viewer.maybe_told_at;
        self.untold(viewer)
            .iter()
            .filter(certain)
            .any(|untold| *untold < offset)
    }

    fn at_the_end_of_its_generation(&self, viewer: &Viewer) -> bool {
        let index = viewer.expected.generation.get() as usize - 1;
        viewer.expected.offset as usize == self.generations[index].len()
            && !self.untold_before(viewer, u64::MAX)
    }

    fn pushed(&self, number: u64) -> Option<&Vec<u8>> {
        self.generations
            .get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// Where the last `lines` lines begin, all of the generation kept.
    fn lines(pushed: &[u8], lines: u32) -> u64 {
        let all = pushed.split_inclusive(|byte| *byte == b'\n').rev();
        let last: usize = all.take(lines as usize).map(<[u8]>::len).sum();
        (pushed.len() - last) as u64
    }

    /// Where a viewer that begins so ought to be, and what it asks the log for.
    fn begin(&self, log: &OutputLog, opening: &Opening) -> (Start, Position, Beginning) {
        let newest = self.generations.len() as u64;
        let (pushed, oldest) = (&self.generations[newest as usize - 1], log.oldest());
        let end = pushed.len() as u64;
        let tail = |offset: u64| at(newest, offset.max(oldest.offset));
        match *opening {
            Opening::Live => (Start::Live, at(newest, end), Beginning::Told),
            Opening::Bytes(back) => {
                let from = tail(end.saturating_sub(back));
                (Start::TailBytes(back), from, Beginning::Told)
            }
            Opening::Lines(lines) => {
                let from = tail(Self::lines(pushed, lines));
                (Start::TailLines(lines), from, Beginning::Told)
            }
            Opening::Resume(back, offset) => {
                let number = newest.checked_sub(back).filter(|n| *n > 0).unwrap_or(999);
                let length = self.pushed(number).map_or(9, |pushed| pushed.len() as u64);
                let from = at(number, offset % (length + 3));
                let kept = number == newest
                    || log
                        .previous
                        .as_ref()
                        .is_some_and(|k| k.generation == from.generation);
                let beginning = if kept && from.offset <= length {
                    Beginning::Placed
                } else {
                    Beginning::Nowhere
                };
                (Start::Resume(from), from, beginning)
            }
            Opening::FromBoot => {
                let boot = self.boots[newest as usize - 1];
                let beginning = boot.map_or(Beginning::NoBoot, |_| Beginning::Placed);
                (Start::FromBoot, at(newest, boot.unwrap_or(0)), beginning)
            }
        }
    }

    /// What a viewer is told first of where it begins.
    fn check_first(
        &self,
        viewer: &mut Viewer,
        next: &Next,
        oldest: Position,
    ) -> Result<bool, TestCaseError> {
        let first = std::mem::take(&mut viewer.first);
        let here = viewer.expected.generation == oldest.generation;
        match (first, next) {
            (Beginning::Nowhere, Next::Gap(gap)) => {
                prop_assert_eq!(gap.from, viewer.expected);
                prop_assert_eq!(gap.to, oldest);
                prop_assert!(!gap.length_known);
                prop_assert_eq!(gap.reason, GapReason::GenerationPassed);
                viewer.told = self.before(gap.to);
                viewer.maybe_told_at = Some(gap.to.offset);
            }
            (Beginning::NoBoot, Next::Gap(gap)) if gap.reason != GapReason::GenerationPassed => {
                prop_assert_eq!(gap.from, viewer.expected);
                prop_assert!(!here || gap.to == oldest);
                prop_assert!(!gap.length_known);
                viewer.told = self.up_to(gap.to);
            }
            (Beginning::Placed, Next::Gap(gap)) if here && gap.from.offset < oldest.offset => {
                prop_assert_eq!(gap.to, oldest, "all that is kept");
                return Ok(false);
            }
            (Beginning::Nowhere, other) => {
                return Err(TestCaseError::fail(format!("no gap but {other:?}")));
            }
            _ => return Ok(false),
        }
        if let Next::Gap(gap) = next {
            viewer.expected = gap.to;
        }
        Ok(true)
    }

    fn check(&self, viewer: &mut Viewer, next: &Next) -> Result<(), TestCaseError> {
        match next {
            Next::Output {
                position, bytes, ..
            } => {
                prop_assert_eq!(*position, viewer.expected);
                let from = position.offset as usize;
                let pushed = &self.generations[position.generation.get() as usize - 1];
                prop_assert_eq!(&pushed[from..from + bytes.len()], &bytes[..]);
                let to = position.offset + bytes.len() as u64;
                prop_assert!(
                    !self.untold_before(viewer, to),
                    "an interruption was passed over"
                );
                viewer.expected.offset = to;
            }
            Next::Gap(gap) => {
                prop_assert_eq!(gap.from, viewer.expected);
                match gap.reason {
                    GapReason::Overrun if gap.length_known => {
                        prop_assert!(!self.untold_before(viewer, gap.to.offset));
                        prop_assert!(gap.to.offset > gap.from.offset);
                        viewer.told = viewer.told.max(self.before(gap.to));
                    }
                    GapReason::Overrun => {
                        prop_assert!(self.untold(viewer).iter().any(|i| *i <= gap.to.offset));
                        viewer.told = viewer.told.max(self.before(gap.to));
                        viewer.maybe_told_at = Some(gap.to.offset);
                    }
                    GapReason::NotAttached => {
                        prop_assert!(self.interruptions(gap.to).contains(&gap.to.offset));
                        prop_assert_eq!(gap.to, gap.from);
                        viewer.told = self.up_to(gap.to);
                    }
                    GapReason::GenerationPassed => {
                        prop_assert!(gap.to.generation > gap.from.generation);
                        viewer.told = self.before(gap.to);
                        viewer.maybe_told_at = Some(gap.to.offset);
                    }
                }
                viewer.expected = gap.to;
            }
            Next::GenerationStarted(position) => {
                prop_assert!(self.at_the_end_of_its_generation(viewer));
                prop_assert_eq!(*position, at(viewer.expected.generation.get() + 1, 0));
                viewer.expected = *position;
                viewer.told = 0;
                viewer.maybe_told_at = None;
            }
            Next::Idle => {
                let newest = self.generations.len() as u64;
                prop_assert_eq!(viewer.expected.generation.get(), newest);
                prop_assert!(self.at_the_end_of_its_generation(viewer));
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn any_interleaving_joined_with_its_gaps_is_contiguous_and_equals_what_was_pushed(
        limit in 1usize..600,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut log = log(limit);
        let mut truth = Truth {
            generations: vec![vec![]],
            interruptions: vec![vec![]],
            boots: vec![None],
        };
        let mut viewers: Vec<Viewer> = Vec::new();
        for step in steps {
            match step {
                Step::Append(bytes) => {
                    log.append(&bytes, Stamp(7));
                    truth.generations.last_mut().unwrap().extend_from_slice(&bytes);
                }
                Step::Interrupt => {
                    log.interrupt();
                    truth.interruptions.last_mut().unwrap().push(log.head().offset);
                }
                Step::Allow(bytes) => {
                    log.allow(bytes);
                    prop_assert!(log.allocated() <= bytes);
                }
                Step::Begin => {
                    log.begin(generation(truth.generations.len() as u64 + 1));
                    truth.generations.push(vec![]);
                    truth.interruptions.push(vec![]);
                    truth.boots.push(None);
                }
                Step::Boot => {
                    log.boot(Stamp(8));
                    *truth.boots.last_mut().unwrap() = Some(log.head().offset);
                }
                Step::Open(opening) => {
                    let (start, expected, first) = truth.begin(&log, &opening);
                    let mut other = log.open(start);
                    let interrupted = log.begins_interrupted(&other);
                    let next = log.next(&mut other, 64, 0);
                    let in_place = matches!(next, Next::Gap(gap) if gap.from == gap.to);
                    prop_assert_eq!(interrupted, in_place, "{:?}", next);
                    log.close(other);

                    let cursor = log.open(start);
                    prop_assert_eq!(cursor.position(), expected);
                    let told = match first {
                        Beginning::Nowhere => 0,
                        Beginning::Told => truth.up_to(expected),
                        Beginning::Placed | Beginning::NoBoot => truth.before(expected),
                    };
                    viewers.push(Viewer { cursor, expected, told, maybe_told_at: None, first });
                }
                Step::Close(who) if who < viewers.len() => log.close(viewers.remove(who).cursor),
                Step::Next(who, max, hidden) if who < viewers.len() => {
                    let viewer = &mut viewers[who];
                    let (oldest, whole) = (log.oldest(), viewer.expected.generation);
                    let all_told = log.is_told(&viewer.cursor, whole);
                    let next = log.next(&mut viewer.cursor, max, hidden);
                    if hidden == 0 {
                        let at_end = matches!(next, Next::Idle | Next::GenerationStarted(_));
                        prop_assert_eq!(all_told, at_end);
                    }
                    let first = truth.check_first(viewer, &next, oldest)?;
                    // Idle with something hidden is no end.
                    if !first && (next != Next::Idle || hidden == 0) {
                        truth.check(viewer, &next)?;
                    }
                    prop_assert_eq!(viewer.cursor.position(), viewer.expected);
                }
                Step::Close(_) | Step::Next(..) => {}
            }
            prop_assert!(log.current.ring.allocated() <= limit);
            prop_assert!(log.allocated() <= 2 * limit);
        }
        // Everybody reads to the end, and then nobody is left counted.
        for mut viewer in viewers {
            loop {
                let oldest = log.oldest();
                let next = log.next(&mut viewer.cursor, 64, 0);
                if !truth.check_first(&mut viewer, &next, oldest)? {
                    truth.check(&mut viewer, &next)?;
                }
                if next == Next::Idle { break; }
            }
            log.close(viewer.cursor);
        }
        prop_assert_eq!(log.current.cursors, 0);
        prop_assert!(log.previous.is_none());
    }
}
