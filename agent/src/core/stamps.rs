//! About when each part of a ring was read, within a fixed amount of memory.
//!
//! A stamp covers the bytes up to its offset. Appends close together share one; when
//! there are too many, every second one goes, and what it covered takes the next one's.

use std::collections::VecDeque;

/// Microseconds since the Unix epoch, by the host's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u64);

/// The most stamps that are kept for one ring.
pub const MAX_STAMPS: usize = 128;

/// Appends within so many microseconds share a stamp.
pub const SHARED_MICROS: u64 = 100_000;

/// About when each part of a ring was read.
#[derive(Debug, Default)]
pub struct Stamps {
    /// End offset, time of the first append it covers, time of the last.
    marks: VecDeque<(u64, Stamp, Stamp)>,
}

impl Stamps {
    /// Bytes up to `end` were read at `time`.
    pub fn appended(&mut self, end: u64, time: Stamp) {
        match self.marks.back_mut() {
            Some((last, first, newest)) if time.0 < first.0.saturating_add(SHARED_MICROS) => {
                *last = end;
                *newest = time;
            }
            _ => self.marks.push_back((end, time, time)),
        }
        if self.marks.len() > MAX_STAMPS {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// Where what was read at `time` or later begins. What shares a stamp with it, and so was
    /// read up to [`SHARED_MICROS`] before, or longer before where stamps were thinned out,
    /// counts as of it: never too little.
    pub fn since(&self, time: Stamp) -> u64 {
        let mut newest_first = self.marks.iter().rev();
        newest_first
            .find(|(_, _, newest)| *newest < time)
            .map_or(0, |(end, ..)| *end)
    }

    /// About when the byte before `end` was read.
    pub fn at(&self, end: u64) -> Stamp {
        let index = self.marks.partition_point(|(covered, ..)| *covered < end);
        self.marks
            .get(index)
            .or(self.marks.back())
            .map_or(Stamp(0), |(_, _, time)| *time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_close_together_share_a_stamp_and_others_do_not() {
        let mut stamps = Stamps::default();
        stamps.appended(10, Stamp(1_000_000));
        stamps.appended(20, Stamp(1_000_500));
        stamps.appended(30, Stamp(5_000_000));
        assert_eq!(stamps.at(5), Stamp(1_000_500));
        assert_eq!(stamps.at(20), Stamp(1_000_500));
        assert_eq!(stamps.at(21), Stamp(5_000_000));
    }

    #[test]
    fn what_was_read_since_a_time_begins_with_the_stamp_that_has_it() {
        let mut stamps = Stamps::default();
        assert_eq!(stamps.since(Stamp(1)), 0);
        stamps.appended(10, Stamp(1_000_000));
        stamps.appended(20, Stamp(2_000_000));
        stamps.appended(30, Stamp(2_000_500));
        assert_eq!(stamps.since(Stamp(500_000)), 0);
        assert_eq!(stamps.since(Stamp(1_500_000)), 10);
        assert_eq!(
            stamps.since(Stamp(2_000_200)),
            10,
            "rather more than too little"
        );
        assert_eq!(stamps.since(Stamp(3_000_000)), 30);
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stamp_stays_right() {
        let mut stamps = Stamps::default();
        for step in 1..100_000u64 {
            stamps.appended(step, Stamp(step * SHARED_MICROS));
            assert!(stamps.marks.len() <= MAX_STAMPS);
            assert_eq!(stamps.at(step), Stamp(step * SHARED_MICROS));
        }
        assert!(stamps.at(50_000) >= Stamp(50_000 * SHARED_MICROS));
    }
}
