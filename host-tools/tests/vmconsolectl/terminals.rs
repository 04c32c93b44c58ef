//! `attach` on a terminal: keys, escapes, notices, and the terminal as it was afterwards.

use std::time::Instant;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use vmconsole_proto::v1::stream_console_request::Message as FromClient;
use vmconsole_proto::v1::stream_console_response::Message as ToClient;
use vmconsole_proto::v1::{Gap, GapReason, Mode, Participant, Reason, WriterChanged};

use crate::fake_agent::{FakeAgent, Script};
use crate::fake_console::{ClientStream, at};
use crate::program::{LIMIT, OnTerminal, nobody, pki, under_a_shell, vmconsolectl};

/// `attach web-1` with these options; the agent has seen Open.
fn attach(options: &[&str]) -> (tempfile::TempDir, FakeAgent, OnTerminal, ClientStream) {
    let (root, pki) = pki();
    let agent = FakeAgent::start(&pki, Script::default());
    let mut command = vmconsolectl(&pki, agent.address);
    let terminal = OnTerminal::start(command.args(["attach", "web-1"]).args(options));
    let stream = agent.stream();
    (root, agent, terminal, stream)
}

/// The same, opened for writing.
fn writing() -> (tempfile::TempDir, FakeAgent, OnTerminal, ClientStream) {
    writing_with(&[])
}

/// The same with these options.
fn writing_with(options: &[&str]) -> (tempfile::TempDir, FakeAgent, OnTerminal, ClientStream) {
    let (root, agent, mut terminal, mut stream) = attach(options);
    stream.open();
    stream.opened(Mode::WriteIfFree, 1024);
    terminal.sees("attached to web-1/serial0");
    // Output comes behind the notice; by then the terminal is raw.
    stream.output(0, "login: ");
    terminal.sees("login: ");
    assert!(terminal.is_raw());
    (root, agent, terminal, stream)
}

#[test]
fn keys_go_to_the_guest_one_by_one_and_the_escape_key_leaves() {
    let (_root, _agent, mut terminal, mut stream) = writing();
    terminal.type_keys(b"ro");
    assert_eq!(stream.input(2, 1024), b"ro");
    terminal.type_keys(&[0x03, 0x1d, 0x1d, 0x1d]);
    let Some(FromClient::Input(input)) = stream.next() else {
        panic!("no input")
    };
    assert_eq!((input.offset, input.write_epoch), (2, 3));
    assert_eq!(&input.data[..], &[0x03, 0x1d]);
    stream.detached();
    terminal.sees("detached");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn the_tilde_escapes_help_and_leave() {
    let (_root, _agent, mut terminal, mut stream) = writing();
    terminal.type_keys(b"~?");
    assert!(
        terminal
            .sees("attached in all")
            .contains("Enter ~ .   leave\r\n")
    );
    terminal.type_keys(b"\r~.");
    assert_eq!(stream.input(1, 1024), b"\r");
    stream.detached();
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn a_terminals_answer_to_the_guest_leaves_the_tilde_escapes_alone() {
    let (_root, _agent, mut terminal, mut stream) = writing();
    terminal.type_keys(b"\r\x1b[24;3R");
    assert_eq!(stream.input(8, 1024), b"\r\x1b[24;3R");
    terminal.type_keys(b"~.");
    stream.detached();
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn an_agent_that_does_not_answer_keeps_nobody() {
    let (_root, _agent, mut terminal, _stream) = writing();
    terminal.type_keys(&[0x1d, b'q']);
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn signals_put_the_terminal_back_and_are_told_by_the_exit() {
    for (signal, code) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
        (Signal::SIGINT, 130),
    ] {
        let (_root, _agent, mut terminal, mut stream) = writing();
        terminal.signal(signal);
        stream.detached();
        assert_eq!(terminal.end(), Some(code), "{signal}");
    }
}

#[test]
fn a_stopped_program_gives_the_terminal_back_until_it_goes_on() {
    let (_root, _agent, mut terminal, mut stream) = writing();
    terminal.signal(Signal::SIGTSTP);
    let stopped = waitpid(terminal.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(
        matches!(stopped, WaitStatus::Stopped(_, Signal::SIGSTOP)),
        "{stopped:?}"
    );
    assert!(terminal.is_restored());
    terminal.signal(Signal::SIGCONT);
    terminal.type_keys(b"x");
    assert_eq!(stream.input(1, 1024), b"x");
    assert!(terminal.is_raw());
    terminal.signal(Signal::SIGTERM);
    stream.detached();
    assert_eq!(terminal.end(), Some(143));
}

/// `attach web-1` in the background of a shell that then runs these lines; the program is
/// stopped, and the shell's terminal is as it was.
fn in_the_background(lines: &str) -> (tempfile::TempDir, FakeAgent, OnTerminal, ClientStream) {
    let (root, pki) = pki();
    let agent = FakeAgent::start(&pki, Script::default());
    let mut command = vmconsolectl(&pki, agent.address);
    command.args(["attach", "web-1"]);
    let script = format!("\"$@\" & wait %1; echo stopped $?; read -r go; {lines}");
    let mut terminal = OnTerminal::start(&mut under_a_shell(&command, &script));
    let mut stream = agent.stream();
    stream.open();
    stream.opened(Mode::WriteIfFree, 1024);
    let sigttou = 128 + Signal::SIGTTOU as i32;
    terminal.sees(&format!("stopped {sigttou}"));
    assert!(terminal.is_restored());
    terminal.type_keys(b"go\r");
    (root, agent, terminal, stream)
}

#[test]
fn in_the_background_the_terminal_is_left_alone_until_the_shell_hands_it_over() {
    let (_root, _agent, mut terminal, mut stream) =
        in_the_background("bg; wait %1; echo again $?; read -r go; fg; echo ended $?");
    terminal.sees("again 1");
    assert!(terminal.is_restored());
    terminal.type_keys(b"go\r");
    stream.output(0, "login: ");
    terminal.sees("login: ");
    terminal.until_raw();
    terminal.type_keys(b"x");
    assert_eq!(stream.input(1, 1024), b"x");
    terminal.type_keys(&[0x1d]);
    stream.detached();
    terminal.sees("ended 0");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn a_signal_ends_a_program_that_is_stopped_in_the_background() {
    // What the shell sets in between is the shell's.
    let (_root, _agent, mut terminal, mut stream) =
        in_the_background("stty -echo; kill $!; bg; wait -f $!; echo ended $?; stty -a; stty echo");
    stream.detached();
    terminal.sees("ended 143");
    terminal.sees(" -echo ");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn an_agent_that_vanishes_is_told_and_the_terminal_is_put_back() {
    let (_root, mut agent, mut terminal, _stream) = writing_with(&["--no-reconnect"]);
    agent.vanish();
    terminal.sees("the stream broke");
    assert_eq!(terminal.end(), Some(8));
}

#[test]
fn an_agent_that_closes_says_why() {
    let (_root, _agent, mut terminal, mut stream) = writing();
    stream.closed(Reason::Revoked);
    terminal.sees("the agent ended the stream: REVOKED");
    assert_eq!(terminal.end(), Some(4));
}

#[test]
fn an_unreachable_agent_leaves_the_terminal_alone() {
    let (_root, pki) = pki();
    let mut command = vmconsolectl(&pki, nobody());
    let mut terminal = OnTerminal::start(command.args(["attach", "web-1"]));
    terminal.sees("cannot connect to the agent at 127.0.0.1:");
    assert_eq!(terminal.end(), Some(3));
}

#[test]
fn who_writes_instead_is_told_and_so_is_a_takeover() {
    let (_root, _agent, mut terminal, mut stream) = attach(&[]);
    let open = stream.open();
    assert!(open.view_otherwise && open.mode() == Mode::WriteIfFree);
    stream.opened(Mode::View, 1024);
    terminal.sees("bob through web holds the writer's lease");
    let change = |you_write, epoch| WriterChanged {
        writer: Some(Participant {
            subject: "eve".into(),
            proxy: "web".into(),
            ..Default::default()
        }),
        write_epoch: epoch,
        reason: Reason::TakenOver.into(),
        takeover_reason: "incident 4711".into(),
        you_write,
    };
    stream.say(ToClient::WriterChanged(change(true, 4)));
    terminal.sees("you hold the writer's lease now");
    terminal.type_keys(b"x");
    let Some(FromClient::Input(input)) = stream.next() else {
        panic!("no input")
    };
    assert_eq!((input.write_epoch, &input.data[..]), (4, &b"x"[..]));
    stream.say(ToClient::WriterChanged(change(false, 5)));
    terminal.sees("to eve through web (TAKEN_OVER), saying \"incident 4711\"");
    terminal.type_keys(b"y\r~.");
    stream.detached();
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn a_gap_is_told_where_it_is() {
    let (_root, _agent, mut terminal, stream) = writing();
    let gap = Gap {
        from: at(7),
        to: at(107),
        length_known: true,
        reason: GapReason::Overrun.into(),
    };
    stream.say(ToClient::Gap(gap));
    stream.output(107, "after");
    let shown = terminal.sees("after");
    let (told, after) = (
        shown.find("gap: 100 bytes").unwrap(),
        shown.find("after").unwrap(),
    );
    assert!(shown.find("login: ").unwrap() < told && told < after);
}

#[test]
fn a_terminal_that_takes_nothing_can_be_left() {
    let (_root, pki) = pki();
    let agent = FakeAgent::start(&pki, Script::default());
    let mut command = vmconsolectl(&pki, agent.address);
    let mut terminal = OnTerminal::start_stuck(command.args(["attach", "web-1"]));
    let mut stream = agent.stream();
    let window = stream.open().output_window;
    stream.opened(Mode::WriteIfFree, 1024);
    let frame = vec![b'x'; 64 << 10];
    for offset in (0..window).step_by(frame.len()) {
        stream.output(offset, frame.clone());
    }
    // The guest's side still works, and so does leaving.
    terminal.type_keys(b"k");
    assert_eq!(stream.input(1, 1024), b"k");
    let begun = Instant::now();
    terminal.type_keys(&[0x1d]);
    stream.detached();
    assert_eq!(terminal.end(), Some(0));
    assert!(begun.elapsed() < LIMIT / 3);
}
