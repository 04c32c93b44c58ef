//! Both directions of a connection to a display, each with an owner of its own. Sockets are
//! divided without a lock; TLS cannot be.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use crate::endpoint::DisplayStream;

/// What the display sends.
pub type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// What goes to the display. Shutting it down tells the display that nothing more comes; so
/// does dropping it, of a socket.
pub type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection that can be divided.
pub trait IntoHalves: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Divides it.
    fn into_halves(self) -> (ReadHalf, WriteHalf);
}

impl IntoHalves for DisplayStream {
    fn into_halves(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Unix(stream) => {
                let (read, write) = stream.into_split();
                (Box::new(read), Box::new(write))
            }
            Self::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (Box::new(read), Box::new(write))
            }
        }
    }
}

impl<S: IntoHalves> IntoHalves for TlsStream<S> {
    fn into_halves(self) -> (ReadHalf, WriteHalf) {
        let (read, write) = tokio::io::split(self);
        (Box::new(read), Box::new(write))
    }
}

#[cfg(test)]
impl IntoHalves for tokio::io::DuplexStream {
    fn into_halves(self) -> (ReadHalf, WriteHalf) {
        let (read, write) = tokio::io::split(self);
        (Box::new(read), Box::new(write))
    }
}
