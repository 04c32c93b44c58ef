//! One local connection: of a viewer, a proxy, or whatever wants a console's bytes.
//!
//! Refuses to buffer: bytes are read into the caller's buffer and written from where they are.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};

use super::pending::{MAX_SLICES, Pending};

/// How many bytes are read at once, at most.
pub(super) const READ_BYTES: usize = 64 << 10;

/// With less room than this, a buffer gets more.
const LEAST_ROOM: usize = 4 << 10;

/// After so much silence a TCP client is asked for a sign of life.
const KEEP_IDLE: Duration = Duration::from_secs(30);

/// How long after one sign of life another is asked for, and how many may be missed: a client
/// that vanished is noticed within a minute.
const KEEP_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_MISSED: u32 = 3;

/// How long a client may take to close its end after ours was: what it had not read yet would
/// be lost with a reset.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// How much is read and dropped meanwhile.
const CLOSE_READS: usize = 64;

/// The connection.
#[derive(Debug)]
pub(super) enum Local {
    /// From this or another host.
    Tcp(TcpStream),
    /// From this host.
    Unix(UnixStream),
}

impl Local {
    /// A TCP connection whose bytes are sent at once, and whose other end is looked after.
    ///
    /// # Errors
    /// As an option cannot be set: the connection is gone.
    pub(super) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(KEEP_IDLE)
            .with_interval(KEEP_INTERVAL)
            .with_retries(KEEP_MISSED);
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(Self::Tcp(stream))
    }

    /// Reads what is there, `room` bytes at most and [`READ_BYTES`]; 0 is the end.
    ///
    /// # Errors
    /// As the connection broke.
    ///
    /// # Cancel safety
    /// Nothing is read if dropped.
    pub(super) async fn read(&self, into: &mut BytesMut, room: usize) -> io::Result<usize> {
        if into.capacity() - into.len() < LEAST_ROOM.min(room) {
            into.reserve(READ_BYTES);
        }
        let room = room.min(into.capacity() - into.len());
        loop {
            self.readable().await?;
            let mut limited = (&mut *into).limit(room);
            let read = match self {
                Self::Tcp(stream) => stream.try_read_buf(&mut limited),
                Self::Unix(stream) => stream.try_read_buf(&mut limited),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// Writes as much as is taken now of what waits, which must not be nothing.
    ///
    /// # Errors
    /// As the connection broke.
    ///
    /// # Cancel safety
    /// Nothing is written if dropped.
    pub(super) async fn write(&self, pending: &Pending) -> io::Result<usize> {
        loop {
            self.writable().await?;
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = pending.slices(&mut slices);
            let slices = slices.get(..filled).unwrap_or_default();
            let written = match self {
                Self::Tcp(stream) => stream.try_write_vectored(slices),
                Self::Unix(stream) => stream.try_write_vectored(slices),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
        }
    }

    /// Ends what goes to the client, and waits a moment for its own end.
    ///
    /// # Cancel safety
    /// The client may be reset before it has read all if dropped.
    pub(super) async fn close(self) {
        // One that is gone already needs no end.
        let socket = match &self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
        };
        if socket.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let ended = async {
            let mut dropped = BytesMut::new();
            for _ in 0..CLOSE_READS {
                dropped.clear();
                if matches!(self.read(&mut dropped, READ_BYTES).await, Ok(0) | Err(_)) {
                    return;
                }
            }
        };
        // Whether it ended or not, this end is closed now.
        let _ = tokio::time::timeout(CLOSE_WAIT, ended).await;
    }

    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }

    async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            Self::Unix(stream) => stream.writable().await,
        }
    }
}
