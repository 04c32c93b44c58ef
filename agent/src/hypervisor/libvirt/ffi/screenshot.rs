//! A picture of a domain's screen, over a stream that waits.

use std::time::Instant;

use super::domain::free;
use super::error::LibvirtError;
use super::{Domain, Received, Stream};

/// How much is received at a time, in bytes.
const PIECE_BYTES: usize = 64 << 10;

impl Domain {
    /// A picture of the screen of this number, in whatever format QEMU makes it: at most
    /// `limit` bytes. Blocks until QEMU has drawn it and all has come, and gives up between two
    /// pieces after `deadline`. It is to be asked for on a connection of its own, which its
    /// bytes would else keep busy.
    ///
    /// # Errors
    /// The domain does not run or has no such screen, the call is forbidden or failed, or the
    /// picture is too large or too late.
    pub(crate) fn screenshot(
        &self,
        screen: u32,
        limit: usize,
        deadline: Instant,
    ) -> Result<Vec<u8>, LibvirtError> {
        let stream = Stream::new(self.connection(), 0)?;
        // SAFETY: domain and stream are alive.
        let format =
            unsafe { virt_sys::virDomainScreenshot(self.as_ptr(), stream.as_ptr(), screen, 0) };
        if format.is_null() {
            return Err(LibvirtError::last());
        }
        // What the format is said to be is of no use: the picture itself shows it.
        // SAFETY: libvirt allocated the text with malloc, and it is freed once.
        unsafe { free(format.cast()) };
        let picture = receive_all(&stream, limit, deadline);
        let ended = match &picture {
            Ok(_) => stream.finish(),
            Err(_) => stream.abort(),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "the stream of a picture did not end well");
        }
        picture
    }
}

fn receive_all(stream: &Stream, limit: usize, deadline: Instant) -> Result<Vec<u8>, LibvirtError> {
    let (mut picture, mut piece) = (Vec::new(), vec![0; PIECE_BYTES]);
    loop {
        match stream.receive(&mut piece)? {
            Received::Eof => return Ok(picture),
            Received::Bytes(count) if picture.len() + count <= limit => {
                picture.extend_from_slice(&piece[..count]);
            }
            Received::Bytes(_) => {
                return Err(LibvirtError::local("the picture is larger than is taken"));
            }
            Received::WouldBlock => {
                return Err(LibvirtError::local("a stream that waits did not wait"));
            }
        }
        if Instant::now() >= deadline {
            return Err(LibvirtError::local("the picture took too long"));
        }
    }
}
