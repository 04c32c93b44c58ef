//! Sessions whose streams break.

use std::time::Duration;

use super::*;

const DOWN: Duration = Duration::from_secs(3);

/// A session of this token that wrote `text`, of which the agent acknowledged `acked` bytes.
fn broken(typing: Typing, text: &'static [u8], acked: u64) -> Session {
    let mut opened = opened(Mode::WriteIfFree, 4);
    opened.resume_token = b"one".to_vec();
    let (mut session, _) = Session::open(opened, typing, EscapeKey::Off, WINDOW);
    session.wanted_to_write(Claim::IfFree);
    session.typed(Bytes::from_static(text));
    requests(&mut session);
    session.receive(Response::InputAck(InputAck {
        offset: acked,
        window: 4,
    }));
    session.broke();
    session
}

/// Opened of the next stream, which expects this input.
fn next(next_input_offset: Option<u64>) -> Opened {
    Opened {
        next_input_offset,
        oldest: Some(at(0)),
        resume_token: b"two".to_vec(),
        ..opened(Mode::WriteIfFree, 9)
    }
}

#[test]
fn a_session_goes_on_where_it_was() {
    let mut session = broken(Typing::Terminal, b"abcdef", 1);
    session.receive(Response::Output(Output {
        position: Some(at(0)),
        data: Bytes::from_static(b"seen"),
        time: None,
    }));
    session.typed(Bytes::from_static(b"gh"));
    assert!(!session.has_request() && session.next_request().is_none());
    let again = session.again().unwrap();
    assert_eq!((again.position, &again.token[..]), (at(4), &b"one"[..]));
    assert_eq!(again.claim, Claim::IfFree);
    let opened = Opened {
        position: Some(at(4)),
        ..next(Some(3))
    };
    let effects = session.reopened(opened, DOWN);
    assert_eq!(notices(&effects), ["back after 3.0 s: nothing was missed"]);
    let sent = [input(3, 3, b"d"), input(4, 3, b"ef"), input(6, 3, b"gh")];
    assert_eq!(requests(&mut session), sent);
    assert_eq!(session.again().unwrap().token, b"two");
}

#[test]
fn a_new_session_is_sent_nothing_that_may_have_arrived() {
    for known in [Some(0), None] {
        let mut session = broken(Typing::Terminal, b"abcdef", 1);
        session.over();
        assert_eq!(session.again().unwrap().token, b"");
        let effects = session.reopened(next(known), DOWN);
        let told = notices(&effects);
        assert!(told[0].contains("as a new session s1"), "{told:?}");
        let text = "3 typed bytes may not have arrived, and the 2 typed after them were not sent";
        assert_eq!(told[1], text);
        assert_eq!(requests(&mut session), []);
        session.typed(Bytes::from_static(b"x"));
        assert_eq!(requests(&mut session), [input(0, 3, b"x")]);
    }
}

#[test]
fn an_agent_that_cannot_know_is_sent_nothing_again_either() {
    let mut session = broken(Typing::Terminal, b"abcd", 2);
    let effects = session.reopened(next(None), DOWN);
    let told = notices(&effects);
    assert_eq!(
        told[1],
        "2 typed bytes may not have arrived, and are not sent again"
    );
    assert_eq!(requests(&mut session), []);
}

#[test]
fn a_pipe_with_a_hole_in_it_ends_and_one_without_goes_on() {
    let mut pipe = broken(Typing::Pipe, b"abcd", 2);
    pipe.over();
    let effects = pipe.reopened(next(Some(0)), DOWN);
    assert_eq!(effects.last(), Some(&Effect::Leave(Exit::Broken)));
    let mut pipe = broken(Typing::Pipe, b"abcdef", 4);
    pipe.over();
    let effects = pipe.reopened(next(Some(0)), DOWN);
    assert_eq!(notices(&effects).len(), effects.len());
    assert_eq!(requests(&mut pipe), [input(0, 3, b"ef")]);
}

#[test]
fn a_lease_that_was_lost_meanwhile_drops_what_was_not_sent() {
    for (opened, said) in [
        (
            Opened {
                mode: Mode::View.into(),
                write_epoch: 4,
                ..next(Some(4))
            },
            "you lost the writer's lease meanwhile (bob through p writes): \
             what you type is not sent",
        ),
        (
            Opened {
                write_epoch: 5,
                ..next(Some(4))
            },
            "you lost the writer's lease meanwhile, and hold it again",
        ),
    ] {
        for typing in [Typing::Terminal, Typing::Pipe] {
            let mut session = broken(typing, b"abcdef", 4);
            let effects = session.reopened(opened.clone(), DOWN);
            let told = notices(&effects);
            assert_eq!(
                told[1..],
                [said, "2 bytes that waited to be sent are dropped"]
            );
            let left = effects.last() == Some(&Effect::Leave(Exit::LeaseHeld));
            assert_eq!(left, typing == Typing::Pipe);
            assert_eq!(requests(&mut session), []);
        }
    }
}

#[test]
fn a_refusal_that_is_told_again_is_told_once() {
    let refused = |from, to| {
        Response::InputRefused(InputRefused {
            from,
            to,
            reason: Reason::NotRunning.into(),
        })
    };
    let mut session = broken(Typing::Terminal, b"abcd", 4);
    assert_eq!(notices(&session.receive(refused(0, 2))).len(), 1);
    session.reopened(next(Some(4)), DOWN);
    assert_eq!(session.receive(refused(0, 2)), []);
    assert_eq!(notices(&session.receive(refused(2, 4))).len(), 1);
    session.over();
    session.reopened(next(Some(0)), DOWN);
    assert_eq!(notices(&session.receive(refused(0, 1))).len(), 1);
}

#[test]
fn what_passes_breaks_the_stream_and_what_does_not_ends_it() {
    let closed = |reason: Reason, retryable| {
        Response::Closed(Closed {
            reason: reason.into(),
            retryable,
            ..Default::default()
        })
    };
    let mut session = session(Typing::Terminal, Mode::View, 0);
    let effects = session.receive(closed(Reason::AgentDraining, true));
    assert!(matches!(
        effects.as_slice(),
        [Effect::Broken(Exit::Broken, _)]
    ));
    let effects = session.receive(closed(Reason::Superseded, true));
    assert_eq!(effects.last(), Some(&Effect::End(Exit::Limited)));
}

#[test]
fn no_stream_is_wanted_while_the_screen_is_too_far_behind() {
    let mut session = broken(Typing::Nobody, b"", 0);
    let output = |offset| {
        Response::Output(Output {
            position: Some(at(offset)),
            data: Bytes::from_static(b"x"),
            time: None,
        })
    };
    for offset in 0..1024 {
        session.receive(output(offset));
    }
    let opened = Opened {
        position: Some(at(1024)),
        ..next(Some(0))
    };
    assert!(session.again().is_some());
    session.reopened(opened, DOWN);
    session.receive(output(1024));
    assert_eq!(session.again(), None);
    let (bytes, messages) = (1, 1);
    session.wrote(at(1), Dealt { bytes, messages });
    assert!(session.again().is_some());
}

#[test]
fn a_tail_ends_at_the_head_that_was() {
    let tail = || session(Typing::Nobody, Mode::View, 0);
    let left = [Effect::Leave(Exit::Done)];
    assert_eq!(tail().end_at(None), left);
    assert_eq!(tail().end_at(Some(at(0))), left);
    let mut session = tail();
    assert_eq!(session.end_at(Some(at(3))), []);
    let output = |offset, data: &'static [u8]| {
        Response::Output(Output {
            position: Some(at(offset)),
            data: Bytes::from_static(data),
            time: None,
        })
    };
    assert_eq!(session.receive(output(0, b"ab")).len(), 1);
    assert_eq!(session.receive(output(2, b"cd"))[1..], left);
    let mut session = tail();
    session.end_at(Some(at(3)));
    let start = vmconsole_proto::v1::GenerationStarted {
        position: Some(Position {
            generation: 2,
            offset: 0,
        }),
        time: None,
    };
    let effects = session.receive(Response::GenerationStarted(start));
    assert_eq!(effects.last(), Some(&left[0]));
}
