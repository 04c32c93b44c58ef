//! The windows against an agent that does what the interface says.

use proptest::prelude::*;

use super::*;

const GENERATION: u64 = 7;

fn at(offset: u64) -> Position {
    Position {
        generation: GENERATION,
        offset,
    }
}

#[test]
fn input_stops_at_the_window_and_goes_on_with_the_ack() {
    let mut window = InputWindow::new(0, 10);
    assert_eq!(window.allowance(), 10);
    assert_eq!(window.send(10), 0);
    assert_eq!(window.allowance(), 0);
    assert!(!window.settled());
    assert_eq!(window.acked(4, 10), Ok(true));
    assert_eq!(window.allowance(), 4);
    assert_eq!(window.send(4), 10);
    assert_eq!(window.acked(14, 0), Ok(true));
    assert!(window.settled());
    assert_eq!(window.allowance(), 0);
}

#[test]
fn one_input_carries_no_more_than_the_interface_allows() {
    assert_eq!(InputWindow::new(0, u64::MAX).allowance(), MAX_INPUT_BYTES);
}

#[test]
fn an_ack_of_what_was_not_sent_is_not_taken() {
    let mut window = InputWindow::new(5, 10);
    window.send(2);
    assert_eq!(
        window.acked(8, 10),
        Err(Fault::InputAck {
            offset: 8,
            acked: 5,
            sent: 7
        })
    );
    assert!(window.acked(4, 10).is_err());
    assert_eq!(window.acked(7, 10), Ok(true));
    assert_eq!(window.acked(7, 3), Ok(false));
    assert_eq!(window.allowance(), 3);
}

#[test]
fn no_more_is_sent_than_is_kept_whatever_the_agent_allows() {
    let mut window = InputWindow::new(0, u64::MAX);
    while window.allowance() > 0 {
        window.send(window.allowance());
    }
    assert_eq!(window.resumed(0, u64::MAX), Ok(MAX_KEPT_BYTES));
}

#[test]
fn after_a_break_only_what_is_written_of_the_new_stream_is_acknowledged() {
    let dealt = |bytes, messages| Dealt { bytes, messages };
    let mut window = OutputWindow::new(4096, at(0));
    assert_eq!(window.output(Some(at(0)), 3000), Ok(()));
    assert_eq!(window.reopened(Some(at(3000))), Ok(()));
    assert_eq!(window.unwritten(), 1);
    // A whole window, beside what is still to be written.
    assert_eq!(window.output(Some(at(3000)), 4096), Ok(()));
    window.written(at(3000), dealt(3000, 1));
    assert_eq!(window.take_ack(), None);
    window.state(STATES_PER_ACK);
    assert_eq!(window.take_ack(), Some(at(3000)));
    window.written(at(7096), dealt(7096, 2));
    assert_eq!((window.take_ack(), window.unwritten()), (Some(at(7096)), 0));
    let elsewhere = window.reopened(Some(at(1)));
    assert!(matches!(elsewhere, Err(Fault::NotContiguous { .. })));
}

#[test]
fn output_gaps_and_generations_are_joined() {
    let mut window = OutputWindow::new(4096, at(100));
    assert_eq!(window.output(Some(at(100)), 10), Ok(()));
    let gap = Gap {
        from: Some(at(110)),
        to: Some(at(500)),
        ..Default::default()
    };
    assert_eq!(window.gap(&gap), Ok(()));
    assert_eq!(window.output(Some(at(500)), 1), Ok(()));
    let next = Position {
        generation: 8,
        offset: 0,
    };
    assert_eq!(window.generation(Some(next)), Ok(()));
    assert_eq!(window.output(Some(next), 3), Ok(()));
    assert_eq!(
        window.expected(),
        Position {
            generation: 8,
            offset: 3
        }
    );
}

#[test]
fn a_gap_may_lead_into_a_generation_before_it_is_told_to_start() {
    let mut window = OutputWindow::new(4096, at(0));
    let inside = Position {
        generation: 9,
        offset: 40,
    };
    let gap = Gap {
        from: Some(at(0)),
        to: Some(inside),
        ..Default::default()
    };
    assert_eq!(window.gap(&gap), Ok(()));
    assert_eq!(
        window.generation(Some(Position {
            generation: 9,
            offset: 0
        })),
        Ok(())
    );
    assert_eq!(window.output(Some(inside), 1), Ok(()));
}

#[test]
fn a_break_is_told_once_and_output_goes_on_from_there() {
    let mut window = OutputWindow::new(4096, at(0));
    let fault = Fault::NotContiguous {
        expected: at(0),
        got: at(5),
    };
    assert_eq!(window.output(Some(at(5)), 5), Err(fault));
    assert_eq!(window.output(Some(at(10)), 5), Ok(()));
    assert_eq!(window.output(None, 5), Err(Fault::NoPosition));
    assert!(fault.to_string().contains("0000000000000007+5"));
}

#[test]
fn an_overrun_is_noticed_by_bytes_and_by_messages() {
    let mut window = OutputWindow::new(4096, at(0));
    assert_eq!(window.output(Some(at(0)), 4096), Ok(()));
    assert_eq!(
        window.output(Some(at(4096)), 1),
        Err(Fault::Overrun { window: 4096 })
    );
    let mut window = OutputWindow::new(4096, at(0));
    for offset in 0..MAX_UNACKED_MESSAGES {
        assert_eq!(window.output(Some(at(offset)), 1), Ok(()));
    }
    let overrun = window.output(Some(at(MAX_UNACKED_MESSAGES)), 1);
    assert_eq!(overrun, Err(Fault::Overrun { window: 4096 }));
}

proptest! {
    /// An agent that sends all it may, and a writer that writes at any pace: the window is
    /// never overrun, acknowledgements only grow, and neither side ever waits for the other.
    #[test]
    fn a_well_behaved_agent_never_stalls_and_never_overruns(
        size in 4096u64..20_000,
        frames in proptest::collection::vec(1u64..6000, 1..200),
        pace in proptest::collection::vec(0usize..5, 1..50),
    ) {
        let mut window = OutputWindow::new(size, at(0));
        let (mut sent, mut acked, mut unacked_messages) = (0, 0, 0u64);
        let mut unwritten = std::collections::VecDeque::new();
        let mut dealt = Dealt::default();
        let mut frames = frames.into_iter();
        let mut pace = pace.into_iter().cycle();
        let mut waiting = frames.next();
        while waiting.is_some() || !unwritten.is_empty() {
            let room = size - (sent - acked);
            let mut moved = false;
            if let Some(frame) = waiting.filter(|_| room > 0 && unacked_messages < 1024) {
                let len = frame.min(room);
                prop_assert_eq!(window.output(Some(at(sent)), len as usize), Ok(()));
                sent += len;
                unacked_messages += 1;
                unwritten.push_back(len);
                waiting = if len == frame { frames.next() } else { Some(frame - len) };
                moved = true;
            }
            let writes = if moved { pace.next().unwrap() } else { 1 };
            for len in (0..writes).map_while(|_| unwritten.pop_front()) {
                dealt = Dealt { bytes: dealt.bytes + len, messages: dealt.messages + 1 };
                window.written(at(dealt.bytes), dealt);
                moved = true;
            }
            if let Some(position) = window.take_ack() {
                prop_assert!(position.offset > acked && position.offset <= sent);
                acked = position.offset;
                unacked_messages = unwritten.len() as u64;
                moved = true;
            }
            prop_assert!(moved, "stalled at {} of {}", acked, sent);
        }
        prop_assert_eq!(window.expected(), at(sent));
    }
}
