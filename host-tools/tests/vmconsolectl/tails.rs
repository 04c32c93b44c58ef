//! `tail`: the last lines, and what follows them.

use nix::sys::signal::Signal;
use vmconsole_proto::v1::start::From as StartFrom;
use vmconsole_proto::v1::stream_console_response::Message as ToClient;
use vmconsole_proto::v1::{Console, Gap, GapReason, Mode, Opened, Reason};

use crate::fake_agent::{FakeAgent, Script};
use crate::fake_console::{ClientStream, at, opened};
use crate::program::{Piped, pki, vmconsolectl};

/// `tail web-1/serial1` with these options; the agent has said that so much was written.
fn tail(options: &[&str], head: u64) -> (tempfile::TempDir, FakeAgent, Piped, ClientStream) {
    let (root, pki) = pki();
    let agent = FakeAgent::start(&pki, Script::default());
    let mut command = vmconsolectl(&pki, agent.address);
    let program = Piped::start(command.args(["tail", "web-1/serial1"]).args(options));
    let mut stream = agent.stream();
    let open = stream.open();
    assert_eq!((open.mode(), open.view_otherwise), (Mode::View, false));
    assert_eq!(open.console.unwrap().alias, "serial1");
    assert_eq!(open.start.unwrap().from, Some(StartFrom::TailLines(10)));
    stream.say(ToClient::Opened(Opened {
        console: Some(Console {
            head: at(head),
            ..Default::default()
        }),
        ..opened(Mode::View, 0)
    }));
    (root, agent, program, stream)
}

#[test]
fn it_ends_with_what_there_was_when_it_began() {
    let (_root, _agent, program, mut stream) = tail(&[], 8);
    let gap = Gap {
        from: at(0),
        to: at(3),
        length_known: true,
        reason: GapReason::Overrun.into(),
    };
    stream.say(ToClient::Gap(gap));
    stream.output(3, "one\n");
    stream.output(7, "\n");
    stream.detached();
    let ended = program.end();
    assert_eq!((ended.code, &ended.stdout[..]), (Some(0), &b"one\n\n"[..]));
    assert!(ended.stderr.contains("gap: 3 bytes"), "{}", ended.stderr);
}

#[test]
fn a_console_that_wrote_nothing_has_no_last_lines() {
    let (_root, _agent, program, mut stream) = tail(&[], 0);
    stream.detached();
    let ended = program.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
fn one_that_follows_goes_on_after_a_break_and_ends_by_a_signal() {
    let (_root, agent, mut program, stream) = tail(&["--follow"], 4);
    stream.output(0, "one\n");
    let mut line = [0; 4];
    let stdout = program.stdout.as_mut().unwrap();
    std::io::Read::read_exact(stdout, &mut line).unwrap();
    drop(stream);
    let mut stream = agent.stream();
    let open = stream.open();
    assert_eq!(open.mode(), Mode::View);
    let from = open.start.unwrap().from;
    assert_eq!(from, Some(StartFrom::Resume(at(4).unwrap())));
    stream.say(ToClient::Opened(Opened {
        position: at(4),
        ..opened(Mode::View, 0)
    }));
    stream.output(4, "two\n");
    std::io::Read::read_exact(stdout, &mut line).unwrap();
    assert_eq!(&line, b"two\n");
    program.signal(Signal::SIGTERM);
    stream.detached();
    assert_eq!(program.end().code, Some(143));
}

#[test]
fn one_that_does_not_follow_tells_a_break_by_its_exit() {
    let (_root, _agent, program, mut stream) = tail(&["--no-reconnect"], 9);
    stream.output(0, "one\n");
    stream.closed(Reason::AgentDraining);
    let ended = program.end();
    assert_eq!((ended.code, &ended.stdout[..]), (Some(8), &b"one\n"[..]));
}
