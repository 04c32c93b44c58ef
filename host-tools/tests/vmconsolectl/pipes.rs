//! `attach` between pipes: every byte, the windows, and exits that scripts can use.

use std::io::{BufRead as _, BufReader};

use nix::sys::signal::Signal;
use vmconsole_proto::v1::stream_console_request::Message as FromClient;
use vmconsole_proto::v1::stream_console_response::Message as ToClient;
use vmconsole_proto::v1::{InputRefused, Mode, Participant, Reason, WriterChanged};

use crate::fake_agent::{FakeAgent, Script};
use crate::fake_console::ClientStream;
use crate::program::{Piped, pki, vmconsolectl};

/// `attach web-1` with these options; the agent has seen nothing of the stream yet.
fn attach(options: &[&str]) -> (tempfile::TempDir, FakeAgent, Piped, ClientStream) {
    let (root, pki) = pki();
    let agent = FakeAgent::start(&pki, Script::default());
    let mut command = vmconsolectl(&pki, agent.address);
    let program = Piped::start(command.args(["attach", "web-1"]).args(options));
    let stream = agent.stream();
    (root, agent, program, stream)
}

/// Every byte there is, escapes at the start of lines among them.
fn all_bytes(len: usize) -> Vec<u8> {
    let pattern = (0..=255).chain(*b"\r~.\r~?\x1d\x1d\x1dx");
    pattern.cycle().take(len).collect()
}

#[test]
fn all_of_stdin_arrives_within_the_window_and_the_answer_comes_out_unchanged() {
    let (_root, _agent, mut program, mut stream) = attach(&["--linger", "0.2"]);
    let open = stream.open();
    assert!(open.mode() == Mode::WriteIfFree && !open.view_otherwise);
    let sent = all_bytes(300_000);
    let feeding = program.feed(sent.clone());
    stream.opened(Mode::WriteIfFree, 8192);
    assert!(stream.input(sent.len(), 8192) == sent);
    stream.output(0, sent[..60_000].to_vec());
    stream.detached();
    let ended = program.end();
    feeding.join().unwrap();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout == sent[..60_000]);
}

#[test]
fn output_is_acknowledged_as_it_is_written_and_arrives_whole() {
    let (_root, _agent, program, mut stream) = attach(&["--view"]);
    let window = stream.open().output_window;
    stream.opened(Mode::View, 0);
    // The program's stdout is not read yet: no more than the window may be on its way.
    let all = all_bytes(3 << 20);
    let (mut sent, mut acked) = (0, 0);
    let frame = |sent: usize, acked: u64| {
        let room = (window - (sent as u64 - acked)) as usize;
        &all[sent..all.len().min(sent + room.min(64 << 10))]
    };
    while (sent as u64) < window {
        let data = frame(sent, acked);
        stream.output(sent as u64, data);
        sent += data.len();
    }
    let reading = std::thread::spawn(move || program.end());
    while sent < all.len() || acked + window / 4 < all.len() as u64 {
        match stream.next() {
            Some(FromClient::OutputAck(ack)) => {
                let position = ack.position.unwrap();
                assert_eq!(position.generation, 1);
                assert!(position.offset > acked && position.offset <= sent as u64);
                acked = position.offset;
            }
            other => panic!("not OutputAck: {other:?}"),
        }
        while !frame(sent, acked).is_empty() {
            let data = frame(sent, acked);
            stream.output(sent as u64, data);
            sent += data.len();
        }
    }
    stream.closed(Reason::VmStopped);
    let ended = reading.join().unwrap();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout == all);
}

#[test]
fn output_that_does_not_fit_is_reported_as_a_bug_of_the_agent() {
    let (_root, _agent, program, mut stream) = attach(&["--view"]);
    stream.open();
    stream.opened(Mode::View, 0);
    stream.output(5, "x");
    stream.closed(Reason::VmStopped);
    let ended = program.end();
    assert_eq!((ended.code, &ended.stdout[..]), (Some(0), &b"x"[..]));
    assert!(
        ended.stderr.contains("bug of the agent"),
        "{}",
        ended.stderr
    );
    assert!(
        ended
            .stderr
            .contains("expected 0000000000000001+0, got 0000000000000001+5")
    );
}

#[test]
fn a_lease_lost_before_the_end_of_stdin_is_told_by_the_exit() {
    let (_root, _agent, program, mut stream) = attach(&[]);
    stream.open();
    stream.opened(Mode::WriteIfFree, 1024);
    let writer = Some(Participant {
        subject: "eve".into(),
        proxy: "web".into(),
        ..Default::default()
    });
    let reason = Reason::TakenOver.into();
    stream.say(ToClient::WriterChanged(WriterChanged {
        writer,
        reason,
        ..Default::default()
    }));
    stream.detached();
    let ended = program.end();
    assert_eq!(ended.code, Some(7));
    assert!(
        ended.stderr.contains("to eve through web (TAKEN_OVER)"),
        "{}",
        ended.stderr
    );
}

#[test]
fn input_that_the_guest_did_not_take_is_told_by_the_exit() {
    let (_root, _agent, mut program, mut stream) = attach(&[]);
    stream.open();
    stream.opened(Mode::WriteIfFree, 1024);
    let feeding = program.feed(b"hello".to_vec());
    assert!(matches!(stream.next(), Some(FromClient::Input(_))));
    let refused = InputRefused {
        from: 0,
        to: 5,
        reason: Reason::NotRunning.into(),
    };
    stream.say(ToClient::InputRefused(refused));
    stream.detached();
    let ended = program.end();
    feeding.join().unwrap();
    assert_eq!(ended.code, Some(6));
    assert!(
        ended
            .stderr
            .contains("5 bytes of input were not written: NOT_RUNNING")
    );
}

#[test]
fn an_agent_that_stops_is_told_by_the_exit() {
    let (_root, _agent, program, mut stream) = attach(&[]);
    stream.open();
    stream.opened(Mode::WriteIfFree, 1024);
    stream.output(0, "tail");
    stream.closed(Reason::AgentDraining);
    let ended = program.end();
    assert_eq!((ended.code, &ended.stdout[..]), (Some(8), &b"tail"[..]));
    assert!(ended.stderr.contains("AGENT_DRAINING"), "{}", ended.stderr);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let (_root, _agent, mut program, mut stream) = attach(&["--view"]);
    stream.open();
    stream.opened(Mode::View, 0);
    stream.output(0, "first line\n");
    let mut line = String::new();
    let mut stdout = BufReader::new(program.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    drop(stdout);
    assert_eq!(line, "first line\n");
    stream.output(11, "more");
    stream.detached();
    let ended = program.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn watching_does_not_read_stdin_and_ends_by_a_signal() {
    let (_root, _agent, mut program, mut stream) = attach(&["--view", "--tail", "4096"]);
    let open = stream.open();
    assert_eq!(open.mode(), Mode::View);
    let start = open.start.unwrap().from;
    assert_eq!(
        start,
        Some(vmconsole_proto::v1::start::From::TailBytes(4096))
    );
    drop(program.stdin.take());
    stream.opened(Mode::View, 0);
    stream.output(0, "seen");
    let mut seen = [0; 4];
    std::io::Read::read_exact(program.stdout.as_mut().unwrap(), &mut seen).unwrap();
    program.signal(Signal::SIGTERM);
    stream.detached();
    assert_eq!(program.end().code, Some(143));
}

#[test]
fn a_takeover_carries_its_reason() {
    let (_root, _agent, mut program, mut stream) = attach(&[
        "serial1",
        "--takeover",
        "--reason",
        "incident 4711",
        "--linger",
        "0",
    ]);
    let open = stream.open();
    assert_eq!(open.mode(), Mode::WriteTakeover);
    assert_eq!(open.takeover_reason, "incident 4711");
    assert_eq!(open.console.unwrap().alias, "serial1");
    stream.opened(Mode::WriteTakeover, 1024);
    drop(program.stdin.take());
    stream.detached();
    assert_eq!(program.end().code, Some(0));
}
