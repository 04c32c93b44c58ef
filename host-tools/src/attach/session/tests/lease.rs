//! The lease: asked for, waited for and given back; and who holds it and is away.

use vmconsole_proto::v1::{ReleaseWriter, RequestWriter, WriterRefused};

use super::*;

fn who(session_id: &str, writer: bool, away: bool) -> Participant {
    Participant {
        session_id: session_id.into(),
        proxy: "p".into(),
        subject: session_id.into(),
        writer,
        away_since: away.then(Default::default),
        ..Default::default()
    }
}

fn roster(participants: Vec<Participant>) -> Response {
    let total = participants.len() as u32;
    Response::Roster(Roster {
        participants,
        total,
    })
}

fn refused(queue_place: u32) -> Response {
    Response::WriterRefused(WriterRefused {
        reason: Reason::LeaseHeld.into(),
        holder: Some(who("eve", true, false)),
        queue_place,
    })
}

fn gained() -> Response {
    Response::WriterChanged(WriterChanged {
        write_epoch: 8,
        you_write: true,
        ..Default::default()
    })
}

#[test]
fn the_lease_is_asked_for_waited_for_and_given_back() {
    let mut session = session(Typing::Terminal, Mode::View, 9);
    session.wanted_to_write(Claim::IfFree);
    assert_eq!(session.ask(), []);
    let mode = Mode::WriteQueue.into();
    let asked = Request::RequestWriter(RequestWriter {
        mode,
        ..Default::default()
    });
    assert_eq!(requests(&mut session), [asked]);
    assert_eq!(
        notices(&session.receive(refused(2))),
        ["eve through p holds the writer's lease: you wait for it, at place 2"]
    );
    assert_eq!(session.again().unwrap().claim, Claim::Queue);
    assert_eq!(notices(&session.receive(gained())), [notices::YOU_WRITE]);
    assert_eq!(notices(&session.ask()), ["you hold the writer's lease"]);
    session.typed(Bytes::from_static(b"x"));
    assert_eq!(session.release(), []);
    let released = Request::ReleaseWriter(ReleaseWriter {});
    assert_eq!(requests(&mut session), [input(0, 8, b"x"), released]);
    assert_eq!(session.again().unwrap().claim, Claim::View);
}

#[test]
fn nobody_gives_back_what_they_do_not_have() {
    let mut session = session(Typing::Terminal, Mode::View, 9);
    session.wanted_to_write(Claim::IfFree);
    assert_eq!(notices(&session.release()).len(), 1);
    assert_eq!(requests(&mut session), []);
}

#[test]
fn who_was_taken_over_does_not_ask_again_by_itself() {
    let mut session = session(Typing::Terminal, Mode::WriteIfFree, 9);
    session.wanted_to_write(Claim::IfFree);
    assert_eq!(session.again().unwrap().claim, Claim::IfFree);
    session.receive(lost_lease());
    assert_eq!(session.again().unwrap().claim, Claim::View);
    session.ask();
    assert_eq!(session.again().unwrap().claim, Claim::Queue);
    session.receive(refused(0));
    assert_eq!(session.again().unwrap().claim, Claim::View);
}

#[test]
fn a_pipe_in_the_queue_is_not_read_before_it_may_write() {
    let mut pipe = session(Typing::Pipe, Mode::View, 9);
    assert_eq!(pipe.wanted_to_write(Claim::Queue), []);
    assert!(!pipe.wants_input());
    pipe.receive(refused(1));
    assert!(!pipe.wants_input());
    pipe.receive(gained());
    assert!(pipe.wants_input());
}

#[test]
fn a_writer_that_is_away_is_told_and_so_is_its_coming_back() {
    let mut session = session(Typing::Terminal, Mode::View, 0);
    let ours = || who("s1", false, false);
    let first = session.receive(roster(vec![ours(), who("eve", true, false)]));
    assert_eq!(first, []);
    let away = session.receive(roster(vec![ours(), who("eve", true, true)]));
    assert_eq!(
        notices(&away),
        ["eve through p, who writes, has lost the connection and is waited for"]
    );
    let help = session.help();
    assert!(
        help.ends_with("attached in all: 2\n  eve through p, writes, away"),
        "{help}"
    );
    let back = session.receive(roster(vec![ours(), who("eve", true, false)]));
    assert_eq!(notices(&back), ["eve through p, who writes, is back"]);
    let viewer = session.receive(roster(vec![ours(), who("eve", false, true)]));
    assert_eq!(viewer, []);
}
