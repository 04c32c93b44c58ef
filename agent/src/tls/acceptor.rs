//! One accepted connection on its way to gRPC: TLS, then the HTTP/2 preface, under one
//! deadline and within a bounded number at once.
//!
//! It accepts no connections and spawns nothing: whoever accepts calls
//! [`Handshakes::handshake`] in a task of its own.
//!
//! ```text
//! accepted ─▶ TLS ─▶ preface ─▶ Secured
//!     │        │        │
//!     └────────┴────────┴──▶ failed(reason): alert out, linger, close
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::cork::Corked;
use super::failure::{HandshakeError, HandshakeFailure};
use super::identity::{Fingerprint, claims};
use super::metrics::HandshakeMetrics;
use super::pending::Pending;
use super::preface::Prefaced;
use crate::core::id::PeerIdentity;

/// After how much silence a connection is probed. With the two below, a dead peer is
/// found within 20 s, so that its writer's lease is free within 30 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// How long after an unanswered probe the next one is sent.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long sent bytes may stay unacknowledged (RFC 5482; on Linux this also ends a
/// connection whose probes stay unanswered).
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a failed connection is still read, so that the alert arrives: closing a
/// socket with unread bytes resets it, and a reset discards what was sent.
const LINGER: Duration = Duration::from_secs(1);
/// How much is read meanwhile at most, in bytes.
const LINGER_BYTES: usize = 256 * 1024;

/// What is known of a client whose certificate was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it connected from.
    pub addr: SocketAddr,
    /// The names in its certificate, at most [`super::MAX_IDENTITIES`]; may be empty.
    pub identities: Vec<PeerIdentity>,
    /// When its certificate expires.
    pub certificate_expires: SystemTime,
    /// Which certificate it is.
    pub fingerprint: Fingerprint,
}

/// A connection that has begun to speak HTTP/2 over TLS.
#[derive(Debug)]
pub struct Secured<S = TcpStream> {
    /// The HTTP/2 bytes, from the preface on.
    pub io: Prefaced<Corked<S>>,
    /// Who is at the other end.
    pub peer: Peer,
}

/// The handshakes that are under way.
#[derive(Clone, Debug)]
pub struct Handshakes {
    pending: Arc<Pending>,
    deadline: Duration,
    metrics: HandshakeMetrics,
}

impl Handshakes {
    /// At most `limit` at once (at least 1), each of which takes `deadline` at most.
    pub fn new(limit: usize, deadline: Duration, metrics: HandshakeMetrics) -> Self {
        Self {
            pending: Pending::new(limit),
            deadline,
            metrics,
        }
    }

    /// Brings an accepted connection to where HTTP/2 begins. When too many are under way,
    /// the oldest one fails with [`HandshakeFailure::Evicted`], never this one at once.
    ///
    /// # Errors
    /// [`HandshakeError`]; it was logged and counted, and the client was told by a TLS
    /// alert wherever TLS has one for it.
    ///
    /// # Cancel safety
    /// If dropped, the connection is closed and counted as cancelled.
    pub async fn handshake(
        &self,
        stream: TcpStream,
        addr: SocketAddr,
        config: Arc<ServerConfig>,
    ) -> Result<Secured, HandshakeError> {
        if let Err(error) = prepare(&stream) {
            let error = HandshakeError::of_io(&error);
            self.metrics.begin().finish(Err(error.failure));
            report(addr, &error);
            return Err(error);
        }
        self.secure(stream, addr, config).await
    }

    /// [`Handshakes::handshake`] for any stream.
    pub(super) async fn secure<S>(
        &self,
        stream: S,
        addr: SocketAddr,
        config: Arc<ServerConfig>,
    ) -> Result<Secured<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let underway = self.metrics.begin();
        let place = self.pending.enter();
        let deadline = Instant::now() + self.deadline;
        let result = tokio::select! {
            // Eviction first: a newer connection is waiting for what this one holds.
            biased;
            () = place.evicted() => Err((HandshakeFailure::Evicted.into(), None)),
            result = timeout_at(deadline, perform(stream, addr, config)) => {
                result.unwrap_or_else(|_| Err((HandshakeFailure::Timeout.into(), None)))
            }
        };
        underway.finish(
            result
                .as_ref()
                .map(|_| ())
                .map_err(|(error, _)| error.failure),
        );
        let (error, stream) = match result {
            Ok(secured) => {
                tracing::debug!(peer.address = %addr, "TLS handshake finished");
                return Ok(secured);
            }
            Err(failed) => failed,
        };
        report(addr, &error);
        if let Some(stream) = stream {
            let until = deadline.min(Instant::now() + LINGER);
            tokio::select! {
                biased;
                () = place.evicted() => {}
                _ = timeout_at(until, linger(stream)) => {}
            }
        }
        Err(error)
    }
}

/// Sets what a connection needs before the first byte.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    // A keystroke's echo must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// A failure, and the connection if it is still there to be closed in good order.
type Failed<S> = (HandshakeError, Option<S>);

async fn perform<S>(
    stream: S,
    addr: SocketAddr,
    config: Arc<ServerConfig>,
) -> Result<Secured<S>, Failed<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let accept = TlsAcceptor::from(config).accept(stream).into_fallible();
    let tls = accept
        .await
        .map_err(|(error, io)| (HandshakeError::of_io(&error), Some(io)))?;
    let peer = match peer(&tls, addr) {
        Ok(peer) => peer,
        Err(failure) => return Err((failure.into(), Some(close_tls(tls).await))),
    };
    match Prefaced::read(Corked::new(tls)).await {
        Ok(io) => Ok(Secured { io, peer }),
        Err((error, tls)) => Err((error, Some(close_tls(tls.into_inner()).await))),
    }
}

/// Who is at the other end of a finished handshake, if HTTP/2 was agreed on.
fn peer<S>(tls: &TlsStream<S>, addr: SocketAddr) -> Result<Peer, HandshakeFailure> {
    let (_, connection) = tls.get_ref();
    // A client that offers other protocols only was refused by rustls. One that offers
    // none gets here.
    if connection.alpn_protocol().is_none() {
        return Err(HandshakeFailure::NoAlpn);
    }
    let chain = connection.peer_certificates().unwrap_or_default();
    let leaf = chain.first().ok_or(HandshakeFailure::NoCertificate)?;
    let claims = claims(leaf).map_err(|_| HandshakeFailure::BadCertificate)?;
    Ok(Peer {
        addr,
        identities: claims.identities,
        certificate_expires: claims.expires,
        fingerprint: Fingerprint::of(leaf),
    })
}

/// Ends TLS with its closing alert.
async fn close_tls<S: AsyncRead + AsyncWrite + Unpin>(mut tls: TlsStream<S>) -> S {
    // A peer that is gone is not told; nothing else can fail here.
    let _ = tls.shutdown().await;
    tls.into_inner().0
}

/// Sends what is to be sent and waits for the peer to close, within bounds.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    stream.shutdown().await?;
    let mut discarded = [0; 4096];
    let mut read = 0;
    while read < LINGER_BYTES {
        match stream.read(&mut discarded).await? {
            0 => break,
            count => read += count,
        }
    }
    Ok(())
}

fn report(addr: SocketAddr, error: &HandshakeError) {
    let reason = error.failure.label();
    tracing::info!(peer.address = %addr, reason, %error, "TLS handshake failed");
}

#[cfg(test)]
mod tests;
