//! The far ends of a guest's consoles: how QEMU is asked for one, and where it then is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The kinds of far end that need no libvirt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chardev {
    /// A terminal in `/dev/pts`.
    Pty,
    /// A unix socket on which QEMU listens.
    Unix,
    /// A TCP port of the loopback on which QEMU listens.
    Tcp,
    /// The same, speaking telnet.
    Telnet,
    /// Nowhere: nobody can reach it.
    Null,
}

impl Chardev {
    /// QEMU's `-chardev` of this kind. Nobody is waited for.
    pub(super) fn option(self, label: &str, socket: &Path) -> String {
        // Port 0: one that is free, which query-chardev then tells.
        const LISTEN: &str = "host=127.0.0.1,port=0,server=on,wait=off";
        match self {
            Self::Pty => format!("pty,id={label}"),
            Self::Unix => format!(
                "socket,id={label},path={},server=on,wait=off",
                socket.display()
            ),
            Self::Tcp => format!("socket,id={label},{LISTEN}"),
            Self::Telnet => format!("socket,id={label},{LISTEN},telnet=on"),
            Self::Null => format!("null,id={label}"),
        }
    }
}

/// Where a console's far end is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Far {
    /// A terminal.
    Pty(PathBuf),
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
    /// A TCP port that speaks telnet.
    Telnet(SocketAddr),
}

impl Far {
    /// Reads a `filename` of `query-chardev`, such as `pty:/dev/pts/3` or
    /// `disconnected:telnet:127.0.0.1:4000,server=on`.
    pub(super) fn parse(filename: &str) -> Option<Self> {
        let filename = filename.strip_prefix("disconnected:").unwrap_or(filename);
        let (kind, rest) = filename.split_once(':')?;
        let place = rest.split_once(',').map_or(rest, |(place, _options)| place);
        match kind {
            "pty" => Some(Self::Pty(place.into())),
            "unix" => Some(Self::Unix(place.into())),
            "tcp" => Some(Self::Tcp(place.parse().ok()?)),
            "telnet" => Some(Self::Telnet(place.parse().ok()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_qemu_calls_a_far_end_is_read() {
        let port = "127.0.0.1:4000".parse().unwrap();
        for (filename, far) in [
            ("pty:/dev/pts/3", Far::Pty("/dev/pts/3".into())),
            (
                "unix:/run/a.sock,server=on",
                Far::Unix("/run/a.sock".into()),
            ),
            ("disconnected:tcp:127.0.0.1:4000,server=on", Far::Tcp(port)),
            (
                "telnet:127.0.0.1:4000,server=on <-> 127.0.0.1:50000",
                Far::Telnet(port),
            ),
        ] {
            assert_eq!(Far::parse(filename), Some(far), "{filename}");
        }
        assert_eq!(Far::parse("null"), None);
        assert_eq!(Far::parse("tcp:nowhere"), None);
    }
}
