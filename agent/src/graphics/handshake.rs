//! The handshake with a display, on an open connection and under a deadline: RFB's, and TLS in
//! the middle of it where the display has VeNCrypt. It reads exactly what belongs to the
//! handshake, so that the first byte after it is the display's own. How many handshakes with one
//! VM go on at once is for the caller to bound.

use std::io::{self, ErrorKind};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::error::HandshakeError;
use super::halves::{IntoHalves, ReadHalf, WriteHalf};
use super::terms::Terms;
use crate::core::rfb::display::{Display, ServerInit, Step};
use crate::core::rfb::security::{Acceptable, Security};
use crate::endpoint::DisplayAccess;

/// How much is read at once at most, in bytes. A display's name may be longer.
const READ_BYTES: usize = 4096;

/// A display that let us in. What comes next on it are the messages of RFC 6143, 7.5 and 7.6.
pub struct OpenDisplay {
    /// From the display: what follows ServerInit.
    pub read: ReadHalf,
    /// To the display: what follows ClientInit.
    pub write: WriteHalf,
    /// The display's first message.
    pub server_init: ServerInit,
    /// How we got in.
    pub security: Security,
}

/// Speaks the client's part of the handshake on `stream`, on which nothing was said yet, up to
/// and with ServerInit. `shared` tells the display whether to leave its other viewers connected.
///
/// # Errors
/// [`HandshakeError`]; the connection is closed then.
///
/// # Cancel safety
/// If dropped, the connection is closed.
pub async fn greet<S: IntoHalves>(
    stream: S,
    access: &DisplayAccess,
    terms: &Terms,
    shared: bool,
    deadline: Instant,
) -> Result<OpenDisplay, HandshakeError> {
    let none = Acceptable::none();
    let (acceptable, host) = match access {
        DisplayAccess::Granted => (&none, None),
        DisplayAccess::AsAsked { host } => (&terms.acceptable, host.as_deref()),
    };
    let mut display = Display::new(acceptable, shared);
    let opened = timeout_at(deadline, open(stream, &mut display, terms, host)).await;
    opened.unwrap_or_else(|_| Err(HandshakeError::Silent(display.awaited())))
}

async fn open<S: IntoHalves>(
    mut stream: S,
    display: &mut Display<'_>,
    terms: &Terms,
    host: Option<&str>,
) -> Result<OpenDisplay, HandshakeError> {
    if let Some(init) = talk(&mut stream, display, Vec::new()).await? {
        return finish(stream, display, init);
    }
    // Terms without it allow no kind of VeNCrypt, and then TLS is not asked for.
    let Some(tls) = &terms.tls else {
        return Err(display.closed().into());
    };
    let mut stream = tls.connect(stream, host).await?;
    let mut first = Vec::new();
    display.secured(&mut first);
    match talk(&mut stream, display, first).await? {
        Some(init) => finish(stream, display, init),
        None => Err(display.closed().into()),
    }
}

fn finish(
    stream: impl IntoHalves,
    display: &Display<'_>,
    server_init: ServerInit,
) -> Result<OpenDisplay, HandshakeError> {
    let security = display.security().ok_or_else(|| display.closed())?;
    let (read, write) = stream.into_halves();
    Ok(OpenDisplay {
        read,
        write,
        server_init,
        security,
    })
}

/// Sends `first`, and talks until the handshake is over, or `None` until TLS is to be begun.
async fn talk(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    display: &mut Display<'_>,
    first: Vec<u8>,
) -> Result<Option<ServerInit>, HandshakeError> {
    let (mut reply, mut came) = (first, BytesMut::new());
    loop {
        let awaited = display.awaited();
        match send(stream, &mut reply).await {
            Ok(()) => {}
            // It does not listen any more; it may have said why.
            Err(error) if is_hang_up(&error) => {}
            Err(error) => return Err(HandshakeError::of_io(error, awaited)),
        }
        let wanted = display.wants().min(READ_BYTES);
        came.clear();
        match stream.read_buf(&mut (&mut came).limit(wanted)).await {
            Ok(0) => return Err(display.closed().into()),
            Ok(_) => {}
            Err(error) if is_hang_up(&error) => return Err(display.closed().into()),
            Err(error) => return Err(HandshakeError::of_io(error, awaited)),
        }
        let step = display.take(&mut &came[..], &mut reply)?;
        if step != Step::More {
            send(stream, &mut reply)
                .await
                .map_err(|error| HandshakeError::of_io(error, awaited))?;
        }
        match step {
            Step::More => {}
            Step::StartTls => return Ok(None),
            Step::Done(init) => return Ok(Some(init)),
        }
    }
}

/// Sends what there is to be sent.
async fn send(stream: &mut (impl AsyncWrite + Unpin), reply: &mut Vec<u8>) -> io::Result<()> {
    if reply.is_empty() {
        return Ok(());
    }
    stream.write_all(reply).await?;
    reply.clear();
    stream.flush().await
}

/// Whether the other side closed, with or without TLS's closing alert.
fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

#[cfg(test)]
mod tests;
