//! Where a device's far end is, by its backend. Pure. It checks the form of paths and
//! addresses, not whether they may be opened.
//!
//! The definition of a VM that is off lacks what libvirt makes up at its start: a channel's
//! socket has no path then, and a terminal none either. A unix socket without a path of a VM
//! that is off is [`Direct::Unix`] with an empty path, since the definition of the running VM
//! will name it, and before that nothing is opened; of a VM that runs it is not served.

use std::path::PathBuf;

use super::device::{MAX_HOST_BYTES, MAX_PATH_BYTES};
use crate::endpoint::{Direct, Source, TcpAddress};

/// The channel over which libvirtd itself speaks to the guest's agent (`qemuFindAgentConfig`).
const GUEST_AGENT: &str = "org.qemu.guest_agent.0";

/// A backend, as its attributes have it; empty where they are not there.
#[derive(Debug, Default)]
pub(super) struct Backend {
    /// The type: `pty`, `unix`, …; letters, digits, `-` and `_` only.
    pub(super) name: String,
    /// A socket's or device's path; a byte longer than is allowed if it is too long.
    pub(super) path: String,
    /// `bind` or `connect`.
    pub(super) mode: String,
    /// Where it listens; a byte longer than is allowed if it is too long.
    pub(super) host: String,
    /// A port, or a service's name.
    pub(super) service: String,
    /// `yes` if it speaks TLS.
    pub(super) tls: String,
    /// `raw`, `telnet`, `telnets` or `tls`.
    pub(super) protocol: String,
}

/// Where a serial port's or a virtio console's far end is.
pub(super) fn terminal(backend: &Backend, running: bool) -> Source {
    let direct = match backend.name.as_str() {
        "pty" => return Source::LibvirtConsole,
        "unix" => unix(backend, running).map(Direct::Unix),
        "tcp" => tcp(backend).map(Direct::Tcp),
        other => Err(unserved(other)),
    };
    direct.map_or_else(Source::Unserved, Source::Direct)
}

/// Where the far end of the channel of this name is. libvirt opens those on unix sockets
/// (`qemuDomainOpenChannel`), and knows their paths.
pub(super) fn channel(backend: &Backend, name: &str) -> Source {
    let answer = match backend.name.as_str() {
        _ if name == GUEST_AGENT => Err("libvirt itself speaks to the guest's agent over it: \
             leave it out of libvirt.channels"
            .to_owned()),
        "unix" => listens(backend),
        other @ ("pty" | "tcp") => Err(format!(
            "libvirt gives streams for channels of type \"unix\" only, and this one's is \
             \"{other}\": use type=\"unix\""
        )),
        other => Err(unserved(other)),
    };
    answer.map_or_else(Source::Unserved, |()| Source::LibvirtChannel)
}

/// Whether QEMU listens. Where nothing is said, libvirt makes up a socket and has it listen
/// there; where a path is named without a mode, it would connect.
fn listens(backend: &Backend) -> Result<(), String> {
    match backend.mode.as_str() {
        "bind" => Ok(()),
        "" if backend.path.is_empty() && backend.host.is_empty() => Ok(()),
        _ => Err("QEMU connects out from it, and listens nowhere: use mode=\"bind\"".to_owned()),
    }
}

fn unix(backend: &Backend, running: bool) -> Result<PathBuf, String> {
    listens(backend)?;
    let path = &backend.path;
    if path.is_empty() && running {
        return Err("its socket has no path: name one in its <source>".to_owned());
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(format!(
            "its socket's path is longer than {MAX_PATH_BYTES} bytes: use a shorter one"
        ));
    }
    if path.chars().any(char::is_control) {
        return Err("its socket's path has control characters: use another path".to_owned());
    }
    Ok(path.into())
}

fn tcp(backend: &Backend) -> Result<TcpAddress, String> {
    listens(backend)?;
    let telnet = match backend.protocol.as_str() {
        "raw" | "" => false,
        "telnet" => true,
        _ => return Err("its protocol is neither raw nor telnet: use one of them".to_owned()),
    };
    if backend.tls == "yes" {
        return Err("it speaks TLS: use tls=\"no\", or a pty".to_owned());
    }
    let port = backend.service.parse().ok().filter(|port| *port > 0);
    let port = port.ok_or("its service is not a port's number: write one from 1 to 65535")?;
    let host =
        plain_host(&backend.host).ok_or("its host is not an address or a name: write 127.0.0.1")?;
    Ok(TcpAddress {
        host: host.to_owned(),
        port,
        telnet,
    })
}

/// Where to connect to what listens at `host`, if that is an address or a name.
pub(super) fn plain_host(host: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".:-_%".contains(&b);
    match host {
        // It listens on every address, of which loopback is the nearest.
        "" | "0.0.0.0" => Some("127.0.0.1"),
        "::" => Some("::1"),
        host => (host.len() <= MAX_HOST_BYTES && host.bytes().all(plain)).then_some(host),
    }
}

/// Why a backend of this type is not served, and what to do. The types are those of
/// `virDomainChrType` in libvirt 9.0.
fn unserved(name: &str) -> String {
    let why = match name {
        "null" => "QEMU throws its output away",
        "vc" => "QEMU shows it in its own window only",
        "stdio" => "it is QEMU's own standard input and output",
        "file" => "its output goes to a file, and it has no input",
        "pipe" => "a pipe gives its output to one reader, and nobody can see who that is",
        "dev" => "it is a device of the host, which the agent does not open",
        "udp" => "UDP loses output without a trace",
        "spicevmc" | "spiceport" => "it goes through SPICE only",
        "nmdm" => "it is a device of another operating system",
        "dbus" => "it goes through D-Bus only",
        "qemu-vdagent" => "QEMU itself uses it, for the clipboard",
        _ => return format!("its type \"{name}\" is not known: use type=\"pty\""),
    };
    let keep = match name {
        "file" => ", which can have a <log file=\"…\"/> beside it",
        _ => "",
    };
    format!("{why}: use type=\"pty\"{keep}")
}

#[cfg(test)]
mod tests;
