//! The 24 bytes by which HTTP/2 begins: read under the handshake's deadline, then played
//! back to the HTTP/2 server, which wants to see them itself.
//!
//! The server has no deadline of its own for them; read here, a client that finishes TLS
//! and then says nothing holds no connection. No byte is changed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::failure::{HandshakeError, HandshakeFailure};

/// What a client begins an HTTP/2 connection with (RFC 9113, section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose preface was read, and is read once more by whoever reads the stream.
#[derive(Debug)]
pub struct Prefaced<S> {
    inner: S,
    /// How much of the preface was played back.
    replayed: usize,
}

impl<S: AsyncRead + Unpin> Prefaced<S> {
    /// Reads the preface, and not a byte more.
    ///
    /// # Errors
    /// The stream, and that its bytes are not the preface's (as soon as one differs), or
    /// that it ended or broke.
    ///
    /// # Cancel safety
    /// If dropped, the stream is dropped.
    pub(super) async fn read(mut inner: S) -> Result<Self, (HandshakeError, S)> {
        let mut bytes = [0; PREFACE.len()];
        let mut have = 0;
        while have < PREFACE.len() {
            match inner.read(&mut bytes[have..]).await {
                Ok(0) => return Err((HandshakeFailure::Closed.into(), inner)),
                Ok(count) => have += count,
                Err(error) => return Err((HandshakeError::of_io(&error), inner)),
            }
            if bytes[..have] != PREFACE[..have] {
                return Err((HandshakeFailure::BadPreface.into(), inner));
            }
        }
        Ok(Self { inner, replayed: 0 })
    }
}

impl<S> Prefaced<S> {
    /// The stream below.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefaced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = &PREFACE[this.replayed..];
        if rest.is_empty() {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        this.replayed += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefaced<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    async fn failure(bytes: &[u8]) -> HandshakeFailure {
        let (mut client, server) = duplex(64);
        client.write_all(bytes).await.expect("fits");
        let reading = Prefaced::read(server);
        // A mismatch shows before the client closes; anything else, when it does.
        let closing = async move {
            if PREFACE.starts_with(bytes) {
                client.shutdown().await.expect("closes");
            }
            client
        };
        let (result, _client) = tokio::join!(reading, closing);
        result
            .map(|_: Prefaced<DuplexStream>| ())
            .expect_err("no preface")
            .0
            .failure
    }

    #[tokio::test]
    async fn what_follows_the_preface_is_left_for_the_reader() {
        let (mut client, server) = duplex(64);
        client
            .write_all(&[&PREFACE[..], b"rest"].concat())
            .await
            .expect("fits");
        let mut stream = Prefaced::read(server)
            .await
            .map_err(|(error, _)| error)
            .expect("it is");
        let mut seen = Vec::new();
        // In pieces, so that the playback is cut too.
        for size in [1, 10, 13, 4] {
            let mut piece = vec![0; size];
            stream.read_exact(&mut piece).await.expect("there");
            seen.extend(piece);
        }
        assert_eq!(seen, [&PREFACE[..], b"rest"].concat());

        stream.write_all(b"answer").await.expect("writes");
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await.expect("arrives");
        assert_eq!(&answer, b"answer");
    }

    #[tokio::test]
    async fn anything_else_is_told_at_its_first_wrong_byte() {
        assert_eq!(
            failure(b"GET / HTTP/1.1\r\n\r\n").await,
            HandshakeFailure::BadPreface
        );
        assert_eq!(failure(b"PRI * HTTP/1").await, HandshakeFailure::BadPreface);
        assert_eq!(
            failure(b"PRI * HTTP/2.0\r\n").await,
            HandshakeFailure::Closed
        );
        assert_eq!(failure(b"").await, HandshakeFailure::Closed);
    }
}
