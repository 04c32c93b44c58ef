use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A reader that obeys a pace, on a simulated clock.
struct Reader {
    pace: Pace,
    now: Instant,
    /// Bytes in the kernel, each with when it came.
    waiting: VecDeque<Instant>,
    /// When it may read again.
    resting_until: Option<Instant>,
    reads: usize,
    longest: usize,
    longest_wait: Duration,
}

impl Reader {
    fn new(buffer: Buffer) -> Self {
        Self {
            pace: Pace::new(buffer),
            now: Instant::now() + Duration::from_secs(60),
            waiting: VecDeque::new(),
            resting_until: None,
            reads: 0,
            longest: 0,
            longest_wait: Duration::ZERO,
        }
    }

    /// `bytes` come after `pause`; returns how long the first of them waited, if it was read
    /// by the time that it came.
    fn come(&mut self, pause: Duration, bytes: usize) {
        let then = self.now + pause;
        while let Some(until) = self.resting_until.filter(|until| *until <= then) {
            self.now = until;
            self.resting_until = None;
            self.read();
        }
        self.now = then;
        self.waiting.extend(std::iter::repeat_n(then, bytes));
        if self.resting_until.is_none() {
            self.read();
        }
    }

    fn read(&mut self) {
        let Some(first) = self.waiting.front() else {
            self.pace.nothing_came();
            return;
        };
        self.longest_wait = self.longest_wait.max(self.now - *first);
        self.longest = self.longest.max(self.waiting.len());
        self.reads += 1;
        let next = self.pace.read(self.waiting.len(), self.now);
        self.waiting.clear();
        if let Next::Rest(rest) = next {
            self.resting_until = Some(self.now + rest);
        }
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn what_comes_now_and_then_is_read_as_it_comes() {
    let mut reader = Reader::new(Buffer::UNIX);
    for _ in 0..10_000 {
        reader.come(2 * MS, 1);
    }
    assert_eq!(
        (reader.reads, reader.longest_wait),
        (10_000, Duration::ZERO)
    );
}

#[test]
fn a_short_burst_is_read_as_it_comes() {
    let mut reader = Reader::new(Buffer::UNIX);
    for _ in 0..BURST {
        reader.come(MS / 10, 17);
    }
    assert_eq!(reader.longest_wait, Duration::ZERO);
    reader.come(MS / 10, 17);
    reader.come(MS / 10, 17);
    reader.come(100 * MS, 1);
    assert!(reader.longest_wait > Duration::ZERO);
    assert!(reader.waiting.is_empty());
}

/// A 16550 at `rate` bytes a second, one by one, for a second.
fn flood(buffer: Buffer, rate: u32) -> Reader {
    let mut reader = Reader::new(buffer);
    for _ in 0..rate {
        reader.come(Duration::from_secs(1) / rate, 1);
    }
    reader
}

#[test]
fn a_flooding_16550_is_read_often_enough_for_its_socket_and_not_more() {
    for rate in [20_000, 180_000, 500_000] {
        let reader = flood(Buffer::UNIX, rate);
        assert!(reader.longest < 278 * 3 / 4, "{rate}: {}", reader.longest);
        assert!(reader.reads <= 4100, "{rate}: {}", reader.reads);
    }
    let reader = flood(Buffer::PTY, 180_000);
    assert!(reader.longest < 4096 / 4, "{}", reader.longest);
    assert!(reader.reads <= 600, "{}", reader.reads);
}

#[test]
fn bulk_does_not_rest() {
    let mut pace = Pace::new(Buffer::UNIX);
    let mut now = Instant::now();
    for _ in 0..1000 {
        assert_eq!(pace.read(Buffer::UNIX.bulk, now), Next::WhenReady);
        now += MS / 100;
    }
    // Middling pieces, of which very many come: one rest shows that, and then none for long.
    let mut rests = 0;
    for _ in 0..10_000 {
        if pace.read(1000, now) != Next::WhenReady {
            rests += 1;
            assert_eq!(pace.read(Buffer::UNIX.bulk, now), Next::WhenReady);
        }
        now += MS / 100;
    }
    assert!((1..=2).contains(&rests), "{rests}");
}

#[test]
fn an_answer_to_input_is_not_made_to_wait() {
    let mut pace = Pace::new(Buffer::PTY);
    let now = Instant::now();
    while pace.read(1, now) == Next::WhenReady {}
    pace.input_written();
    assert_eq!(pace.read(1, now), Next::WhenReady);
    assert!(matches!(pace.read(1, now), Next::Rest(_)));
    pace.input_written();
    pace.nothing_came();
    assert_eq!(pace.read(1, now), Next::WhenReady, "it came a little later");
}

proptest! {
    #[test]
    fn no_byte_waits_longer_than_a_rest_and_none_after_a_pause(
        steps in prop::collection::vec((0_u64..4000, 1_usize..200), 1..2000),
    ) {
        let mut reader = Reader::new(Buffer::UNIX);
        let begun = reader.now;
        for (micros, bytes) in steps {
            let pause = Duration::from_micros(micros);
            reader.come(pause, bytes);
            // The rest after the last read of a run finds that nothing more came.
            if pause > 2 * LONGEST_REST {
                prop_assert!(reader.waiting.is_empty(), "the first after a pause waits");
            }
            prop_assert!(reader.longest_wait <= LONGEST_REST);
        }
        let most = (reader.now - begun).as_micros() / SHORTEST_REST.as_micros();
        prop_assert!(reader.reads as u128 <= most + u128::from(BURST) + 1);
    }
}
