//! `vnc` and `relay`: every byte, both ways, and nobody further ahead than the other allows.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use vmconsole_proto::v1::relay_graphics_request::Message as FromDisplay;
use vmconsole_proto::v1::relay_graphics_response::Message as ToDisplay;
use vmconsole_proto::v1::stream_console_request::Message as FromClient;
use vmconsole_proto::v1::stream_console_response::Message as ToClient;
use vmconsole_proto::v1::*;

use crate::fake_agent::{FakeAgent, Script};
use crate::fake_console::{ClientStream, at};
use crate::fake_display::DisplayStream;
use crate::program::{LIMIT, Piped, pki, vmconsolectl};

/// A program that relays, and where.
pub(crate) struct Relaying {
    pub(crate) root: tempfile::TempDir,
    pub(crate) agent: FakeAgent,
    pub(crate) program: Piped,
    pub(crate) address: String,
}

/// What the agent lists of web-1.
pub(crate) fn script() -> Script {
    let console = |alias: &str, kind: ConsoleKind| Console {
        vm_uuid: "6f1f7f32-0000-4000-8000-00000000000a".into(),
        vm_name: "web-1".into(),
        alias: alias.into(),
        kind: kind.into(),
        ..Default::default()
    };
    let consoles = vec![
        console("serial0", ConsoleKind::Serial),
        console("vnc0", ConsoleKind::Vnc),
    ];
    Script {
        pages: vec![ListConsolesResponse {
            consoles,
            next_page_token: String::new(),
        }],
        ..Default::default()
    }
}

impl Relaying {
    /// Starts the program, and waits until it listens.
    pub(crate) fn start(words: &[&str]) -> Self {
        let (root, pki) = pki();
        Self::start_with(root, &pki, words)
    }

    /// `relay` for one connection, which comes to a unix socket: to a port a client might come
    /// that looks for another test's agent.
    pub(crate) fn once(options: &[&str]) -> (Self, UnixStream) {
        let (root, pki) = pki();
        let socket = root.path().join("socket");
        let listen = format!("--listen=unix:{}", socket.display());
        let words = [&["relay", "web-1", "--once", &listen], options].concat();
        let relaying = Self::start_with(root, &pki, &words);
        let client = UnixStream::connect(&socket).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.set_write_timeout(Some(LIMIT)).unwrap();
        (relaying, client)
    }

    fn start_with(root: tempfile::TempDir, pki: &Path, words: &[&str]) -> Self {
        let agent = FakeAgent::start(pki, script());
        let mut program = Piped::start(vmconsolectl(pki, agent.address).args(words));
        let address = program.line();
        Self {
            root,
            agent,
            program,
            address,
        }
    }

    /// A client of the TCP port.
    pub(crate) fn client(&self) -> TcpStream {
        let client = TcpStream::connect(&self.address).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.set_write_timeout(Some(LIMIT)).unwrap();
        client
    }

    /// A client, and the display that is opened for it.
    pub(crate) fn viewer(&self) -> (TcpStream, DisplayStream) {
        let client = self.client();
        (client, self.agent.display())
    }
}

/// Reads to the end.
pub(crate) fn rest(mut client: impl std::io::Read) -> Vec<u8> {
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    all
}

fn bytes(len: usize) -> Vec<u8> {
    (0..=255).cycle().take(len).collect()
}

#[test]
fn a_display_and_its_viewer_have_every_byte_of_each_other_in_order() {
    let relaying = Relaying::start(&["vnc", "web-1"]);
    let (mut client, mut stream) = relaying.viewer();
    let open = stream.open();
    let console = open.console.clone().unwrap();
    assert_eq!(console.alias, "vnc0");
    assert!(open.mode() == Mode::WriteIfFree && open.view_otherwise && !open.exclusive);
    assert_eq!(open.rules, Some(GraphicsRules::default()));
    stream.opened(Mode::WriteIfFree, 10);
    let typed = bytes(2000);
    let mut writer = client.try_clone().unwrap();
    let sent = typed.clone();
    let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    assert!(stream.all_data(typed.len(), 10) == typed);
    writing.join().unwrap();

    let window = open.output_window;
    let picture = bytes(2 << 20);
    let expected = picture.clone();
    let reading = std::thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        client.read_exact(&mut got).unwrap();
        assert!(got == expected);
        client
    });
    let (mut shown, mut acked) = (0_usize, 0);
    let mut sizes = [1, 65_536, 13, 4096, 60_000].into_iter().cycle();
    while shown < picture.len() {
        let room = (window - (shown as u64 - acked)) as usize;
        let len = sizes.next().unwrap().min(room).min(picture.len() - shown);
        if len == 0 {
            acked = stream.ack();
            continue;
        }
        stream.shows(shown as u64, &picture[shown..shown + len]);
        shown += len;
    }
    let client = reading.join().unwrap();
    drop(client);
    stream.until_half_closed();
}

/// Opens with a heartbeat of a second, by which the test knows that nothing else is said.
fn opened_with_heartbeat(stream: &DisplayStream, input_window: u64) {
    stream.say(ToDisplay::Opened(RelayOpened {
        mode: Mode::WriteIfFree.into(),
        input_window,
        heartbeat: Some(prost_types::Duration {
            seconds: 1,
            nanos: 0,
        }),
        ..Default::default()
    }));
}

/// Waits for two pings with nothing between; returns the newest acknowledgement.
fn until_only_pings(stream: &mut DisplayStream, mut acked: u64) -> u64 {
    let mut pings = 0;
    while pings < 2 {
        match stream.next() {
            Some(FromDisplay::Ack(ack)) => {
                acked = ack.offset;
                return acked;
            }
            Some(FromDisplay::Ping(ping)) => {
                pings += 1;
                stream.say(ToDisplay::Pong(Pong { nonce: ping.nonce }));
            }
            other => panic!("neither ack nor ping: {other:?}"),
        }
    }
    acked
}

#[test]
fn what_a_viewer_does_not_read_is_not_acknowledged() {
    let socket = tempfile::tempdir().unwrap();
    let socket = socket.path().join("vnc");
    let listen = format!("unix:{}", socket.display());
    let relaying = Relaying::start(&["relay", "web-1", "--console", "vnc0", "--listen", &listen]);
    let mut client = UnixStream::connect(&socket).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let mut stream = relaying.agent.display();
    let window = stream.open().output_window;
    opened_with_heartbeat(&stream, 10);
    let (mut shown, mut acked) = (0_u64, 0);
    loop {
        while shown - acked < window {
            let len = (window - (shown - acked)).min(32_768);
            stream.shows(shown, vec![7; len as usize]);
            shown += len;
        }
        let now = until_only_pings(&mut stream, acked);
        if now == acked {
            break;
        }
        acked = now;
    }
    // Nobody has read a byte: what was acknowledged is what the kernel holds for the client.
    assert!(
        shown - acked == window && acked < 8 << 20,
        "{shown} {acked}"
    );
    let mut got = vec![0; shown as usize];
    client.read_exact(&mut got).unwrap();
    assert!(got.iter().all(|byte| *byte == 7));
    while shown - acked > window / 2 {
        acked = until_only_pings(&mut stream, acked);
    }
}

#[test]
fn what_the_agent_did_not_allow_is_not_sent() {
    let relaying = Relaying::start(&["vnc", "web-1"]);
    let (client, mut stream) = relaying.viewer();
    stream.open();
    opened_with_heartbeat(&stream, 100_000);
    let sent = vec![7; 16 << 20];
    let mut writer = client.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&sent));
    let mut got = 0;
    while got < 100_000 {
        got += stream.data().len();
    }
    assert_eq!(got, 100_000);
    // More waits, and is not sent: two heartbeats bring nothing else.
    assert_eq!(until_only_pings(&mut stream, 0), 0);
    stream.acknowledge(5);
    assert_eq!(stream.data().len(), 5);
    assert!(!writing.is_finished(), "16 MiB fit into the sockets");
    stream.closed(Reason::VmStopped);
    assert_eq!(rest(&client), b"");
    drop(client);
    // It was reset, with what nobody took.
    writing.join().unwrap().unwrap_err();
}

#[test]
fn a_viewer_that_ends_its_side_hears_the_rest() {
    let relaying = Relaying::start(&["vnc", "web-1"]);
    let (mut client, mut stream) = relaying.viewer();
    stream.open();
    stream.opened(Mode::WriteIfFree, 3);
    client.write_all(b"bye").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.data(), b"bye");
    stream.until_half_closed();
    stream.shows(0, "the rest");
    stream.closed(Reason::ClientDetached);
    assert_eq!(rest(&client), b"the rest");
}

#[test]
fn what_comes_after_the_end_of_a_viewers_side_has_no_window() {
    let (relaying, client) = Relaying::once(&["--console=vnc0"]);
    let mut stream = relaying.agent.display();
    assert!(stream.open().output_window < 2 << 20);
    stream.opened(Mode::WriteIfFree, 3);
    client.shutdown(Shutdown::Write).unwrap();
    stream.until_half_closed();
    let picture = bytes(4 << 20);
    let (mut client, mut reading) = (Some(client), None);
    for (number, piece) in picture.chunks(65_536).enumerate() {
        // By then more than the window was sent, and nobody has read a byte.
        if number == 24 {
            let client = client.take().unwrap();
            reading = Some(std::thread::spawn(move || rest(client)));
        }
        stream.shows(number as u64 * 65_536, piece);
    }
    stream.closed(Reason::ClientDetached);
    assert!(reading.unwrap().join().unwrap() == picture);
    let ended = relaying.program.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn a_display_that_ends_is_shown_to_its_last_byte_and_the_next_viewer_served() {
    let relaying = Relaying::start(&["vnc", "web-1"]);
    let (client, mut stream) = relaying.viewer();
    stream.open();
    stream.opened(Mode::WriteIfFree, 3);
    let picture = bytes(100_000);
    stream.shows(0, &picture[..60_000]);
    stream.shows(60_000, &picture[60_000..]);
    stream.closed(Reason::EndpointLost);
    assert!(rest(&client) == picture);
    let (_client, mut next) = relaying.viewer();
    assert_eq!(next.open().mode(), Mode::WriteIfFree);
}

/// A serial console that is relayed with these options, and its only client.
fn serial(options: &[&str]) -> (Relaying, UnixStream, ClientStream) {
    let (relaying, client) = Relaying::once(options);
    let stream = relaying.agent.stream();
    (relaying, client, stream)
}

#[test]
fn a_serial_console_is_relayed_byte_for_byte_until_it_is_quiet() {
    let (relaying, mut client, mut stream) = serial(&[]);
    let open = stream.open();
    assert!(open.mode() == Mode::WriteIfFree && !open.view_otherwise);
    stream.opened(Mode::WriteIfFree, 10);
    let typed = bytes(300);
    client.write_all(&typed).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(stream.input(typed.len(), 10) == typed);
    stream.output(0, "\x1b[2Jone");
    stream.say(ToClient::Gap(Gap {
        from: at(7),
        to: at(107),
        length_known: true,
        ..Default::default()
    }));
    stream.output(107, "two");
    stream.detached();
    assert_eq!(rest(&client), b"\x1b[2Jonetwo");
    let ended = relaying.program.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("100 bytes of output missing"));
}

#[test]
fn a_serial_console_whose_lease_is_taken_is_closed() {
    let (relaying, mut client, mut stream) = serial(&[]);
    stream.open();
    stream.opened(Mode::WriteIfFree, 3);
    client.write_all(b"abcdef").unwrap();
    assert!(matches!(stream.next(), Some(FromClient::Input(_))));
    stream.say(ToClient::WriterChanged(WriterChanged {
        writer: Some(Participant {
            subject: "bob".into(),
            ..Default::default()
        }),
        write_epoch: 4,
        reason: Reason::TakenOver.into(),
        ..Default::default()
    }));
    stream.detached();
    assert_eq!(rest(&client), b"");
    let ended = relaying.program.end();
    assert_eq!(ended.code, Some(7), "{}", ended.stderr);
    assert!(ended.stderr.contains("lost the writer's lease to bob"));
}

#[test]
fn a_watched_serial_console_takes_nothing_from_its_client() {
    let (relaying, mut client, mut stream) = serial(&["--view-only"]);
    assert_eq!(stream.open().mode(), Mode::View);
    stream.opened(Mode::View, 0);
    stream.output(0, "seen");
    let mut seen = [0; 4];
    client.read_exact(&mut seen).unwrap();
    client.write_all(b"typed").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    stream.detached();
    assert_eq!((&seen, rest(&client)), (b"seen", Vec::new()));
    let ended = relaying.program.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("what the client sends is dropped"));
}
