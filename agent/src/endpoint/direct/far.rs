//! What is known of an attached console's far side: what its end looks like, and how much of
//! what was sent it has not read. It opens nothing.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;

use super::diag;
use super::line::Line;
use crate::core::pace::Buffer;
use crate::endpoint::{EndpointEnd, EndpointKind};

/// An attached console's far side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Far {
    /// QEMU's side of a terminal.
    Terminal,
    /// A unix socket: QEMU's end, by its inode, if the kernel told.
    Unix { theirs: Option<u32> },
    /// A TCP connection.
    Tcp {
        /// Its ends, if both are on this host.
        local: Option<TcpEnds>,
    },
}

/// Both ends of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpEnds {
    pub(super) theirs: SocketAddr,
    pub(super) ours: SocketAddr,
}

impl Far {
    pub(super) const fn kind(self) -> EndpointKind {
        match self {
            Self::Terminal => EndpointKind::Pty,
            Self::Unix { .. } => EndpointKind::UnixSocket,
            Self::Tcp { .. } => EndpointKind::TcpSocket,
        }
    }

    /// What the kernel keeps between us.
    pub(super) const fn buffer(self) -> Buffer {
        match self {
            Self::Terminal => Buffer::PTY,
            Self::Unix { .. } => Buffer::UNIX,
            Self::Tcp { .. } => Buffer::TCP,
        }
    }

    /// What it means that nothing is left to read, and nothing more will come.
    pub(super) const fn closed(self) -> EndpointEnd {
        match self {
            Self::Terminal => EndpointEnd::HungUp,
            Self::Unix { .. } | Self::Tcp { .. } => EndpointEnd::Eof,
        }
    }

    /// What a failure to read means.
    pub(super) fn failed(self, error: &io::Error) -> EndpointEnd {
        let errno = error.raw_os_error().map(Errno::from_raw);
        match (self, errno) {
            // A terminal whose other side is closed fails so (tty_ioctl(4): hung up).
            (Self::Terminal, Some(Errno::EIO)) => EndpointEnd::HungUp,
            // QEMU closed it with input unread. What it had written was read before.
            (Self::Unix { .. }, Some(Errno::ECONNRESET)) => EndpointEnd::Eof,
            _ => EndpointEnd::Lost(format!("the console cannot be read: {error}")),
        }
    }

    /// Bytes that were sent and that QEMU has not read, where the kernel tells.
    pub(super) fn unread(self, line: &Line) -> Option<usize> {
        match self {
            Self::Terminal => None,
            Self::Unix { theirs } => match line.send_queue()? {
                0 => Some(0),
                _ => Some(diag::unix_by_inode(theirs?).ok()?.unread),
            },
            Self::Tcp { local } => {
                let TcpEnds { theirs, ours } = local?;
                let there = diag::tcp_between(theirs, ours).ok()?;
                Some(line.send_queue()? + there.unread)
            }
        }
    }
}
