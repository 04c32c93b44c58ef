//! Sends the records of several large writes together.
//!
//! The HTTP/2 server flushes after each DATA frame of 16 KiB, and a TLS stream sends at
//! each write: four system calls, and four wake-ups of the client, for what fits one. Here
//! a flush that directly follows a large write is put off, and the next one, with nothing
//! written in between, carries it out. The server makes that one as soon as it has no frame
//! left; so nothing waits for time to pass. Small writes are sent at their own flush.
//!
//! No byte is changed, and what is held is bounded.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

/// So many bytes are sent without waiting for more: a whole message of 64 KiB with what
/// gRPC, HTTP/2 and the messages beside it add.
const ENOUGH: usize = 72 * 1024;

/// The most encrypted bytes that are held: [`ENOUGH`], one more DATA frame, and their
/// records' headers.
const MOST: usize = 96 * 1024;

/// A write of so many bytes is one of which more may follow.
const LARGE: usize = 4096;

/// A TLS stream that sends large writes together.
#[derive(Debug)]
pub struct Corked<S> {
    inner: TlsStream<S>,
    /// Bytes that were written and not sent.
    held: usize,
    /// Whether a flush would follow a large write.
    after_large: bool,
}

impl<S> Corked<S> {
    /// Wraps a stream whose handshake is over.
    pub(super) fn new(mut inner: TlsStream<S>) -> Self {
        inner.get_mut().1.set_buffer_limit(Some(MOST));
        Self {
            inner,
            held: 0,
            after_large: false,
        }
    }

    /// The stream below.
    pub const fn get_ref(&self) -> &TlsStream<S> {
        &self.inner
    }

    /// The stream below. What was written and not flushed is sent when that is flushed.
    pub(super) fn into_inner(self) -> TlsStream<S> {
        self.inner
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Corked<S> {
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.held = 0;
        self.after_large = false;
        Poll::Ready(Ok(()))
    }

    /// Encrypts `bufs`, as far as rustls takes them, and sends first if it takes nothing.
    fn hold(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.held >= ENOUGH {
            ready!(self.send(cx))?;
        }
        let mut taken = self.inner.get_mut().1.writer().write_vectored(bufs)?;
        if taken == 0 && bufs.iter().any(|buf| !buf.is_empty()) {
            ready!(self.send(cx))?;
            taken = self.inner.get_mut().1.writer().write_vectored(bufs)?;
        }
        self.held += taken;
        self.after_large = taken >= LARGE;
        Poll::Ready(Ok(taken))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Corked<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().hold(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().hold(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.after_large && this.held < ENOUGH {
            this.after_large = false;
            // Whoever flushes but once is called again, and flushes again.
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        this.send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // It sends whatever rustls holds before it closes.
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
