//! Where `vnc` and `relay` listen, and the viewer that is started.

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::Signal;
use tonic::Code;
use vmconsole_proto::v1::Mode;

use crate::fake_agent::FakeAgent;
use crate::fake_console::ClientStream;
use crate::program::{LIMIT, Piped, pki, vmconsolectl};
use crate::relay_ends::refusal;
use crate::relays::{Relaying, rest, script};

/// `relay` of the serial console at a unix socket.
fn words(socket: &Path) -> [String; 4] {
    let listen = format!("--listen=unix:{}", socket.display());
    ["relay", "web-1", "--console=serial0", &listen].map(str::to_owned)
}

/// A client of the socket that sees a login, and the stream that is opened for it.
fn at_login(relaying: &Relaying, socket: &Path) -> (UnixStream, ClientStream) {
    let mut client = UnixStream::connect(socket).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let mut stream = relaying.agent.stream();
    stream.open();
    stream.opened(Mode::WriteIfFree, 3);
    stream.output(0, "login: ");
    let mut seen = [0; 7];
    client.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"login: ");
    (client, stream)
}

#[test]
fn a_unix_socket_is_its_owners_alone_and_gone_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("console");
    let words = words(&socket);
    let relaying = Relaying::start(&words.each_ref().map(String::as_str));
    let resolved = fs::canonicalize(&socket).unwrap();
    assert_eq!(relaying.address, format!("unix:{}", resolved.display()));
    let mode = fs::symlink_metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let (client, mut stream) = at_login(&relaying, &socket);
    relaying.program.signal(Signal::SIGTERM);
    stream.detached();
    assert_eq!(rest(&client), b"");
    let ended = relaying.program.end();
    assert_eq!(ended.code, Some(143), "{}", ended.stderr);
    assert!(!socket.exists());
}

#[test]
fn a_socket_in_use_is_left_alone_and_one_of_a_program_that_was_killed_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("console");
    let words = words(&socket);
    let first = Relaying::start(&words.each_ref().map(String::as_str));
    let mut command = vmconsolectl(&first.root.path().join("pki"), first.agent.address);
    let second = Piped::start(command.args(&words)).end();
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    assert!(second.stderr.contains("another program listens"));
    // It was no client of the first: the first stream is this one's.
    let _client = at_login(&first, &socket);
    first.program.signal(Signal::SIGKILL);
    assert_eq!(first.program.end().code, None);
    assert!(socket.exists());
    let third = Relaying::start(&words.each_ref().map(String::as_str));
    UnixStream::connect(&socket).unwrap();
    assert!(third.agent.stream().open().console.is_some());
}

#[test]
fn a_busy_port_and_a_directory_of_others_are_refused() {
    let (_root, pki) = pki();
    let agent = FakeAgent::start(&pki, script());
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    let others = format!("unix:{}/vnc", directory.path().display());
    for (listen, told) in [(&port, "choose another"), (&others, "others may write to")] {
        let mut command = vmconsolectl(&pki, agent.address);
        let ended = Piped::start(command.args(["vnc", "web-1", "--listen", listen])).end();
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
        assert_eq!(ended.stdout, b"");
    }
}

#[test]
fn an_address_that_other_hosts_reach_is_warned_of() {
    for (listen, warned) in [("0.0.0.0:0", true), ("127.0.0.1:0", false)] {
        let relaying = Relaying::start(&["vnc", "web-1", "--listen", listen]);
        relaying.program.signal(Signal::SIGINT);
        let ended = relaying.program.end();
        assert_eq!(ended.code, Some(130));
        assert_eq!(ended.stderr.contains("warning: whoever reaches"), warned);
        let hint = ended.stderr.contains("vncviewer ");
        assert!(
            hint && ended.stderr.contains("web-1/vnc0 is at "),
            "{}",
            ended.stderr
        );
    }
}

/// `vnc --viewer` with a script of bash, which knows where to connect as `$port`.
fn with_viewer(script_text: &str) -> (tempfile::TempDir, FakeAgent, Piped) {
    let (root, pki) = pki();
    let agent = FakeAgent::start(&pki, script());
    let viewer = root.path().join("viewer");
    let text = format!("#!/bin/bash\nport=${{1#127.0.0.1::}}\n{script_text}\n");
    fs::write(&viewer, text).unwrap();
    fs::set_permissions(&viewer, Permissions::from_mode(0o755)).unwrap();
    let mut command = vmconsolectl(&pki, agent.address);
    let command = command.args(["vnc", "web-1", "--viewer"]);
    let program = Piped::start(command.env("VMCONSOLE_VIEWER", &viewer));
    (root, agent, program)
}

const CONNECT: &str = "exec 3<>/dev/tcp/127.0.0.1/$port; read -r line <&3; echo \"saw $line\"";

#[test]
fn a_viewer_is_started_and_its_end_is_the_end() {
    for (then, exit) in [("", 0), ("; exit 3", 1)] {
        let (_root, agent, program) = with_viewer(&format!("{CONNECT}{then}"));
        let mut stream = agent.display();
        stream.open();
        stream.opened(Mode::WriteIfFree, 3);
        stream.shows(0, "RFB 003.008\n");
        stream.until_half_closed_or_detached();
        let ended = program.end();
        assert_eq!(ended.code, Some(exit), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("saw RFB 003.008\n"),
            "{}",
            ended.stderr
        );
        assert_eq!(ended.stdout, b"");
        let failed = ended.stderr.contains("viewer ended with exit status: 3");
        assert_eq!(failed, exit != 0, "{}", ended.stderr);
    }
}

#[test]
fn a_refusal_decides_the_exit_however_soon_the_viewer_ends() {
    // What the viewer started holds its connection for longer than it runs itself.
    let held = "exec 3<>/dev/tcp/127.0.0.1/$port; read -r line <&3; \
                sleep 2 >/dev/null 2>&1 & exit";
    for status in [0, 3] {
        let (_root, agent, program) = with_viewer(&format!("{held} {status}"));
        let stream = agent.display();
        stream.refuse(refusal(Code::PermissionDenied, "DENIED"));
        let ended = program.end();
        assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    }
}

#[test]
fn a_viewer_goes_with_the_program() {
    let connected = "exec 3<>/dev/tcp/127.0.0.1/$port; echo $$ >&3; exec cat <&3";
    let (_root, agent, program) = with_viewer(connected);
    let mut stream = agent.display();
    stream.open();
    stream.opened(Mode::WriteIfFree, 100);
    let pid = String::from_utf8(stream.data()).unwrap();
    program.signal(Signal::SIGTERM);
    stream.detached();
    let ended = program.end();
    assert_eq!(ended.code, Some(143), "{}", ended.stderr);
    let process = Path::new("/proc").join(pid.trim());
    assert!(!process.exists(), "the viewer goes on");
}

#[test]
fn a_viewer_that_is_not_there_is_told() {
    let (_root, pki) = pki();
    let agent = FakeAgent::start(&pki, script());
    let mut command = vmconsolectl(&pki, agent.address);
    let command = command
        .args(["vnc", "web-1", "--viewer"])
        .env("PATH", "/nowhere");
    let ended = Piped::start(command).end();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("found none of xtigervncviewer"));
    let mut command = vmconsolectl(&pki, agent.address);
    let command = command.args(["vnc", "web-1", "--viewer"]);
    let ended = Piped::start(command.env("VMCONSOLE_VIEWER", "/nowhere/viewer")).end();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains("cannot start the viewer /nowhere/viewer")
    );
}
