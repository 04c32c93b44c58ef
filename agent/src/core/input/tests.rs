use proptest::prelude::*;

use super::*;

const EPOCH: Epoch = Epoch(1);

fn queue(bytes: &[u8]) -> InputQueue {
    let mut queue = InputQueue::default();
    queue.push(0, EPOCH, bytes, Ok(())).unwrap();
    queue
}

fn refused(from: u64, to: u64, reason: Reason) -> Refused {
    Refused { from, to, reason }
}

#[test]
fn what_was_sent_twice_is_written_once() {
    let mut queue = queue(b"abc");
    queue.push(1, EPOCH, b"bcd", Ok(())).unwrap();
    queue.push(0, EPOCH, b"ab", Ok(())).unwrap();
    assert_eq!(queue.begin_write(99).unwrap(), "abcd");
}

#[test]
fn missing_bytes_are_an_error() {
    let mut queue = queue(b"abc");
    let error = queue.push(5, EPOCH, b"x", Ok(())).unwrap_err();
    assert_eq!(
        error,
        InputError::Ahead {
            offset: 5,
            expected: 3
        }
    );
}

#[test]
fn the_window_opens_as_bytes_are_written() {
    let full = vec![b'x'; INPUT_WINDOW as usize];
    let mut queue = queue(&full);
    let error = queue.push(INPUT_WINDOW, EPOCH, b"y", Ok(())).unwrap_err();
    assert_eq!(
        error,
        InputError::PastWindow {
            end: INPUT_WINDOW + 1,
            limit: INPUT_WINDOW
        }
    );
    assert_eq!(queue.begin_write(10).unwrap().len(), 10);
    assert_eq!(queue.begin_write(10), None, "one write at a time");
    queue.settle(4, 0);
    assert_eq!(queue.done(), 4);
    assert_eq!(queue.push(INPUT_WINDOW, EPOCH, b"yyyy", Ok(())), Ok(()));
}

#[test]
fn a_takeover_refuses_what_waits_and_counts_what_was_taken() {
    let mut queue = queue(b"abcdef");
    assert_eq!(queue.begin_write(3).unwrap(), "abc");
    queue.refuse_pending(Reason::TakenOver);
    assert_eq!(queue.done(), 0, "not settled yet");
    queue.settle(2, 0);
    assert_eq!(queue.done(), 6);
    assert_eq!(queue.take_refused(), [refused(2, 6, Reason::TakenOver)]);
}

#[test]
fn input_refused_while_a_write_is_in_flight_keeps_the_count() {
    let mut queue = queue(b"abc");
    assert_eq!(queue.begin_write(3).unwrap(), "abc");
    queue
        .push(3, Epoch(0), b"de", Err(Reason::LeaseHeld))
        .unwrap();
    assert_eq!(queue.done(), 0);
    queue.settle(3, 0);
    assert_eq!(queue.done(), 5);
    assert_eq!(queue.take_refused(), [refused(3, 5, Reason::LeaseHeld)]);
}

#[test]
fn what_was_in_flight_when_the_endpoint_broke_is_refused_alone() {
    let mut queue = queue(b"abcdef");
    assert_eq!(queue.begin_write(3).unwrap(), "abc");
    queue.refuse_in_flight(Reason::EndpointLost);
    assert_eq!(queue.take_refused(), [refused(0, 3, Reason::EndpointLost)]);
    assert_eq!(queue.begin_write(9).unwrap(), "def");
}

#[test]
fn refusals_that_nobody_reads_are_bounded() {
    let mut queue = InputQueue::default();
    let reasons = [Reason::LeaseHeld, Reason::TakenOver];
    let mut push = |offset: usize| {
        let expected = queue.expected();
        queue.push(expected, EPOCH, b"x", Err(reasons[offset % 2]))
    };
    assert!((0..MAX_REFUSED).all(|offset| push(offset).is_ok()));
    assert!((0..1000).all(|offset| push(offset) == Err(InputError::Unread)));
    assert_eq!(queue.take_refused().len(), MAX_REFUSED);
}

#[test]
fn what_was_told_on_a_stream_that_broke_is_told_again_before_what_is_new() {
    let mut queue = InputQueue::default();
    let reasons = [Reason::LeaseHeld, Reason::TakenOver];
    for offset in 0..100 {
        let verdict = Err(reasons[offset as usize % 2]);
        queue.push(offset, EPOCH, b"x", verdict).unwrap();
        assert_eq!(queue.take_refused().len(), 1);
    }
    queue
        .push(100, EPOCH, b"x", Err(Reason::NotRunning))
        .unwrap();
    queue.tell_again();
    queue.tell_again();
    let told = queue.take_refused();
    let offsets: Vec<u64> = told.iter().map(|one| one.from).collect();
    assert_eq!(offsets, (36..101).collect::<Vec<u64>>());
    assert!(queue.take_refused().is_empty());
}

proptest! {
    #[test]
    fn every_byte_is_written_or_refused_once_and_in_order(
        steps in prop::collection::vec((0u8..6, 1usize..50), 0..300),
    ) {
        let mut queue = InputQueue::default();
        let (mut sent, mut epoch) = (0u64, 1u64);
        let mut in_flight: Option<Bytes> = None;
        let mut fate: Vec<bool> = Vec::new();
        let mut written_at = 0u64;
        let byte = |offset: u64| (offset % 251) as u8;
        for (what, amount) in steps {
            match what {
                0 | 1 => {
                    let bytes: Vec<u8> = (sent..sent + amount as u64).map(byte).collect();
                    let verdict = if what == 0 { Ok(()) } else { Err(Reason::LeaseHeld) };
                    if queue.push(sent, Epoch(epoch), &bytes, verdict).is_ok() {
                        sent += amount as u64;
                    }
                }
                2 => if in_flight.is_none() {
                    in_flight = queue.begin_write(amount);
                    written_at = queue.done();
                },
                3 | 4 => if let Some(bytes) = in_flight.take() {
                    let taken = bytes.len().min(amount);
                    let expected: Vec<u8> =
                        (written_at..written_at + taken as u64).map(byte).collect();
                    prop_assert_eq!(&bytes[..taken], &expected[..]);
                    queue.settle(taken, 0);
                    fate.resize(fate.len().max(written_at as usize + taken), false);
                    for offset in written_at..written_at + taken as u64 {
                        prop_assert!(!std::mem::replace(&mut fate[offset as usize], true), "twice");
                    }
                },
                _ => {
                    queue.refuse_pending(Reason::TakenOver);
                    epoch += 1;
                }
            }
            for gone in queue.take_refused() {
                fate.resize(fate.len().max(gone.to as usize), false);
                for offset in gone.from..gone.to {
                    prop_assert!(!std::mem::replace(&mut fate[offset as usize], true), "twice");
                }
            }
            prop_assert_eq!(queue.expected(), sent);
            prop_assert!(sent - queue.done() <= INPUT_WINDOW);
            prop_assert!(fate.iter().take(queue.done() as usize).all(|done| *done));
            prop_assert!(fate.len() >= queue.done() as usize);
        }
    }
}

proptest! {
    /// A client that keeps what it sent until it is done with, and after each break goes on
    /// at the offset that it is told.
    #[test]
    fn through_any_number_of_streams_each_byte_is_typed_once_and_in_order(
        steps in prop::collection::vec((0u8..5, 1usize..3000), 0..300),
    ) {
        let mut queue = InputQueue::default();
        let byte = |offset: u64| (offset % 251) as u8;
        let (mut sent, mut typed) = (0u64, Vec::new());
        for (what, amount) in steps {
            let amount = amount as u64;
            match what {
                // Sent, and received.
                0 | 1 => {
                    let bytes: Vec<u8> = (sent..sent + amount).map(byte).collect();
                    if queue.push(sent, EPOCH, &bytes, Ok(())).is_ok() {
                        sent += amount;
                    }
                }
                // Sent, and lost with its stream; the next one begins where the agent says.
                2 => {
                    queue.tell_again();
                    sent = queue.expected();
                }
                // Sent again from before that, which a client may.
                3 => {
                    let from = sent.saturating_sub(amount);
                    let bytes: Vec<u8> = (from..sent).map(byte).collect();
                    prop_assert_eq!(queue.push(from, EPOCH, &bytes, Ok(())), Ok(()));
                }
                _ => {
                    if let Some(bytes) = queue.begin_write(amount as usize) {
                        let taken = bytes.len().div_ceil(2);
                        typed.extend_from_slice(&bytes[..taken]);
                        queue.settle(taken, 0);
                    }
                }
            }
            let expected: Vec<u8> = (0..queue.done()).map(byte).collect();
            prop_assert_eq!(&typed, &expected);
            prop_assert_eq!(queue.expected(), sent);
        }
    }
}
