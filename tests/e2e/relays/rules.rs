//! What a relay keeps from its guest, as the guest counts it and as it goes to QEMU; a person who
//! may only look sees the picture all the while.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};
use vmconsole_proto::v1;
use vmconsole_tests::client::{Attached, relay_open};
use vmconsole_tests::qemu::{Boot, QemuOptions, Vnc};
use vmconsole_tests::rfb;

use super::{firmware, looks, ready, showing, writing};
use crate::host::{BOUND, QemuHost, run};

/// How long one event of Linux's input devices is, in bytes.
const EVENT: u64 = 24;

/// `a`, and its place on the keyboard.
const A: (u32, u32) = (0x61, 0x1e);

/// Every message that does something to a guest, or may.
fn inputs() -> Vec<Bytes> {
    let message = |head: &[u8], more: &[u8]| {
        let mut message = BytesMut::from(head);
        message.put_slice(more);
        message.freeze()
    };
    // QEMU's extended key event, both ways.
    let extended = |down: u8| {
        let mut message = BytesMut::from([255, 0, 0, down].as_slice());
        message.put_u32(A.0);
        message.put_u32(A.1);
        message.freeze()
    };
    // The extended clipboard's provide of text, with a length below zero.
    let mut clipboard = BytesMut::from([6, 0, 0, 0].as_slice());
    clipboard.put_i32(-12);
    clipboard.put_u32(0x1000_0001);
    clipboard.put_slice(&[0; 8]);
    vec![
        rfb::key_event(true, A.0),
        rfb::key_event(false, A.0),
        rfb::pointer_event(1, 10, 10),
        rfb::pointer_event(0, 20, 20),
        rfb::cut_text(b"rm -rf /\n"),
        clipboard.freeze(),
        extended(1),
        extended(0),
        // QEMU's sound: on, its format, off.
        Bytes::from_static(&[255, 1, 0, 0]),
        message(&[255, 1, 0, 2, 3, 2], &44_100_u32.to_be_bytes()),
        Bytes::from_static(&[255, 1, 0, 1]),
        // Another size of the screen: one screen of 640 by 480.
        message(
            &[251, 0, 2, 128, 1, 224, 1, 0, 0, 0, 0, 1],
            &[0, 0, 0, 0, 2, 128, 1, 224, 0, 0, 0, 0],
        ),
        // A shutdown, a reboot and a reset by xvp.
        Bytes::from_static(&[250, 0, 1, 2]),
        Bytes::from_static(&[250, 0, 1, 3]),
        Bytes::from_static(&[250, 0, 1, 4]),
    ]
}

async fn counted(shell: &mut Attached) -> u64 {
    let said = run(&mut shell.send, &mut shell.receive, "wc -c </run/input").await;
    let mut lines = said.lines().map(str::trim);
    let count = lines.find_map(|line| line.parse().ok());
    count.unwrap_or_else(|| panic!("{said:?}"))
}

/// What the guest has counted once it has counted anything.
async fn counts(shell: &mut Attached) -> u64 {
    let until = Instant::now() + BOUND;
    loop {
        match counted(shell).await {
            0 => assert!(Instant::now() < until, "the guest counts nothing at all"),
            some => return some,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guest_counts_what_it_is_told_and_a_viewer_tells_it_nothing() {
    let host = QemuHost::start();
    let mut options = QemuOptions::named("counted");
    (options.vga, options.virtio_input) = (true, true);
    options.vnc = Some(Vnc::Unix);
    let mut guest = host.guest(options);
    let client = host.client().await;
    let mut shell = host.shell(&client, "counted").await;
    assert_eq!(counted(&mut shell).await, 0);

    let (mut viewer, mut screen) = showing(&client, relay_open("counted", v1::Mode::View)).await;
    let mut restricted = writing("counted");
    restricted.rules = Some(v1::GraphicsRules {
        view_only: true,
        ..Default::default()
    });
    let (mut holder, mut seen) = showing(&client, restricted).await;
    assert_eq!(
        holder.opened.mode(),
        v1::Mode::WriteIfFree,
        "it holds the lease"
    );
    for input in inputs() {
        viewer.send(input.clone(), BOUND).await;
        holder.send(input, BOUND).await;
        looks(&mut viewer, &mut screen).await;
        looks(&mut holder, &mut seen).await;
    }
    drop((viewer, holder));

    // One who may press a key: what comes of that is all that the guest was ever told.
    let (mut writer, mut screen) = loop {
        // The lease is free once the session before is seen to have gone.
        let waiting = relay_open("counted", v1::Mode::WriteQueue);
        let (relay, screen) = showing(&client, waiting).await;
        if relay.opened.mode() == v1::Mode::WriteQueue {
            break (relay, screen);
        }
    };
    writer.send(rfb::key_event(true, A.0), BOUND).await;
    looks(&mut writer, &mut screen).await;
    // The key, and the mark after it.
    assert_eq!(
        counts(&mut shell).await,
        2 * EVENT,
        "a viewer reached the guest"
    );
    assert!(guest.monitor().run("query-status", &serde_json::json!({}))["running"] == true);
    drop((writer, shell));
    host.settled().await;
}

/// Takes the place of a display's socket, and keeps what goes to the display.
struct Recorder {
    to_display: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    fn at(socket: &Path) -> Self {
        let real = socket.with_extension("real");
        std::fs::rename(socket, &real).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let user = vmconsole_tests::user::lookup();
        nix::unistd::chown(socket, Some(user.uid), Some(user.gid)).unwrap();
        let to_display = Arc::<Mutex<Vec<u8>>>::default();
        let kept = to_display.clone();
        std::thread::spawn(move || {
            while let Ok((caller, _)) = listener.accept() {
                let display = UnixStream::connect(&real).unwrap();
                let (mut from, mut to) =
                    (caller.try_clone().unwrap(), display.try_clone().unwrap());
                let kept = kept.clone();
                std::thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(read @ 1..) = from.read(&mut bytes) {
                        kept.lock().unwrap().extend_from_slice(&bytes[..read]);
                        if to.write_all(&bytes[..read]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
                let (mut from, mut to) = (display, caller);
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self { to_display }
    }

    /// The types of the messages after the handshake, as they were written, held against RFC 6143
    /// once more.
    fn types(&self) -> Vec<u8> {
        let all = self.to_display.lock().unwrap().clone();
        // Version, type None, shared.
        let mut rest = &all[14..];
        assert_eq!(&all[..12], rfb::V3_8.as_slice());
        let mut types = Vec::new();
        while let Some(&first) = rest.first() {
            let length = match first {
                0 => 20,
                2 => 4 + 4 * usize::from(u16::from_be_bytes([rest[2], rest[3]])),
                3 => 10,
                4 => 8,
                5 => 6,
                6 => 8 + u32::from_be_bytes(rest[4..8].try_into().unwrap()) as usize,
                other => panic!("message {other} reached the display"),
            };
            types.push(first);
            rest = &rest[length..];
        }
        types
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_of_a_viewer_goes_to_qemu() {
    let host = QemuHost::with(|options| {
        options.more = "[graphics]\nreach = [\"unix\"]\n".to_owned();
    });
    let mut options = firmware("recorded", Vnc::Unix);
    options.boot = Boot::Nothing;
    let guest = host.guest(options);
    let client = host.client().await;
    ready(&client, "recorded").await;
    let recorder = Recorder::at(&guest.vnc_socket());
    let mut view_only = relay_open("recorded", v1::Mode::View);
    view_only.rules = Some(v1::GraphicsRules {
        view_only: true,
        ..Default::default()
    });
    let (mut viewer, mut screen) = showing(&client, view_only).await;
    for input in inputs() {
        // Cut in two, since that is how it may come.
        let half = input.len() / 2;
        viewer.send(input.slice(..half), BOUND).await;
        viewer.send(input.slice(half..), BOUND).await;
    }
    // What serves input and sound alone is not even announced: QEMU would answer.
    let encodings = rfb::set_encodings(&[0, -257, -258, -259, -309]);
    viewer.send(encodings, BOUND).await;
    looks(&mut viewer, &mut screen).await;
    let types = recorder.types();
    assert!(
        types.iter().all(|kind| [0, 2, 3].contains(kind)),
        "{types:?}"
    );
    assert!(types.len() >= 4, "{types:?}");
    drop(viewer);

    // A message that nobody knows cannot be told from input.
    let (mut viewer, _) = showing(&client, relay_open("recorded", v1::Mode::View)).await;
    viewer.send([99, 1, 2, 3].as_slice(), BOUND).await;
    let (closed, status) = viewer.closed(BOUND).await;
    assert_eq!(closed.reason(), v1::Reason::RuleViolated, "{closed:?}");
    assert!(closed.detail.contains("99"), "{closed:?}");
    assert_eq!(status.unwrap().code(), tonic::Code::PermissionDenied);
    host.settled().await;
}
