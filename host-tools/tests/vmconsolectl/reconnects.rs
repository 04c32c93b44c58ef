//! `attach` when its stream breaks: what it asks for, what it sends again, and what it tells.

use std::collections::HashMap;
use std::time::Instant;

use nix::sys::signal::Signal;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use vmconsole_proto::v1::start::From as StartFrom;
use vmconsole_proto::v1::stream_console_request::Message as FromClient;
use vmconsole_proto::v1::stream_console_response::Message as ToClient;
use vmconsole_proto::v1::{Closed, Gap, GapReason, InputAck, Mode, Open, Opened, Reason};

use crate::fake_agent::{FakeAgent, Script};
use crate::fake_console::{ClientStream, at, opened};
use crate::program::{LIMIT, OnTerminal, Piped, pki, vmconsolectl};

/// Opened with a token.
fn with_token(token: &[u8], opened: Opened) -> ToClient {
    ToClient::Opened(Opened {
        resume_token: token.to_vec(),
        ..opened
    })
}

fn started(agent: &FakeAgent) -> (Open, ClientStream) {
    let mut stream = agent.stream();
    (stream.open(), stream)
}

/// The next input, with its offset.
fn input(stream: &mut ClientStream) -> (u64, Vec<u8>) {
    match stream.next() {
        Some(FromClient::Input(input)) => (input.offset, input.data.to_vec()),
        other => panic!("not Input: {other:?}"),
    }
}

fn resume_refused() -> Status {
    let details = ErrorDetails::with_error_info("RESUME_REFUSED", "vmconsole", HashMap::new());
    Status::with_error_details(Code::FailedPrecondition, "unknown token", details)
}

/// `attach web-1 --takeover` on a terminal, which typed `abcd`, of which two bytes were taken.
fn typed() -> (tempfile::TempDir, FakeAgent, OnTerminal, ClientStream) {
    let (root, pki) = pki();
    let agent = FakeAgent::start(&pki, Script::default());
    let mut command = vmconsolectl(&pki, agent.address);
    let mut terminal = OnTerminal::start(command.args(["attach", "web-1", "--takeover"]));
    let (_, mut stream) = started(&agent);
    stream.say(with_token(b"one", opened(Mode::WriteTakeover, 1024)));
    stream.output(0, "login: ");
    terminal.sees("login: ");
    terminal.type_keys(b"abcd");
    let mut taken = 0;
    while taken < 4 {
        taken += input(&mut stream).1.len();
    }
    let (offset, window) = (2, 1024);
    stream.say(ToClient::InputAck(InputAck { offset, window }));
    stream.output(7, "ab");
    terminal.sees("ab");
    (root, agent, terminal, stream)
}

#[test]
fn a_pipe_goes_on_where_it_was_and_each_byte_arrives_once() {
    let (_root, pki) = pki();
    let agent = FakeAgent::start(&pki, Script::default());
    let mut command = vmconsolectl(&pki, agent.address);
    let mut program = Piped::start(command.args(["attach", "web-1", "--linger", "0"]));
    let (open, mut stream) = started(&agent);
    assert!(open.resume_token.is_empty());
    let feeding = program.feed(b"abcdefgh".to_vec());
    stream.say(with_token(b"one", opened(Mode::WriteIfFree, 5)));
    assert_eq!(input(&mut stream), (0, b"abcde".to_vec()));
    stream.output(0, "seen");
    // The agent got three of them, and ends the stream without a word.
    drop(stream);
    let (open, mut stream) = started(&agent);
    assert_eq!(
        (open.mode(), &open.resume_token[..]),
        (Mode::WriteIfFree, &b"one"[..])
    );
    let Some(StartFrom::Resume(position)) = open.start.unwrap().from else {
        panic!("not RESUME")
    };
    let mut seen = position.offset;
    assert!(seen == 4 || seen == 0);
    stream.say(with_token(
        b"two",
        Opened {
            next_input_offset: Some(3),
            position: at(seen),
            ..opened(Mode::WriteIfFree, 1024)
        },
    ));
    let mut got = Vec::new();
    while got.len() < 5 {
        let (offset, data) = input(&mut stream);
        assert_eq!(offset, 3 + got.len() as u64);
        got.extend(data);
    }
    assert_eq!(got, b"defgh");
    if seen == 0 {
        stream.output(0, "seen");
        seen = 4;
    }
    stream.output(seen, " and more");
    let (offset, window) = (8, 1024);
    stream.say(ToClient::InputAck(InputAck { offset, window }));
    stream.detached();
    feeding.join().unwrap();
    let ended = program.end();
    assert_eq!(
        (ended.code, &ended.stdout[..]),
        (Some(0), &b"seen and more"[..])
    );
    assert!(
        ended.stderr.contains("trying again for 300 s at most"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains(" s: nothing was missed"),
        "{}",
        ended.stderr
    );
}

#[test]
fn another_session_takes_nothing_over_and_is_not_sent_what_may_have_arrived() {
    let (_root, agent, mut terminal, stream) = typed();
    let retryable = true;
    let reason = Reason::AgentDraining.into();
    stream.say(ToClient::Closed(Closed {
        reason,
        retryable,
        ..Default::default()
    }));
    drop(stream);
    terminal.sees("AGENT_DRAINING");
    let (open, stream) = started(&agent);
    assert_eq!(
        (open.mode(), &open.resume_token[..]),
        (Mode::WriteIfFree, &b"one"[..])
    );
    stream.refuse(resume_refused());
    let (open, stream) = started(&agent);
    assert!(open.resume_token.is_empty() && open.takeover_reason.is_empty());
    assert!(open.view_otherwise && open.mode() == Mode::WriteIfFree);
    assert_eq!(
        open.start.unwrap().from,
        Some(StartFrom::Resume(at(9).unwrap()))
    );
    stream.say(with_token(
        b"two",
        Opened {
            position: at(9),
            oldest: at(109),
            ..opened(Mode::WriteIfFree, 1024)
        },
    ));
    terminal.sees("as a new session s1: some output was missed");
    terminal.sees("2 typed bytes may not have arrived, and are not sent again");
    stream.say(ToClient::Gap(Gap {
        from: at(9),
        to: at(109),
        length_known: true,
        reason: GapReason::Overrun.into(),
    }));
    terminal.sees("gap: 100 bytes of output missing");
    let mut stream = stream;
    terminal.type_keys(b"x");
    assert_eq!(input(&mut stream), (0, b"x".to_vec()));
    terminal.type_keys(b"\r~.");
    assert_eq!(input(&mut stream), (1, b"\r".to_vec()));
    stream.detached();
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn what_is_typed_meanwhile_waits_for_the_agent_to_be_back() {
    let (root, mut agent, mut terminal, stream) = typed();
    agent.vanish();
    drop(stream);
    terminal.sees("trying again");
    terminal.type_keys(b"ef");
    let pki = root.path().join("pki");
    let agent = FakeAgent::start_at(agent.address, &pki, Script::default());
    let (_, mut stream) = started(&agent);
    stream.say(with_token(
        b"two",
        Opened {
            next_input_offset: Some(4),
            position: at(9),
            ..opened(Mode::WriteIfFree, 1024)
        },
    ));
    terminal.sees("nothing was missed");
    let (offset, mut data) = input(&mut stream);
    if data.len() < 2 {
        data.extend(input(&mut stream).1);
    }
    assert_eq!((offset, data), (4, b"ef".to_vec()));
    terminal.type_keys(&[0x1d]);
    stream.detached();
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn one_can_leave_at_once_while_there_is_no_connection() {
    for (leave, code) in [(None, 0), (Some(Signal::SIGINT), 130)] {
        let (_root, mut agent, mut terminal, stream) = typed();
        agent.vanish();
        drop(stream);
        terminal.sees("trying again");
        let begun = Instant::now();
        match leave {
            Some(signal) => terminal.signal(signal),
            None => terminal.type_keys(&[0x1d, b'q']),
        }
        terminal.sees("2 typed bytes may not have arrived");
        assert_eq!(terminal.end(), Some(code));
        assert!(begun.elapsed() < LIMIT / 3);
    }
}

#[test]
fn an_agent_that_stays_away_is_given_up() {
    let (_root, pki) = pki();
    let mut agent = FakeAgent::start(&pki, Script::default());
    let mut command = vmconsolectl(&pki, agent.address);
    let mut program = Piped::start(command.args(["attach", "web-1", "--view", "--reconnect", "1"]));
    let (_, stream) = started(&agent);
    stream.opened(Mode::View, 0);
    stream.output(0, "seen");
    let mut seen = [0; 4];
    std::io::Read::read_exact(program.stdout.as_mut().unwrap(), &mut seen).unwrap();
    agent.vanish();
    drop(stream);
    let ended = program.end();
    assert_eq!(ended.code, Some(8));
    assert!(
        ended.stderr.contains("trying again for 1 s at most"),
        "{}",
        ended.stderr
    );
    let told = ["gave up after 1 s", "not connected again"];
    assert!(
        told.iter().any(|told| ended.stderr.contains(told)),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_session_that_was_taken_up_elsewhere_is_over() {
    let (_root, agent, mut terminal, mut stream) = typed();
    stream.closed(Reason::Superseded);
    terminal.sees("the agent ended the stream: SUPERSEDED");
    assert_eq!(terminal.end(), Some(9));
    assert!(agent.no_stream());
}

#[test]
fn the_lease_is_waited_for_and_given_back_by_escapes() {
    let (_root, pki) = pki();
    let agent = FakeAgent::start(&pki, Script::default());
    let mut command = vmconsolectl(&pki, agent.address);
    let mut terminal = OnTerminal::start(command.args(["attach", "web-1", "--queue"]));
    let (open, mut stream) = started(&agent);
    assert_eq!(open.mode(), Mode::WriteQueue);
    stream.opened(Mode::View, 1024);
    stream.say(ToClient::WriterRefused(
        vmconsole_proto::v1::WriterRefused {
            reason: Reason::LeaseHeld.into(),
            queue_place: 3,
            ..Default::default()
        },
    ));
    terminal.sees("you wait for it, at place 3");
    terminal.type_keys(b"~r");
    assert!(matches!(stream.next(), Some(FromClient::ReleaseWriter(_))));
    terminal.type_keys(b"~w");
    match stream.next() {
        Some(FromClient::RequestWriter(request)) => {
            assert_eq!(request.mode(), Mode::WriteQueue);
        }
        other => panic!("not RequestWriter: {other:?}"),
    }
    terminal.type_keys(b"~.");
    stream.detached();
    assert_eq!(terminal.end(), Some(0));
}
