//! Where a console's far end is. Facts only: whether it may be opened, others decide.

use std::fmt;
use std::path::PathBuf;

use super::{DisplaySource, EndpointKind};

/// Where a console's far end is, as its VM's definition or its QEMU says. Paths and addresses
/// are what they say, and as yet unchecked: whoever may define a VM chooses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// libvirt gives a stream for it: a console whose backend is a PTY.
    LibvirtConsole,
    /// libvirt gives a stream for it: a channel.
    LibvirtChannel,
    /// The agent opens it itself.
    Direct(Direct),
    /// It is a VNC display, which carries no bytes by itself.
    Display(DisplaySource),
    /// None that can be served, for this reason, which says what would help.
    Unserved(String),
}

/// An endpoint that needs no hypervisor to be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Direct {
    /// A terminal at this path, say `/dev/pts/3`.
    Pty(PathBuf),
    /// A unix socket at this path, on which QEMU listens.
    Unix(PathBuf),
    /// A TCP port on which QEMU listens.
    Tcp(TcpAddress),
}

/// Where a TCP console listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpAddress {
    /// A host's address or name.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether it speaks telnet (RFC 854), rather than plain bytes.
    pub telnet: bool,
}

impl Direct {
    /// How it is reached.
    pub const fn kind(&self) -> EndpointKind {
        match self {
            Self::Pty(_) => EndpointKind::Pty,
            Self::Unix(_) => EndpointKind::UnixSocket,
            Self::Tcp(_) => EndpointKind::TcpSocket,
        }
    }
}

impl fmt::Display for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pty(path) => write!(f, "terminal {}", path.display()),
            Self::Unix(path) => write!(f, "socket {}", path.display()),
            Self::Tcp(address) => {
                let protocol = if address.telnet { "telnet" } else { "tcp" };
                write!(f, "{protocol} {} port {}", address.host, address.port)
            }
        }
    }
}
