//! What a chardev's `filename`, as `query-chardev` tells it, says of where its far end is. Pure:
//! text in, facts out; the text is hostile.
//!
//! Source: QEMU's `chardev/char-socket.c` (`qemu_chr_socket_address`,
//! `qemu_chr_compute_filename`) and `char-pty.c`, and QEMU 7.2 as it behaves:
//!
//! | chardev | nobody connected | somebody connected |
//! |---|---|---|
//! | PTY | `pty:/dev/pts/3` | the same |
//! | unix | `disconnected:unix:/s,server=on` | `unix:/s,server=on` |
//! | TCP | `disconnected:tcp:0.0.0.0:4555,server=on` | `tcp:10.0.0.1:4555,server=on <-> 10.0.0.9:5` |
//! | telnet | `disconnected:telnet:::1:4556,server=on` | `telnet:[::1]:4556,server=on <-> …` |
//!
//! Once somebody is connected, the address is the one that they connected to. So the address
//! is taken from the chardev's property `addr` where QEMU has it.

use std::path::PathBuf;

use super::qmp::command::{Chardev, SocketAddress};
use super::qmp::text::printable;
use crate::endpoint::{Direct, Source, TcpAddress};

/// The longest backend name that is kept, in bytes.
const MAX_BACKEND_BYTES: usize = 32;
/// The longest host name that is taken, in bytes: DNS's own limit.
const MAX_HOST_BYTES: usize = 253;
/// The longest path that is taken, in bytes: Linux's own limit.
const MAX_PATH_BYTES: usize = 4095;

/// Where a chardev's far end is, and what QEMU calls its type. `address` is its property
/// `addr`, if it has one.
pub(super) fn backend(filename: &str, address: Option<&SocketAddress>) -> (String, Source) {
    let connected = filename.strip_prefix("disconnected:").unwrap_or(filename);
    let (kind, rest) = connected.split_once(':').unwrap_or((connected, ""));
    let source = match kind {
        "pty" => pty(rest),
        "unix" => unix(rest),
        "tcp" => tcp(rest, address, false),
        "telnet" => tcp(rest, address, true),
        "mux" => Err(
            "QEMU shares this chardev (mux=on), perhaps with its monitor, which whoever \
             types here could reach: give the console a chardev of its own"
                .to_owned(),
        ),
        _ => Err(
            "the agent cannot reach a chardev of this type: use pty, or socket with \
             server=on,wait=off"
                .to_owned(),
        ),
    };
    (
        printable(kind, MAX_BACKEND_BYTES),
        source.map_or_else(Source::Unserved, Source::Direct),
    )
}

/// Whether the type's address is worth asking for.
pub(super) fn has_address(filename: &str) -> bool {
    let connected = filename.strip_prefix("disconnected:").unwrap_or(filename);
    connected.starts_with("tcp:") || connected.starts_with("telnet:")
}

/// A chardev's terminal or listening unix socket, as QEMU notes it: nobody else has the same.
/// It does not depend on whether somebody is connected.
pub(super) fn own_end(chardev: &Chardev) -> Option<String> {
    let filename = chardev.filename.as_str();
    let end = filename.strip_prefix("disconnected:").unwrap_or(filename);
    let own = match end.split_once(':')? {
        ("pty", _) => true,
        ("unix", rest) => listening(rest).is_ok(),
        _ => false,
    };
    (own && end.len() <= MAX_PATH_BYTES).then(|| end.to_owned())
}

fn pty(path: &str) -> Result<Direct, String> {
    absolute(path).map(Direct::Pty)
}

fn unix(rest: &str) -> Result<Direct, String> {
    let path = listening(rest)?;
    if path.ends_with(",abstract=on") || path.ends_with(",abstract=on,tight=on") {
        return Err("an abstract socket has no owner that could be checked: use a path".to_owned());
    }
    absolute(path).map(Direct::Unix)
}

fn tcp(rest: &str, address: Option<&SocketAddress>, telnet: bool) -> Result<Direct, String> {
    // What follows the arrow is who is connected; a host has no space.
    let (local, _peer) = rest.split_once(" <-> ").unwrap_or((rest, ""));
    let local = listening(local)?;
    let bad = || "QEMU told no address that could be used".to_owned();
    let told =
        address.and_then(|address| Some((address.host.as_deref()?, address.port.as_deref()?)));
    let (host, port) = match told {
        Some(told) => told,
        None => local.rsplit_once(':').ok_or_else(bad)?,
    };
    let port = port.parse().ok().filter(|port| *port != 0);
    Ok(Direct::Tcp(TcpAddress {
        host: host_of(host).ok_or_else(bad)?,
        port: port.ok_or_else(bad)?,
        telnet,
    }))
}

/// A host to connect to: every address of this host is the loopback's.
pub(super) fn host_of(host: &str) -> Option<String> {
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let bare = bare.unwrap_or(host);
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'%');
    if bare.len() > MAX_HOST_BYTES || !bare.bytes().all(plain) {
        return None;
    }
    let host = match bare {
        "" | "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        other => other,
    };
    Some(host.to_owned())
}

/// Strips what QEMU puts behind the address of a socket on which it listens.
fn listening(rest: &str) -> Result<&str, String> {
    // Before 6.0 it was ",server".
    let listening = rest
        .strip_suffix(",server=on")
        .or(rest.strip_suffix(",server"));
    listening.ok_or_else(|| {
        "QEMU connects to a socket of somebody else's here: let it listen, with server=on,wait=off"
            .to_owned()
    })
}

/// A path of QEMU's that says where it leads whoever asks.
pub(super) fn absolute(path: &str) -> Result<PathBuf, String> {
    if path.len() > MAX_PATH_BYTES || path.contains('\0') {
        return Err("QEMU told no path that could be used".to_owned());
    }
    if !path.starts_with('/') {
        return Err("the path depends on QEMU's working directory: give it from / on".to_owned());
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests;
