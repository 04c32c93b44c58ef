//! How relays are refused, break and end, and what their exit and messages are then.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use nix::sys::signal::Signal;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use vmconsole_proto::v1::relay_graphics_response::Message as ToDisplay;
use vmconsole_proto::v1::*;

use crate::fake_agent::{FakeAgent, Script};
use crate::fake_display::DisplayStream;
use crate::program::{Ended, LIMIT, Piped, nobody, pki, vmconsolectl};
use crate::relays::{Relaying, rest, script};

pub(crate) fn refusal(code: Code, reason: &str) -> Status {
    let details = HashMap::from([("holder".to_owned(), "bob".to_owned())]);
    let details = ErrorDetails::with_error_info(reason, "vmconsole", details);
    Status::with_error_details(code, "said the agent", details)
}

/// The display's only client, with these options beside.
fn once(options: &[&str]) -> (Relaying, UnixStream, DisplayStream) {
    let words = [&["--console=vnc0", "--exclusive"], options].concat();
    let (relaying, client) = Relaying::once(&words);
    let stream = relaying.agent.display();
    (relaying, client, stream)
}

#[test]
fn a_refusal_closes_the_connection_and_decides_the_exit() {
    for (code, reason, exit) in [
        (Code::FailedPrecondition, "LEASE_HELD", 7),
        (Code::Unimplemented, "UNSUPPORTED", 6),
        (Code::PermissionDenied, "DENIED", 4),
    ] {
        let (relaying, client, mut stream) = once(&[]);
        let open = stream.open();
        assert!(open.exclusive && !open.view_otherwise);
        stream.refuse(refusal(code, reason));
        assert_eq!(rest(&client), b"");
        let ended = relaying.program.end();
        assert_eq!(ended.code, Some(exit), "{}", ended.stderr);
        let told = format!("connection 1: cannot attach: {reason}: said the agent (holder: bob)\n");
        assert!(ended.stderr.contains(&told), "{}", ended.stderr);
    }
}

#[test]
fn a_refused_viewer_keeps_nobody_else_from_being_served() {
    let relaying = Relaying::start(&["vnc", "web-1"]);
    let (client, stream) = relaying.viewer();
    stream.refuse(refusal(Code::FailedPrecondition, "NOT_RUNNING"));
    assert_eq!(rest(&client), b"");
    let (mut client, mut stream) = relaying.viewer();
    stream.open();
    stream.opened(Mode::WriteIfFree, 3);
    client.write_all(b"abc").unwrap();
    assert_eq!(stream.data(), b"abc");
    relaying.program.signal(Signal::SIGINT);
    stream.detached();
    let ended = relaying.program.end();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
}

#[test]
fn an_agent_that_is_lost_closes_the_connection() {
    let (mut relaying, mut client, mut stream) = once(&[]);
    stream.open();
    stream.opened(Mode::WriteIfFree, 3);
    stream.shows(0, "RFB");
    let mut seen = [0; 3];
    client.read_exact(&mut seen).unwrap();
    relaying.agent.vanish();
    assert_eq!((&seen, rest(&client)), (b"RFB", Vec::new()));
    let ended = relaying.program.end();
    assert_eq!(ended.code, Some(8), "{}", ended.stderr);
    assert!(ended.stderr.contains("connection 1: the stream broke"));
}

#[test]
fn the_reason_of_the_end_is_told_with_what_held() {
    let (relaying, client, mut stream) = once(&["--view-only"]);
    let rules = stream.open().rules.unwrap();
    assert!(rules.view_only);
    stream.say(ToDisplay::Opened(RelayOpened {
        session_id: "s7".into(),
        mode: Mode::View.into(),
        rules: Some(rules),
        width: 640,
        height: 480,
        ..Default::default()
    }));
    stream.closed(Reason::RuleViolated);
    assert_eq!(rest(&client), b"");
    let ended = relaying.program.end();
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    let opened = "open as session s7, which only watches (640 x 480 pixels, view only)\n";
    assert!(ended.stderr.contains(opened), "{}", ended.stderr);
    assert!(ended.stderr.contains("RULE_VIOLATED"), "{}", ended.stderr);
}

#[test]
fn what_is_kept_back_is_asked_for() {
    let words = "vnc web-1 --listen 127.0.0.1:0 --takeover --reason why --exclusive \
                 --no-clipboard --refuse-key sysrq --refuse-key Ctrl-Alt-Delete";
    let relaying = Relaying::start(&words.split_whitespace().collect::<Vec<_>>());
    let (_client, mut stream) = relaying.viewer();
    let open = stream.open();
    assert_eq!(open.mode(), Mode::WriteTakeover);
    assert_eq!(open.takeover_reason, "why");
    assert!(open.exclusive && !open.view_otherwise);
    let rules = GraphicsRules {
        view_only: false,
        refuse_clipboard_to_guest: true,
        refuse_clipboard_from_guest: true,
        refused_keys: vec!["sysrq".into(), "ctrl-alt-delete".into()],
    };
    assert_eq!(open.rules, Some(rules));
}

#[test]
fn two_viewers_at_once_have_a_session_each() {
    let relaying = Relaying::start(&["vnc", "web-1"]);
    let mut both = [relaying.viewer(), relaying.viewer()];
    for (_, stream) in &mut both {
        stream.open();
        stream.opened(Mode::WriteIfFree, 16);
    }
    for (number, (client, stream)) in both.iter_mut().enumerate() {
        let name = format!("viewer {number}");
        client.write_all(name.as_bytes()).unwrap();
        assert_eq!(stream.data(), name.as_bytes());
        stream.shows(0, name.clone());
        let mut seen = vec![0; name.len()];
        client.read_exact(&mut seen).unwrap();
        assert_eq!(seen, name.as_bytes());
    }
    relaying.program.signal(Signal::SIGTERM);
    for (client, stream) in &mut both {
        stream.detached();
        assert_eq!(rest(&*client), b"");
    }
    let ended = relaying.program.end();
    assert_eq!(ended.code, Some(143), "{}", ended.stderr);
}

#[test]
fn more_connections_than_are_served_at_once_are_closed() {
    let relaying = Relaying::start(&["vnc", "web-1"]);
    let mut served: Vec<_> = (0..16).map(|_| relaying.viewer()).collect();
    assert_eq!(rest(relaying.client()), b"");
    let (client, mut stream) = served.remove(0);
    stream.open();
    stream.opened(Mode::WriteIfFree, 3);
    stream.closed(Reason::VmStopped);
    assert_eq!(rest(&client), b"");
    drop(client);
    // Its place is free as soon as the program has seen its end; until then, who comes is closed.
    let (_next, mut stream) = loop {
        let mut next = relaying.client();
        if let Some(stream) = served_or_closed(&relaying, &mut next) {
            break (next, stream);
        }
    };
    assert_eq!(stream.open().mode(), Mode::WriteIfFree);
    drop(served);
    relaying.program.signal(Signal::SIGTERM);
    let ended = relaying.program.end();
    assert!(ended.stderr.contains("16 connections are served at once"));
}

/// The display that is opened for a client, or nothing once it is closed.
fn served_or_closed(relaying: &Relaying, client: &mut TcpStream) -> Option<DisplayStream> {
    client.set_nonblocking(true).unwrap();
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(stream) = relaying.agent.try_display() {
            return Some(stream);
        }
        if matches!(client.read(&mut [0]), Ok(0)) {
            return None;
        }
        assert!(Instant::now() < until, "neither served nor closed");
        std::thread::yield_now();
    }
}

fn run(script: Script, words: &[&str]) -> Ended {
    let (_root, pki) = pki();
    let agent = FakeAgent::start(&pki, script);
    Piped::start(vmconsolectl(&pki, agent.address).args(words)).end()
}

#[test]
fn a_signal_ends_a_program_that_does_not_listen_yet() {
    for (signal, exit) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let (_root, pki) = pki();
        // An agent that takes the connection, and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = vmconsolectl(&pki, silent.local_addr().unwrap());
        let program = Piped::start(command.args(["vnc", "web-1"]));
        let _connected = silent.accept().unwrap();
        program.signal(signal);
        let ended = program.end();
        assert_eq!(ended.code, Some(exit), "{}", ended.stderr);
        assert_eq!(ended.stdout, b"");
    }
}

#[test]
fn what_is_not_there_is_told_before_anything_is_listened_on() {
    let listen = ["--listen", "127.0.0.1:0"];
    for (words, exit, told) in [
        (
            &["vnc", "web-1", "--console", "serial0"][..],
            6,
            "serial0 is of kind serial",
        ),
        (
            &["vnc", "web-1", "--console", "vnc7"],
            5,
            "it has serial0, vnc0",
        ),
        (
            &["relay", "web-1", "--no-clipboard"],
            2,
            "web-1/serial0 is no display",
        ),
    ] {
        let listen = if words[0] == "relay" {
            &listen[..]
        } else {
            &[]
        };
        let ended = run(script(), &[words, listen].concat());
        assert_eq!(ended.code, Some(exit), "{}", ended.stderr);
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
        assert_eq!(ended.stdout, b"");
    }
    let ended = run(Script::default(), &["vnc", "web-1"]);
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    let refused = Script {
        list_refused: Some(refusal(Code::PermissionDenied, "DENIED")),
        ..Default::default()
    };
    let ended = run(refused, &["vnc", "web-1"]);
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    let (_root, pki) = pki();
    let ended = Piped::start(vmconsolectl(&pki, nobody()).args(["vnc", "web-1"])).end();
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
}
