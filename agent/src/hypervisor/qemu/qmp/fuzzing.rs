//! What must hold of QMP whatever a peer sends. For fuzzers and tests only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::client::READ_BYTES;
use super::command::{
    Chardev, FdAdded, Name, QomProperty, SocketAddress, Status, Uuid, Vnc, VncServer,
};
use super::frames::{FrameError, Frames, MAX_MESSAGE_BYTES};
use super::message::{self, Message};
use crate::endpoint::{Direct, DisplayHandle, Source};
use crate::hypervisor::qemu::devices::{self, Console, MAX_CONSOLES, MAX_LABEL_BYTES, Model};
use crate::hypervisor::qemu::displays::{self, MAX_DISPLAYS, MAX_ID_BYTES};
use crate::hypervisor::{ConsoleDevice, ConsoleKind};

/// More than the longest of the fixed reasons for not serving a console, and than what is kept
/// of QEMU's own words, in bytes.
const MAX_TEXT_BYTES: usize = 300;
/// More than the longest path or host that is taken, in bytes.
const MAX_PLACE_BYTES: usize = 4096;
/// The socket over which it was asked.
const MONITOR: &str = "/run/vm/qmp";

/// Reads `bytes` as a client reads what its peer sends, and each message as each of the answers
/// that the agent knows.
pub(crate) fn check(bytes: &[u8]) {
    let whole = cut(bytes.chunks(READ_BYTES));
    assert_eq!(whole, cut(bytes.chunks(1)), "cut into single bytes");
    let (messages, _error) = whole;
    let together: usize = messages.iter().map(Vec::len).sum();
    assert!(together <= bytes.len());
    let mut addresses = BTreeMap::new();
    for message in &messages {
        assert!(message.starts_with(b"{") && message.len() <= MAX_MESSAGE_BYTES + 1);
        check_message(message, &mut addresses);
    }
}

/// The messages in a stream that comes in `pieces`, and why it was refused if it was.
fn cut<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let (mut frames, mut messages) = (Frames::default(), Vec::new());
    for piece in pieces {
        frames.extend(piece);
        loop {
            match frames.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

fn check_message(bytes: &[u8], addresses: &mut BTreeMap<String, SocketAddress>) {
    match message::parse(bytes) {
        Ok(Message::Reply {
            refusal: Some(refusal),
            ..
        }) => check_text(&refusal.text),
        Ok(Message::Reply { refusal: None, .. }) => check_answer(bytes, addresses),
        Ok(Message::Greeting | Message::Event { .. }) | Err(_) => {}
    }
}

/// An address is the one of every label that a later list has.
fn check_answer(bytes: &[u8], addresses: &mut BTreeMap<String, SocketAddress>) {
    let _name = message::answer::<Name>(bytes);
    let _uuid = message::answer::<Uuid>(bytes);
    let _fd = message::answer::<FdAdded>(bytes);
    if let Ok(status) = message::answer::<Status>(bytes) {
        assert!(status.state().has_console());
    }
    for property in message::answer::<Vec<QomProperty>>(bytes).unwrap_or_default() {
        if let Some(model) = Model::of(&property.kind) {
            assert!((1..=4).contains(&model.chardevs.len()));
        }
    }
    if let Ok(address) = message::answer::<SocketAddress>(bytes) {
        let labels = ["serial0", "serial1", "charserial0"];
        addresses.extend(labels.map(|label| (label.to_owned(), address.clone())));
    }
    if let Ok(servers) = message::answer::<Vec<VncServer>>(bytes) {
        check_displays(&displays::listed(&servers, Path::new(MONITOR)));
    }
    if let Ok(vnc) = message::answer::<Vnc>(bytes) {
        check_displays(&displays::only(&vnc, Path::new(MONITOR)));
    }
    if let Ok(chardevs) = message::answer::<Vec<Chardev>>(bytes) {
        let consoles = devices::consoles(Vec::new(), &chardevs, addresses, Path::new(MONITOR));
        check_consoles(&consoles);
    }
}

fn check_consoles(consoles: &[Console]) {
    assert!(consoles.len() <= MAX_CONSOLES);
    let aliases: BTreeSet<_> = consoles.iter().map(|it| &it.device.alias).collect();
    assert_eq!(aliases.len(), consoles.len(), "an alias names one console");
    for Console { device, label } in consoles {
        assert!(label.len() <= MAX_LABEL_BYTES);
        assert_eq!(device.kind, ConsoleKind::Serial, "by their labels alone");
        check_text(&device.backend);
        check_source(&device.source);
    }
}

fn check_displays(displays: &[ConsoleDevice]) {
    assert!(displays.len() <= MAX_DISPLAYS);
    for (number, device) in displays.iter().enumerate() {
        assert_eq!(device.alias.as_str(), format!("vnc{number}"));
        assert!(matches!(device.source, Source::Display(_)));
        check_source(&device.source);
    }
}

fn check_source(source: &Source) {
    match source {
        Source::Unserved(why) => check_text(why),
        Source::Direct(Direct::Pty(path) | Direct::Unix(path)) => {
            assert!(path.is_absolute() && path.as_os_str().len() < MAX_PLACE_BYTES);
            assert_ne!(path, Path::new(MONITOR), "a monitor is no console");
        }
        Source::Direct(Direct::Tcp(address)) => {
            assert!((1..MAX_PLACE_BYTES).contains(&address.host.len()));
            assert!(address.host.is_ascii() && address.port > 0);
            assert!(!address.host.chars().any(char::is_whitespace));
        }
        Source::Display(display) => {
            let plain = |id: &str| id.len() <= MAX_ID_BYTES && !id.contains(char::is_control);
            assert!(matches!(&display.handle, DisplayHandle::Qemu(id) if plain(id)));
            let socket = display.socket.clone().map(Direct::Unix);
            let address = display.address.clone().map(Direct::Tcp);
            for direct in socket.into_iter().chain(address) {
                check_source(&Source::Direct(direct));
            }
        }
        other => assert!(
            matches!(other, Source::Direct(_)),
            "libvirt has no part in it"
        ),
    }
}

/// It is shown to people.
fn check_text(text: &str) {
    assert!(text.len() <= MAX_TEXT_BYTES && !text.chars().any(char::is_control));
}
