//! What must hold of a definition whatever the text says. For fuzzers and tests only.

use std::collections::BTreeSet;

use super::device::{CHANNEL_PREFIX, MAX_HOST_BYTES, MAX_PATH_BYTES, MAX_TYPE_BYTES};
use super::{Definition, MAX_CONSOLES, MAX_NAME_BYTES, parse};
use crate::endpoint::{Direct, DisplayHandle, DisplaySource, Source};
use crate::hypervisor::{ConsoleDevice, ConsoleKind};

/// More than the longest of the fixed reasons for not serving a console, in bytes.
const MAX_REASON_BYTES: usize = 300;

/// Reads `bytes`, if they are text: libvirt's client library hands out nothing else.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(xml) = std::str::from_utf8(bytes) else {
        return;
    };
    // One by its name, and those whose names begin alike.
    let channels = ["org.a".to_owned(), "com.*".to_owned()];
    if let Ok(definition) = parse(xml, &channels) {
        check_definition(&definition, xml);
    }
}

fn check_definition(definition: &Definition, xml: &str) {
    let Definition {
        name,
        instance,
        consoles,
        left_out,
        ..
    } = definition;
    assert!((1..=MAX_NAME_BYTES).contains(&name.len()));
    assert!(consoles.len() <= MAX_CONSOLES);
    assert!(consoles.len() + left_out <= xml.matches('<').count());
    let aliases: BTreeSet<_> = consoles.iter().map(|console| &console.alias).collect();
    assert_eq!(aliases.len(), consoles.len(), "an alias names one console");
    for console in consoles {
        check_console(console, instance.is_some());
    }
}

fn check_console(console: &ConsoleDevice, running: bool) {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    assert!(console.backend.len() <= MAX_TYPE_BYTES);
    assert!(console.backend.chars().all(plain));
    let is_display = matches!(console.source, Source::Display(_));
    assert_eq!(is_display, console.kind == ConsoleKind::Vnc);
    let is_channel = console.kind == ConsoleKind::Channel;
    if is_channel {
        let name = console.alias.as_str().strip_prefix(CHANNEL_PREFIX);
        assert!(name.is_some_and(|name| name == "org.a" || name.starts_with("com.")));
    }
    match &console.source {
        Source::LibvirtConsole => assert!(!is_channel && console.backend == "pty"),
        Source::LibvirtChannel => assert!(is_channel && console.backend == "unix"),
        Source::Unserved(why) => {
            assert!((1..=MAX_REASON_BYTES).contains(&why.len()));
            assert!(!why.chars().any(char::is_control), "it is shown to people");
        }
        Source::Direct(direct) => {
            assert!(!is_channel);
            check_direct(direct, running);
        }
        Source::Display(display) => check_display(display, console.alias.as_str()),
    }
}

fn check_display(display: &DisplaySource, alias: &str) {
    assert_eq!(alias, format!("vnc{}", display.number));
    let counted = |index| display.number <= index;
    assert!(matches!(display.handle, DisplayHandle::Libvirt(index) if counted(index)));
    if let Some(path) = &display.socket {
        assert!(path.is_absolute());
        check_direct(&Direct::Unix(path.clone()), true);
    }
    if let Some(address) = &display.address {
        assert!(!address.telnet);
        check_direct(&Direct::Tcp(address.clone()), true);
    }
}

fn check_direct(direct: &Direct, running: bool) {
    match direct {
        Direct::Pty(path) => assert!(path.as_os_str().is_empty(), "libvirt opens these"),
        Direct::Unix(path) => {
            let path = path.as_os_str().as_encoded_bytes();
            assert!(path.len() <= MAX_PATH_BYTES && !path.iter().any(u8::is_ascii_control));
            assert!(!running || !path.is_empty());
        }
        Direct::Tcp(address) => {
            assert!((1..=MAX_HOST_BYTES).contains(&address.host.len()));
            assert!(address.host.is_ascii());
            assert!(!address.host.chars().any(char::is_whitespace));
            assert!(address.port > 0);
        }
    }
}
