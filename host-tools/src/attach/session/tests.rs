//! The session against messages of an agent.

use proptest::prelude::*;
use vmconsole_proto::v1::{Availability, Console, Gap, Roster, VmState};

use vmconsole_proto::v1::stream_console_response::Message as Response;
use vmconsole_proto::v1::{Closed, InputAck, InputRefused, Output, Reason, WriterChanged};

use super::receive::MAX_FAULTS_TOLD;
use super::*;
use crate::attach::window::STATES_PER_ACK;

mod again;
mod lease;

const WINDOW: u64 = 4096;

fn at(offset: u64) -> Position {
    Position {
        generation: 1,
        offset,
    }
}

fn opened(mode: Mode, input_window: u64) -> Opened {
    Opened {
        session_id: "s1".into(),
        console: Some(Console {
            vm_name: "web".into(),
            alias: "serial0".into(),
            state: Some(ConsoleState {
                availability: Availability::Attached.into(),
                vm_state: VmState::Running.into(),
                ..Default::default()
            }),
            writer: Some(Participant {
                subject: "bob".into(),
                proxy: "p".into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        mode: mode.into(),
        write_epoch: 3,
        position: Some(at(0)),
        next_input_offset: Some(0),
        input_window,
        roster: Some(Roster {
            total: 2,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn session(typing: Typing, mode: Mode, input_window: u64) -> Session {
    Session::open(
        opened(mode, input_window),
        typing,
        EscapeKey::Key(0x1d),
        WINDOW,
    )
    .0
}

fn requests(session: &mut Session) -> Vec<Request> {
    std::iter::from_fn(|| session.next_request()).collect()
}

fn input(offset: u64, write_epoch: u64, data: &'static [u8]) -> Request {
    Request::Input(Input {
        offset,
        write_epoch,
        data: data.into(),
    })
}

fn lost_lease() -> Response {
    let writer = Some(Participant {
        subject: "eve".into(),
        proxy: "p".into(),
        ..Default::default()
    });
    Response::WriterChanged(WriterChanged {
        writer,
        write_epoch: 4,
        reason: Reason::TakenOver.into(),
        takeover_reason: "incident".into(),
        you_write: false,
    })
}

fn notices(effects: &[Effect]) -> Vec<&str> {
    fn text(effect: &Effect) -> Option<&str> {
        match effect {
            Effect::Notice(text) => Some(text),
            _ => None,
        }
    }
    effects.iter().filter_map(text).collect()
}

#[test]
fn typing_is_sent_by_offset_within_the_window() {
    let mut session = session(Typing::Terminal, Mode::WriteIfFree, 4);
    session.typed(Bytes::from_static(b"abcdef"));
    assert_eq!(requests(&mut session), [input(0, 3, b"abcd")]);
    assert!(!session.has_request());
    let effects = session.receive(Response::InputAck(InputAck {
        offset: 3,
        window: 4,
    }));
    assert_eq!(effects, [Effect::InputMoved]);
    assert_eq!(requests(&mut session), [input(4, 3, b"ef")]);
    assert!(!session.delivered());
    session.receive(Response::InputAck(InputAck {
        offset: 6,
        window: 4,
    }));
    assert!(session.delivered());
}

#[test]
fn leaving_sends_what_fits_and_then_nothing_more() {
    let mut session = session(Typing::Terminal, Mode::WriteIfFree, 2);
    session.typed(Bytes::from_static(b"abc"));
    session.leave();
    assert_eq!(
        requests(&mut session),
        [input(0, 3, b"ab"), Request::Detach(Detach {})]
    );
    session.receive(Response::InputAck(InputAck {
        offset: 2,
        window: 9,
    }));
    assert!(!session.has_request());
    session.leave();
    assert_eq!(requests(&mut session), []);
}

#[test]
fn output_is_passed_on_and_acknowledged_once_a_quarter_is_written() {
    let mut session = session(Typing::Nobody, Mode::View, 0);
    let data = Bytes::from(vec![b'x'; 1000]);
    let output = Output {
        position: Some(at(0)),
        data: data.clone(),
        time: None,
    };
    assert_eq!(
        session.receive(Response::Output(output)),
        [Effect::Output(data.clone(), at(1000))]
    );
    session.wrote(
        at(1000),
        Dealt {
            bytes: 1000,
            messages: 1,
        },
    );
    assert!(!session.has_request());
    session.receive(Response::Output(Output {
        position: Some(at(1000)),
        data,
        time: None,
    }));
    session.wrote(
        at(2000),
        Dealt {
            bytes: 2000,
            messages: 2,
        },
    );
    let ack = Request::OutputAck(OutputAck {
        position: Some(at(2000)),
    });
    assert_eq!(requests(&mut session), [ack]);
}

#[test]
fn what_does_not_fit_is_reported_as_a_bug_and_shown_all_the_same() {
    let mut session = session(Typing::Nobody, Mode::View, 0);
    let output = Output {
        position: Some(at(9)),
        data: Bytes::from_static(b"x"),
        time: None,
    };
    let effects = session.receive(Response::Output(output));
    assert!(notices(&effects)[0].starts_with("bug of the agent, please report it"));
    assert_eq!(effects[1], Effect::Output(Bytes::from_static(b"x"), at(10)));
}

#[test]
fn an_overrun_ends_the_session() {
    let mut session = session(Typing::Nobody, Mode::View, 0);
    let data = Bytes::from(vec![0; WINDOW as usize + 1]);
    let effects = session.receive(Response::Output(Output {
        position: Some(at(0)),
        data,
        time: None,
    }));
    assert_eq!(effects.last(), Some(&Effect::Leave(Exit::Failed)));
}

#[test]
fn faults_without_end_are_not_told_without_end() {
    let mut session = session(Typing::Terminal, Mode::WriteIfFree, 4);
    let told = (0..100)
        .map(|_| {
            session
                .receive(Response::InputAck(InputAck {
                    offset: 9,
                    window: 4,
                }))
                .len()
        })
        .sum::<usize>();
    assert_eq!(told, MAX_FAULTS_TOLD as usize);
}

#[test]
fn losing_the_lease_is_told_and_typing_is_no_longer_sent() {
    let mut session = session(Typing::Terminal, Mode::WriteIfFree, 2);
    session.typed(Bytes::from_static(b"abc"));
    requests(&mut session);
    let effects = session.receive(lost_lease());
    let told = notices(&effects);
    assert!(
        told[0].contains("eve through p (TAKEN_OVER), saying \"incident\""),
        "{told:?}"
    );
    assert_eq!(told[1], "1 bytes that waited to be sent are dropped");
    assert_eq!(session.typed(Bytes::from_static(b"d")), []);
    assert!(!session.has_request());
    assert!(session.help().contains("eve through p writes"));
}

#[test]
fn gaining_the_lease_is_told_and_typing_goes_out_under_the_new_epoch() {
    let mut session = session(Typing::Terminal, Mode::View, 9);
    assert_eq!(notices(&session.typed(Bytes::from_static(b"x"))).len(), 1);
    assert_eq!(session.typed(Bytes::from_static(b"x")), []);
    let gained = WriterChanged {
        write_epoch: 8,
        you_write: true,
        ..Default::default()
    };
    assert_eq!(
        notices(&session.receive(Response::WriterChanged(gained))).len(),
        1
    );
    session.typed(Bytes::from_static(b"y"));
    assert_eq!(requests(&mut session), [input(0, 8, b"y")]);
}

#[test]
fn a_pipe_that_cannot_write_to_its_end_is_told_by_the_exit() {
    let mut pipe = session(Typing::Pipe, Mode::WriteIfFree, 9);
    assert_eq!(
        pipe.receive(lost_lease()).last(),
        Some(&Effect::Leave(Exit::LeaseHeld))
    );
    let mut pipe = session(Typing::Pipe, Mode::WriteIfFree, 9);
    let refused = InputRefused {
        from: 0,
        to: 5,
        reason: Reason::NotRunning.into(),
    };
    let effects = pipe.receive(Response::InputRefused(refused));
    assert_eq!(effects.last(), Some(&Effect::Leave(Exit::NotPossible)));
    let mut pipe = session(Typing::Pipe, Mode::WriteIfFree, 9);
    pipe.input_ended();
    assert!(matches!(
        pipe.receive(lost_lease()).as_slice(),
        [Effect::Notice(_)]
    ));
    let mut viewer = session(Typing::Pipe, Mode::View, 9);
    assert_eq!(
        viewer.wanted_to_write(Claim::IfFree).last(),
        Some(&Effect::Leave(Exit::LeaseHeld))
    );
}

#[test]
fn a_viewer_that_wanted_to_write_is_told_who_does() {
    let mut viewer = session(Typing::Terminal, Mode::View, 9);
    let effects = viewer.wanted_to_write(Claim::IfFree);
    assert!(notices(&effects)[0].starts_with("bob through p holds the writer's lease"));
    assert_eq!(
        session(Typing::Terminal, Mode::WriteIfFree, 9).wanted_to_write(Claim::IfFree),
        []
    );
}

#[test]
fn a_state_is_told_when_it_changes() {
    let (mut session, first) = Session::open(
        opened(Mode::View, 0),
        Typing::Nobody,
        EscapeKey::Off,
        WINDOW,
    );
    assert_eq!(first, []);
    let off = ConsoleState {
        availability: Availability::Waiting.into(),
        vm_state: VmState::Off.into(),
        ..Default::default()
    };
    let told = session.receive(Response::ConsoleState(off.clone()));
    assert_eq!(notices(&told), ["the VM is off; waiting for it to start"]);
    assert_eq!(session.receive(Response::ConsoleState(off)), []);
}

#[test]
fn a_quiet_consoles_states_are_acknowledged() {
    fn writer() -> Response {
        Response::WriterChanged(WriterChanged::default())
    }
    fn state() -> Response {
        Response::ConsoleState(ConsoleState::default())
    }
    fn roster() -> Response {
        Response::Roster(Roster::default())
    }
    let mut session = session(Typing::Nobody, Mode::View, 0);
    let ack = |offset| {
        Request::OutputAck(OutputAck {
            position: Some(at(offset)),
        })
    };
    for round in 0..3 {
        for number in 1..STATES_PER_ACK {
            session.receive([writer, state, roster][number as usize % 3]());
            assert!(!session.has_request(), "{round} {number}");
        }
        session.receive(state());
        assert_eq!(requests(&mut session), [ack(0)]);
    }
    // An acknowledgement for another cause counts, and what was written is told along.
    let dealt = |bytes| Dealt { bytes, messages: 1 };
    session.receive(state());
    session.receive(Response::Output(Output {
        position: Some(at(0)),
        data: vec![b'x'; 1030].into(),
        time: None,
    }));
    session.wrote(at(1024), dealt(1024));
    assert_eq!(requests(&mut session), [ack(1024)]);
    session.wrote(at(1030), dealt(1030));
    for _ in 1..STATES_PER_ACK {
        session.receive(roster());
    }
    assert_eq!(requests(&mut session), []);
    session.receive(writer());
    assert_eq!(requests(&mut session), [ack(1030)]);
}

#[test]
fn rosters_and_details_count_by_what_they_carry() {
    let mut session = session(Typing::Nobody, Mode::View, 0);
    let participants = vec![Participant::default(); STATES_PER_ACK as usize - 1];
    session.receive(Response::Roster(Roster {
        participants,
        ..Default::default()
    }));
    assert_eq!(requests(&mut session).len(), 1);
    session.receive(Response::ConsoleState(ConsoleState {
        detail: "x".repeat(64 << 10),
        ..Default::default()
    }));
    assert_eq!(requests(&mut session).len(), 1);
    assert_eq!(requests(&mut session), []);
}

#[test]
fn closed_ends_with_the_reasons_exit() {
    for (reason, told, exit) in [
        (Reason::ClientDetached, 0, Exit::Done),
        (Reason::AgentDraining, 1, Exit::Broken),
        (Reason::Revoked, 1, Exit::Forbidden),
    ] {
        let closed = Closed {
            reason: reason.into(),
            ..Default::default()
        };
        let effects = session(Typing::Terminal, Mode::View, 0).receive(Response::Closed(closed));
        assert_eq!(notices(&effects).len(), told);
        assert_eq!(effects.last(), Some(&Effect::End(exit)));
    }
}

#[test]
fn a_gap_is_told_in_its_place_and_output_goes_on_behind_it() {
    let mut session = session(Typing::Nobody, Mode::View, 0);
    let gap = Gap {
        from: Some(at(0)),
        to: Some(at(100)),
        length_known: true,
        ..Default::default()
    };
    assert!(notices(&session.receive(Response::Gap(gap)))[0].starts_with("gap: 100 bytes"));
    let output = Output {
        position: Some(at(100)),
        data: Bytes::from_static(b"x"),
        time: None,
    };
    let effects = session.receive(Response::Output(output));
    assert_eq!(effects, [Effect::Output(Bytes::from_static(b"x"), at(101))]);
}

#[test]
fn a_terminal_whose_guest_takes_nothing_is_bounded() {
    let mut session = session(Typing::Terminal, Mode::WriteIfFree, 0);
    let paste = Bytes::from(vec![b'x'; 1 << 18]);
    let told: usize = (0..8).map(|_| session.typed(paste.clone()).len()).sum();
    assert_eq!(told, 1);
    assert_eq!(session.input.waiting(), TERMINAL_QUEUE_BYTES);
    assert!(session.wants_input());
}

proptest! {
    /// However typing, acknowledgements and windows interleave: what the agent gets, joined
    /// by offset, is what was typed, and no window is overrun.
    #[test]
    fn input_arrives_whole_and_within_the_window(
        typed in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 1..30),
        windows in proptest::collection::vec(0u64..500, 1..20),
    ) {
        let mut session = session(Typing::Pipe, Mode::WriteIfFree, windows[0]);
        let mut windows = windows.into_iter().cycle();
        let (mut got, mut acked, mut limit) = (Vec::new(), 0, windows.next().unwrap());
        let mut rest = typed.iter();
        while !(rest.len() == 0 && session.delivered()) {
            if let Some(bytes) = rest.next() {
                prop_assert_eq!(session.typed(Bytes::from(bytes.clone())), vec![]);
            }
            for request in requests(&mut session) {
                let Request::Input(input) = request else { panic!("{request:?}") };
                prop_assert_eq!(input.offset, got.len() as u64);
                got.extend_from_slice(&input.data);
                prop_assert!(got.len() as u64 <= limit);
            }
            acked = (acked + 97).min(got.len() as u64);
            let window = windows.next().unwrap() + 1;
            limit = acked + window;
            session.receive(Response::InputAck(InputAck { offset: acked, window }));
        }
        prop_assert_eq!(got, typed.concat());
    }
}
