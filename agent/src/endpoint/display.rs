//! A VM's VNC display: what is known of where it is, and a connection to it once one is open.
//! Nothing here opens one, and nothing says a word on one.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike as _, SockaddrStorage, getsockname, getsockopt, sockopt,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::{EndpointError, EndpointKind, TcpAddress};

/// Why nothing is attached that is a display.
const NO_BYTES: &str = "a VNC display carries no stream of bytes: use RelayGraphics";

/// A way to a display.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Its hypervisor hands over a connection as a descriptor, on which QEMU asks for no
    /// authentication: `virDomainOpenGraphicsFD`, or QMP's `add_client`.
    Descriptor,
    /// The unix socket on which QEMU listens.
    Unix,
    /// The TCP port on which QEMU listens.
    Tcp,
}

impl Reach {
    /// Every way there is, in the order in which they are tried unless the configuration says
    /// otherwise: first those that no other user of the host can come by.
    pub const ALL: [Self; 3] = [Self::Descriptor, Self::Unix, Self::Tcp];

    /// The kind of endpoint that it is.
    pub const fn kind(self) -> EndpointKind {
        match self {
            Self::Descriptor => EndpointKind::GraphicsFd,
            Self::Unix => EndpointKind::UnixSocket,
            Self::Tcp => EndpointKind::TcpSocket,
        }
    }
}

/// What a display's hypervisor calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisplayHandle {
    /// libvirt: its number among all graphics devices of the VM, from 0, whatever their protocol.
    Libvirt(u32),
    /// QEMU: its id; printable and at most 256 bytes long.
    Qemu(String),
}

/// Where a display is, as its VM's definition or its QEMU says. Path and address are as
/// unchecked as those of [`super::Direct`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisplaySource {
    /// Its number among the VM's VNC displays, from 0.
    pub number: u32,
    /// What its hypervisor calls it.
    pub handle: DisplayHandle,
    /// The unix socket on which QEMU listens for it, if it does: an absolute path.
    pub socket: Option<PathBuf>,
    /// The TCP port on which QEMU listens for it, if it does. Never telnet.
    pub address: Option<TcpAddress>,
    /// The ways that the configuration allows, in the order in which they are to be tried.
    pub reach: Vec<Reach>,
}

impl DisplaySource {
    /// The ways that are allowed and exist, in the order in which they are to be tried.
    pub fn ways(&self) -> impl Iterator<Item = Reach> {
        self.reach.iter().copied().filter(|way| self.has(*way))
    }

    /// Whether it can be reached so at all.
    pub const fn has(&self, way: Reach) -> bool {
        match way {
            Reach::Descriptor => match self.handle {
                DisplayHandle::Libvirt(_) => true,
                // QEMU hands what it is given to its first display (`vnc_display_find`).
                DisplayHandle::Qemu(_) => self.number == 0,
            },
            Reach::Unix => self.socket.is_some(),
            Reach::Tcp => self.address.is_some(),
        }
    }

    /// One of its ways, in words.
    pub fn describe(&self, way: Reach) -> String {
        match (way, &self.handle, &self.socket, &self.address) {
            (Reach::Descriptor, DisplayHandle::Libvirt(_), ..) => {
                "a descriptor from libvirt".to_owned()
            }
            (Reach::Descriptor, DisplayHandle::Qemu(_), ..) => "QEMU's monitor".to_owned(),
            (Reach::Unix, _, Some(path), _) => format!("socket {}", path.display()),
            (Reach::Tcp, _, _, Some(address)) => {
                format!("tcp {} port {}", address.host, address.port)
            }
            (Reach::Unix, ..) => "a unix socket".to_owned(),
            (Reach::Tcp, ..) => "a TCP port".to_owned(),
        }
    }
}

/// What whoever tries to attach a display as a console is told.
pub(crate) fn no_bytes() -> EndpointError {
    EndpointError::Unsupported(NO_BYTES.to_owned())
}

/// The way to a VM's display, open; nothing was said on it yet.
#[derive(Debug)]
pub struct DisplayLine {
    /// The connection. Dropping it closes it.
    pub stream: DisplayStream,
    /// What the display will ask of whoever comes by it.
    pub access: DisplayAccess,
    /// The kind of way that it came by: [`EndpointKind::GraphicsFd`], [`EndpointKind::UnixSocket`]
    /// or [`EndpointKind::TcpSocket`].
    pub way: EndpointKind,
}

/// What a display will ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisplayAccess {
    /// Nothing: QEMU was told to let this connection in without authentication, so that security
    /// type None is to be offered.
    Granted,
    /// Whatever it was set up with.
    AsAsked {
        /// The name that its certificate is checked against, if it has one and the configuration
        /// expects no other: the host that was connected to. `None` on a unix socket.
        host: Option<String>,
    },
}

/// A connection to a display.
#[derive(Debug)]
pub enum DisplayStream {
    /// A descriptor that was handed over, or a unix socket.
    Unix(UnixStream),
    /// A TCP connection.
    Tcp(TcpStream),
}

impl DisplayStream {
    /// Takes a descriptor that a hypervisor handed over, once it was seen to be a connected
    /// stream socket of unix's.
    ///
    /// # Errors
    /// [`EndpointError::Unsupported`] for any other descriptor, [`EndpointError::Unreachable`]
    /// for what the system says; it is closed then.
    ///
    /// # Panics
    /// Outside of tokio's runtime.
    pub(crate) fn handed_over(descriptor: OwnedFd) -> Result<Self, EndpointError> {
        if !is_unix_stream(&descriptor).map_err(|error| unusable(&error))? {
            let detail = "the hypervisor handed over a descriptor that is no connection";
            return Err(EndpointError::Unsupported(detail.to_owned()));
        }
        Self::unix(descriptor)
    }

    /// A unix socket that is connected.
    pub(super) fn unix(descriptor: OwnedFd) -> Result<Self, EndpointError> {
        let stream = std::os::unix::net::UnixStream::from(descriptor);
        prepared(&stream)
            .and_then(|()| stream.set_nonblocking(true))
            .and_then(|()| UnixStream::from_std(stream))
            .map(Self::Unix)
            .map_err(|error| unusable(&error))
    }

    /// A TCP socket that is connected.
    pub(super) fn tcp(descriptor: OwnedFd) -> Result<Self, EndpointError> {
        let stream = std::net::TcpStream::from(descriptor);
        prepared(&stream)
            .and_then(|()| stream.set_nonblocking(true))
            .and_then(|()| TcpStream::from_std(stream))
            .map(Self::Tcp)
            .map_err(|error| unusable(&error))
    }
}

fn is_unix_stream(descriptor: &OwnedFd) -> io::Result<bool> {
    use std::os::fd::AsRawFd as _;
    let kind = match getsockopt(descriptor, sockopt::SockType) {
        Err(nix::errno::Errno::ENOTSOCK) => return Ok(false),
        kind => kind?,
    };
    let address: SockaddrStorage = getsockname(descriptor.as_raw_fd())?;
    Ok(kind == SockType::Stream && address.family() == Some(AddressFamily::Unix))
}

/// No program that the agent may start one day inherits it.
fn prepared(descriptor: impl AsFd) -> io::Result<()> {
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}

fn unusable(error: &io::Error) -> EndpointError {
    EndpointError::Unreachable(format!("the connection cannot be used: {error}"))
}

impl AsyncRead for DisplayStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for DisplayStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    /// Closes the side towards the display: what it still sends can be read.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl fmt::Display for DisplaySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ways: Vec<_> = self.ways().map(|way| self.describe(way)).collect();
        f.write_str(&ways.join(", then "))
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{SockFlag, socketpair};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn source(number: u32, handle: DisplayHandle, reach: &[Reach]) -> DisplaySource {
        DisplaySource {
            number,
            handle,
            socket: Some("/run/x".into()),
            address: None,
            reach: reach.to_vec(),
        }
    }

    #[test]
    fn ways_are_those_that_exist_in_the_order_that_is_set() {
        let ways = |source: DisplaySource| source.ways().collect::<Vec<_>>();
        let libvirt = |reach| source(1, DisplayHandle::Libvirt(3), reach);
        let qemu = |number| source(number, DisplayHandle::Qemu("a".to_owned()), &Reach::ALL);
        assert_eq!(ways(libvirt(&Reach::ALL)), [Reach::Descriptor, Reach::Unix]);
        let turned = [Reach::Tcp, Reach::Unix, Reach::Descriptor];
        assert_eq!(ways(libvirt(&turned)), [Reach::Unix, Reach::Descriptor]);
        assert_eq!(ways(libvirt(&[Reach::Tcp])), []);
        assert_eq!(ways(qemu(0)), [Reach::Descriptor, Reach::Unix]);
        assert_eq!(ways(qemu(1)), [Reach::Unix], "add_client reaches the first");
        let words = "a descriptor from libvirt, then socket /run/x";
        assert_eq!(libvirt(&Reach::ALL).to_string(), words);
    }

    #[tokio::test]
    async fn a_descriptor_is_used_as_it_is_checked() {
        let pair = |kind| socketpair(AddressFamily::Unix, kind, None, SockFlag::empty()).unwrap();
        let (ours, theirs) = pair(SockType::Stream);
        let mut ours = DisplayStream::handed_over(ours).unwrap();
        let DisplayStream::Unix(stream) = &ours else {
            panic!("{ours:?}")
        };
        let flags = fcntl(stream, FcntlArg::F_GETFD).unwrap();
        assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
        let mut theirs = DisplayStream::handed_over(theirs).unwrap();
        theirs.write_all(b"RFB").await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut said = Vec::new();
        ours.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"RFB");
        ours.write_all(b"!").await.unwrap();
        assert_eq!(theirs.read_u8().await.unwrap(), b'!', "half of it is open");

        let others: [OwnedFd; 3] = [
            pair(SockType::Datagram).0,
            std::fs::File::open("/dev/null").unwrap().into(),
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(),
        ];
        for other in others {
            let refused = DisplayStream::handed_over(other).unwrap_err();
            assert!(
                matches!(refused, EndpointError::Unsupported(_)),
                "{refused}"
            );
        }
    }
}
