//! Which VNC displays a QEMU has, by what its monitor tells of them. Pure: the answers are
//! hostile, and what is kept of them is bounded.
//!
//! Source: QEMU's `ui/vnc.c` and QEMU 7.2 as it behaves. The newest display stands first in the
//! list, and the newest of a display's listeners too; so both are read from the end, and `vnc0` is
//! the first of the command line. What is given to `add_client` goes to that one. A display of
//! `-vnc none` has no listener. The older `query-vnc` tells of one display alone, and of that only
//! if it listens.

use std::path::{Path, PathBuf};

use super::chardev::{absolute, host_of};
use super::qmp::command::{Vnc, VncListener, VncServer};
use super::qmp::text::printable;
use crate::core::id::Alias;
use crate::endpoint::{DisplayHandle, DisplaySource, Reach, Source, TcpAddress};
use crate::hypervisor::{ConsoleDevice, ConsoleKind};

/// The most displays that one VM may have.
pub(super) const MAX_DISPLAYS: usize = 16;
/// The most listeners of one display that are looked at.
const MAX_LISTENERS: usize = 16;
/// The longest id that is kept, in bytes.
pub(super) const MAX_ID_BYTES: usize = 256;
/// What displays are called, with their number.
const VNC: &str = "vnc";
/// How QEMU calls the first display of one that has no list of them.
const FIRST: &str = "default";

/// The displays in the order of the command line. `monitor` is the socket over which QEMU was
/// asked, which is no display's.
pub(super) fn listed(servers: &[VncServer], monitor: &Path) -> Vec<ConsoleDevice> {
    let from_first = servers.iter().rev().take(MAX_DISPLAYS).zip(0..);
    let display = |(server, number): (&VncServer, u32)| {
        let plain = server.server.iter().rev().filter(|it| !it.websocket);
        display(number, &server.id, plain.take(MAX_LISTENERS), monitor)
    };
    from_first.filter_map(display).collect()
}

/// The one display that a QEMU without a list of them tells of, if it does.
pub(super) fn only(vnc: &Vnc, monitor: &Path) -> Vec<ConsoleDevice> {
    let listener = VncListener {
        host: vnc.host.clone().unwrap_or_default(),
        service: vnc.service.clone().unwrap_or_default(),
        family: vnc.family.clone().unwrap_or_default(),
        websocket: false,
    };
    let display = vnc.enabled.then(|| display(0, FIRST, [&listener], monitor));
    display.flatten().into_iter().collect()
}

fn display<'a>(
    number: u32,
    id: &str,
    listeners: impl IntoIterator<Item = &'a VncListener>,
    monitor: &Path,
) -> Option<ConsoleDevice> {
    let (mut socket, mut address) = (None, None);
    for listener in listeners {
        match listener.family.as_str() {
            "unix" => socket = socket.or_else(|| path(listener, monitor)),
            "ipv4" | "ipv6" => address = address.or_else(|| port(listener)),
            _ => {}
        }
    }
    let source = DisplaySource {
        number,
        handle: DisplayHandle::Qemu(printable(id, MAX_ID_BYTES)),
        socket,
        address,
        reach: Reach::ALL.to_vec(),
    };
    Some(ConsoleDevice {
        alias: Alias::new(&format!("{VNC}{number}")).ok()?,
        kind: ConsoleKind::Vnc,
        source: Source::Display(source),
        backend: VNC.to_owned(),
    })
}

fn path(listener: &VncListener, monitor: &Path) -> Option<PathBuf> {
    let path = absolute(&listener.service).ok()?;
    let plain = path != monitor && !listener.service.chars().any(char::is_control);
    plain.then_some(path)
}

fn port(listener: &VncListener) -> Option<TcpAddress> {
    Some(TcpAddress {
        host: host_of(&listener.host)?,
        port: listener.service.parse().ok().filter(|port| *port > 0)?,
        telnet: false,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MONITOR: &str = "/run/qmp";

    fn source(device: &ConsoleDevice) -> &DisplaySource {
        match &device.source {
            Source::Display(source) => source,
            other => panic!("{other:?}"),
        }
    }

    fn shown(devices: &[ConsoleDevice]) -> Vec<String> {
        let shown = |device: &ConsoleDevice| format!("{}: {}", device.alias, source(device));
        devices.iter().map(shown).collect()
    }

    /// As QEMU 7.2 answers to `query-vnc-servers`.
    fn servers(answer: &str) -> Vec<ConsoleDevice> {
        let servers: Vec<VncServer> = serde_json::from_str(answer).unwrap();
        listed(&servers, Path::new(MONITOR))
    }

    #[test]
    fn the_first_of_the_command_line_comes_first() {
        let answer = r#"[{"auth": "none", "clients": [], "display": "second", "server":
            [{"auth": "none", "family": "unix", "service": "/run/v", "host": "",
            "websocket": false}], "id": "b"}, {"auth": "vnc", "clients": [], "server":
            [{"auth": "vnc", "family": "ipv4", "service": "5933", "host": "127.0.0.1",
            "websocket": false}], "id": "a"}]"#;
        let devices = servers(answer);
        let expected = [
            "vnc0: QEMU's monitor, then tcp 127.0.0.1 port 5933",
            "vnc1: socket /run/v",
        ];
        assert_eq!(shown(&devices), expected);
        let handle = DisplayHandle::Qemu("b".to_owned());
        assert_eq!(source(&devices[1]).handle, handle);
        assert_eq!(devices[1].backend, "vnc");
    }

    #[test]
    fn listeners_that_speak_no_rfb_or_cannot_be_reached_are_none() {
        let listeners = r#"{"family": "vsock", "service": "7", "host": "3", "websocket": false},
            {"family": "ipv6", "service": "5801", "host": "::", "websocket": true},
            {"family": "ipv6", "service": "5901", "host": "::", "websocket": false},
            {"family": "ipv4", "service": "5901", "host": "0.0.0.0", "websocket": false},
            {"family": "unix", "service": "/run/qmp", "host": "", "websocket": false},
            {"family": "unix", "service": "relative", "host": "", "websocket": false},
            {"family": "ipv4", "service": "0", "host": "127.0.0.1", "websocket": false},
            {"family": "ipv4", "service": "5", "host": "a b", "websocket": false}"#;
        let devices = servers(&format!(r#"[{{"id": "x", "server": [{listeners}]}}]"#));
        let expected = ["vnc0: QEMU's monitor, then tcp 127.0.0.1 port 5901"];
        assert_eq!(shown(&devices), expected);
        let none = servers(r#"[{"id": "x", "server": [], "auth": "none", "clients": []}]"#);
        assert_eq!(shown(&none), ["vnc0: QEMU's monitor"]);
        assert_eq!(servers("[]"), []);
    }

    #[test]
    fn an_older_qemu_tells_of_one() {
        let of = |answer: &str| {
            let vnc: Vnc = serde_json::from_str(answer).unwrap();
            shown(&only(&vnc, Path::new(MONITOR)))
        };
        assert_eq!(of(r#"{"enabled": false}"#), Vec::<String>::new());
        let unix = r#"{"enabled": true, "auth": "none", "family": "unix", "clients": [],
            "service": "/run/v", "host": ""}"#;
        assert_eq!(of(unix), ["vnc0: QEMU's monitor, then socket /run/v"]);
        assert_eq!(of(r#"{"enabled": true}"#), ["vnc0: QEMU's monitor"]);
    }

    fn listener() -> impl Strategy<Value = VncListener> {
        let family = prop_oneof![Just("unix"), Just("ipv4"), Just("ipv6"), Just("x")];
        let service = prop_oneof!["[0-9]{0,6}", "/\\PC{0,8}", ".{0,8}"];
        ("\\PC{0,12}|[0-9.:]{0,9}", service, family, any::<bool>()).prop_map(
            |(host, service, family, websocket)| VncListener {
                host,
                service,
                family: family.to_owned(),
                websocket,
            },
        )
    }

    proptest! {
        #[test]
        fn whatever_is_told_is_bounded_and_plain(
            told in proptest::collection::vec((".{0,300}", proptest::collection::vec(listener(), 0..20)), 0..40)
        ) {
            let count = told.len().min(MAX_DISPLAYS);
            let servers: Vec<_> = told
                .into_iter()
                .map(|(id, server)| VncServer { id, server })
                .collect();
            let devices = listed(&servers, Path::new(MONITOR));
            prop_assert_eq!(devices.len(), count);
            for (number, device) in devices.iter().enumerate() {
                prop_assert_eq!(device.alias.as_str(), format!("vnc{number}"));
                let source = source(device);
                prop_assert!(!source.to_string().chars().any(char::is_control));
                if let DisplayHandle::Qemu(id) = &source.handle {
                    prop_assert!(id.len() <= MAX_ID_BYTES && !id.chars().any(char::is_control));
                }
            }
        }
    }
}
