//! The machine alone: windows, offsets, half-close and the lease.

use proptest::collection::vec;
use proptest::prelude::*;
use vmconsole_proto::v1::relay_graphics_request::Message as ToDisplay;
use vmconsole_proto::v1::stream_console_request::Message as ToSerial;
use vmconsole_proto::v1::{
    Closed, Gap, InputAck, Participant, Position, Reason, RelayAck, WriterChanged, WriterRefused,
};

use super::*;
use crate::relay::wire::{Display, Event, Serial};

/// How many bytes a tiny window has.
const TINY: u64 = 10;

fn display(input_window: u64) -> Session<Display> {
    let opening = Opening {
        writes: true,
        input_window,
        ..Default::default()
    };
    Session::open(opening, &Wish::Write, false).0
}

fn serial(wish: &Wish, view_otherwise: bool, writes: bool) -> Session<Serial> {
    let opening = Opening {
        writes,
        epoch: 3,
        position: at(1, 0).unwrap(),
        input_window: TINY,
        ..Default::default()
    };
    Session::open(opening, wish, view_otherwise).0
}

fn at(generation: u64, offset: u64) -> Option<Position> {
    Some(Position { generation, offset })
}

fn data(offset: u64, len: usize) -> Event {
    Event::Data(at(0, offset), Bytes::from(vec![7; len]))
}

fn ack(offset: u64, window: u64) -> Event {
    Event::InputAck(InputAck { offset, window })
}

/// The next message, if it carries bytes: their offset, and they.
fn sent(session: &mut Session<Display>) -> Option<(u64, Bytes)> {
    match session.next_request()?.message? {
        ToDisplay::Data(data) => Some((data.offset, data.data)),
        other => panic!("{other:?}"),
    }
}

fn typed(session: &mut Session<Serial>) -> Option<(u64, u64, Bytes)> {
    match session.next_request()?.message? {
        ToSerial::Input(input) => Some((input.offset, input.write_epoch, input.data)),
        other => panic!("{other:?}"),
    }
}

fn notices(effects: &[Effect]) -> String {
    let texts = effects.iter().filter_map(|effect| match effect {
        Effect::Notice(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("; ")
}

proptest! {
    #[test]
    fn input_is_whole_and_in_order_and_never_beyond_the_window(
        input in vec(any::<u8>(), 1..400),
        reads in vec(1_usize..30, 1..20),
        windows in vec(1_u64..40, 1..20),
    ) {
        let mut session = display(windows[0]);
        let (mut reads, mut windows) = (reads.into_iter().cycle(), windows.into_iter().cycle());
        let (mut read, mut out, mut limit) = (0, Vec::new(), windows.next().unwrap());
        while out.len() < input.len() {
            let room = session.room().min(reads.next().unwrap()).min(input.len() - read);
            if room > 0 {
                session.read(Bytes::copy_from_slice(&input[read..read + room]));
                read += room;
            }
            while let Some((offset, bytes)) = sent(&mut session) {
                prop_assert_eq!(offset, out.len() as u64);
                out.extend_from_slice(&bytes);
                prop_assert!(!bytes.is_empty() && out.len() as u64 <= limit);
            }
            if read == input.len() && out.len() == input.len() {
                break;
            }
            let window = windows.next().unwrap();
            limit = out.len() as u64 + window;
            prop_assert!(session.receive(ack(out.len() as u64, window)).is_empty());
        }
        prop_assert_eq!(out, input);
    }

    #[test]
    fn output_is_acknowledged_as_it_is_written_and_never_before(
        frames in vec(1_usize..70_000, 1..60),
        writes in vec(1_usize..100_000, 1..30),
    ) {
        let mut session = display(0);
        let (mut frames, mut writes) = (frames.into_iter(), writes.into_iter().cycle());
        let (mut came, mut written, mut acked) = (0_u64, 0_u64, 0_u64);
        let mut next = frames.next();
        while next.is_some() || written < came {
            // As the agent does: a frame is made to fit.
            let room = usize::try_from(OUTPUT_WINDOW - (came - acked)).unwrap();
            if let Some(frame) = next && room > 0 {
                let len = frame.min(room).min(65_536);
                prop_assert_eq!(session.receive(data(came, len)), vec![]);
                came += len as u64;
                next = frames.next();
            } else {
                let len = writes.next().unwrap().min((came - written) as usize);
                session.wrote(len);
                written += len as u64;
            }
            while let Some(request) = session.next_request() {
                let Some(ToDisplay::Ack(RelayAck { offset })) = request.message else {
                    panic!("{request:?}")
                };
                prop_assert!(offset >= acked && offset <= written);
                acked = offset;
            }
            prop_assert!(written - acked < OUTPUT_WINDOW / 2);
        }
    }
}

#[test]
fn what_is_not_written_is_not_acknowledged_and_more_than_the_window_is_a_fault() {
    let mut session = display(0);
    for frame in 0..OUTPUT_WINDOW >> 16 {
        assert!(session.receive(data(frame << 16, 65_536)).is_empty());
    }
    assert!(!session.has_request());
    let effects = session.receive(data(OUTPUT_WINDOW, 1));
    assert!(effects.contains(&Effect::Leave(Exit::Failed)));
    assert!(notices(&effects).contains("overrun"), "{effects:?}");
}

#[test]
fn once_our_side_has_ended_there_is_no_window_and_only_what_waits_is_bounded() {
    let mut session = display(0);
    session.local_ended();
    assert!(session.half_closes());
    session.half_closed();
    let mut came = 0;
    while came < 4 * OUTPUT_WINDOW {
        while session.takes() {
            assert_eq!(session.receive(data(came, 65_536)), vec![]);
            came += 65_536;
        }
        session.wrote(100_000);
        assert!(session.takes());
    }
    let effects = session.receive(data(came + 1, 1));
    assert!(effects.contains(&Effect::Leave(Exit::Failed)));
}

#[test]
fn a_display_ends_with_a_wrong_offset_and_nothing_of_it_is_written() {
    let mut session = display(0);
    session.receive(data(0, 5));
    let effects = session.receive(data(6, 1));
    assert!(effects.contains(&Effect::Leave(Exit::Failed)));
    session.wrote(5);
    assert!(session.pending.is_empty());
    let effects = session.receive(ack(1, 0));
    assert!(effects.contains(&Effect::Leave(Exit::Failed)));
}

#[test]
fn a_serial_console_tells_what_is_missing_and_goes_on() {
    let mut session = serial(&Wish::View, false, false);
    let gap = Gap {
        from: at(1, 0),
        to: at(1, 9),
        length_known: true,
        ..Default::default()
    };
    let effects = session.receive(Event::Gap(gap));
    assert!(notices(&effects).contains("9 bytes of output"));
    let bytes = Bytes::from_static(b"on");
    assert!(
        session
            .receive(Event::Data(at(1, 9), bytes.clone()))
            .is_empty()
    );
    let effects = session.receive(Event::Data(at(1, 12), bytes));
    assert!(notices(&effects).contains("bug of the agent"));
    assert!(!effects.contains(&Effect::Leave(Exit::Failed)));
    session.wrote(4);
    assert!(session.pending.is_empty());
}

#[test]
fn a_display_that_has_ended_ends_our_side_once_all_was_sent() {
    let mut session = display(3);
    session.read(Bytes::from_static(b"abcde"));
    session.local_ended();
    assert_eq!(sent(&mut session).unwrap().1, "abc");
    assert!(!session.has_request() && !session.half_closes());
    assert!(session.undelivered());
    session.receive(ack(3, 3));
    assert_eq!(sent(&mut session), Some((3, Bytes::from_static(b"de"))));
    assert!(session.half_closes() && !session.undelivered() && session.room() == 0);
}

#[test]
fn a_serial_console_that_has_ended_waits_until_the_guest_took_all() {
    let mut session = serial(&Wish::Write, false, true);
    session.read(Bytes::from_static(b"abc"));
    session.local_ended();
    assert!(session.undelivered() && !session.delivered() && !session.half_closes());
    assert_eq!(
        typed(&mut session),
        Some((0, 3, Bytes::from_static(b"abc")))
    );
    assert!(session.undelivered());
    session.receive(ack(3, TINY));
    assert!(session.delivered() && !session.undelivered());
    session.leave();
    let detach = session.next_request().unwrap().message;
    assert_eq!(detach, Some(ToSerial::Detach(Default::default())));
    assert!(session.next_request().is_none());
}

fn somebody(you_write: bool) -> Event {
    Event::Writer(WriterChanged {
        writer: Some(Participant::default()),
        write_epoch: 4,
        reason: Reason::TakenOver.into(),
        you_write,
        ..Default::default()
    })
}

#[test]
fn who_loses_the_lease_of_a_serial_console_ends_unless_watching_will_do() {
    for (view_otherwise, ends) in [(false, true), (true, false)] {
        let mut session = serial(&Wish::Write, view_otherwise, true);
        session.read(Bytes::from_static(b"abc"));
        let effects = session.receive(somebody(false));
        assert_eq!(effects.contains(&Effect::Leave(Exit::LeaseHeld)), ends);
        assert!(notices(&effects).contains("3 bytes that waited"));
        assert!(!session.has_request());
        // What comes now is read, so that the end is seen, and dropped.
        assert_eq!(session.room(), MAX_INPUT_BYTES);
        let told = session.read(Bytes::from_static(b"d"));
        assert!(notices(&told).contains("is dropped"));
        assert!(session.read(Bytes::from_static(b"e")).is_empty());
        assert!(!session.has_request());
    }
}

#[test]
fn a_display_goes_on_without_the_lease() {
    let mut session = display(TINY);
    session.read(Bytes::from_static(b"abc"));
    let effects = session.receive(somebody(false));
    assert!(!effects.contains(&Effect::Leave(Exit::LeaseHeld)));
    assert_eq!(sent(&mut session).unwrap().1, "abc");
    assert_eq!(session.room(), MAX_INPUT_BYTES);
}

#[test]
fn one_read_waits_for_the_lease() {
    let mut session = serial(&Wish::Queue, false, false);
    let place = |queue_place| {
        Event::WriterRefused(WriterRefused {
            queue_place,
            ..Default::default()
        })
    };
    assert!(notices(&session.receive(place(1))).contains("at place 1"));
    session.read(Bytes::from_static(b"0123456789ab"));
    assert!(session.room() == 0 && !session.has_request());
    session.receive(somebody(true));
    assert_eq!(
        typed(&mut session),
        Some((0, 4, Bytes::from_static(b"0123456789")))
    );
    session.receive(ack(10, TINY));
    assert_eq!(
        typed(&mut session),
        Some((10, 4, Bytes::from_static(b"ab")))
    );
    let effects = serial(&Wish::Queue, false, false).receive(place(0));
    assert!(effects.contains(&Effect::Leave(Exit::LeaseHeld)));
}

#[test]
fn state_is_acknowledged_even_where_nothing_is_written() {
    let mut session = display(0);
    for _ in 0..3 {
        assert!(session.receive(Event::Roster(4)).is_empty());
    }
    assert!(!session.has_request());
    session.receive(Event::Roster(0));
    let ack = session.next_request().unwrap().message;
    assert_eq!(ack, Some(ToDisplay::Ack(RelayAck { offset: 0 })));
}

#[test]
fn the_reason_of_the_end_is_told_and_decides_the_exit() {
    let closed = |reason: Reason| {
        display(0).receive(Event::Closed(Closed {
            reason: reason.into(),
            ..Default::default()
        }))
    };
    let effects = closed(Reason::RuleViolated);
    assert!(effects.contains(&Effect::End(Exit::Forbidden)));
    assert!(notices(&effects).contains("RULE_VIOLATED"));
    assert_eq!(closed(Reason::ClientDetached), [Effect::End(Exit::Done)]);
}
