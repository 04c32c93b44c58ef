//! One connection to a QMP server: greets, asks one command at a time, notes events. It decides
//! nothing, and connects to nothing itself.
//!
//! Every wait for the peer has a limit, save the wait for news. A command whose answer did not
//! come in time leaves the connection whole: when the answer comes after all, that is news.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::command::{Command, Negotiate};
use super::frames::{FrameError, Frames};
use super::message::{self, Message, MessageError, Refusal};
use super::pace::Pace;
use crate::hypervisor::qemu::counters::Counters;

/// How much is read at once.
pub(super) const READ_BYTES: usize = 4096;
/// The most bytes of commands that wait for the peer to read them.
const MAX_OUTBOUND: usize = 64 * 1024;

/// Why a command, or a connection, failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::hypervisor::qemu) enum ClientError {
    /// The peer closed the connection.
    #[error("it closed its monitor")]
    Closed,
    /// The peer did not greet.
    #[error(
        "another client holds the monitor, or QEMU hangs: give the agent a QMP socket of its own"
    )]
    NoGreeting,
    /// The peer did not answer in time. The connection is still of use.
    #[error("it did not answer {command} within {limit:?}: see if QEMU hangs")]
    Silent {
        /// What was asked.
        command: &'static str,
        /// For how long it was waited.
        limit: Duration,
    },
    /// The peer refused the command. The connection is still of use.
    #[error("it refused {command}: {}", refusal.text)]
    Refused {
        /// What was asked.
        command: &'static str,
        /// Why not.
        refusal: Refusal,
    },
    /// The peer does not read what it is sent.
    #[error("it reads no commands: see if QEMU hangs")]
    Unread,
    /// The peer's bytes are no messages.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer's message is none.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The connection broke.
    #[error("its monitor broke off")]
    Io(#[from] io::Error),
}

impl ClientError {
    /// Whether the peer broke the protocol's rules.
    pub(in crate::hypervisor::qemu) const fn is_breach(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::Message(_))
    }
}

#[derive(Serialize)]
struct Request<'a, C> {
    execute: &'static str,
    id: u64,
    arguments: &'a C,
}

/// A connection that was greeted.
#[derive(Debug)]
pub(in crate::hypervisor::qemu) struct Client {
    stream: UnixStream,
    frames: Frames,
    /// What the peer has not taken yet.
    outbound: Vec<u8>,
    pace: Pace,
    rest: Option<Instant>,
    next_id: u64,
    /// Whether something happened that was not told yet.
    news: bool,
    /// When the VM was last reset, as far as this connection heard.
    last_reset: Option<SystemTime>,
    limit: Duration,
    counters: Arc<Counters>,
}

impl Client {
    /// Waits at most `greeting` for the peer to greet, and answers it. Each command may take
    /// `limit`.
    ///
    /// # Errors
    /// [`ClientError::NoGreeting`] and others; then nothing is left open.
    ///
    /// # Cancel safety
    /// If dropped, the connection is closed.
    pub(in crate::hypervisor::qemu) async fn greet(
        stream: UnixStream,
        greeting: Duration,
        limit: Duration,
        counters: Arc<Counters>,
    ) -> Result<Self, ClientError> {
        let mut client = Self {
            stream,
            frames: Frames::default(),
            outbound: Vec::new(),
            pace: Pace::new(Instant::now()),
            rest: None,
            next_id: 0,
            news: false,
            last_reset: None,
            limit,
            counters,
        };
        let first = timeout(greeting, client.message());
        let first = first.await.map_err(|_| ClientError::NoGreeting)??;
        if message::parse(&first)? != Message::Greeting {
            return Err(MessageError::Unknown.into());
        }
        client.execute(&Negotiate {}).await?;
        Ok(client)
    }

    /// When the VM was last reset since the connection was made, if it was.
    pub(in crate::hypervisor::qemu) const fn last_reset(&self) -> Option<SystemTime> {
        self.last_reset
    }

    /// Asks `command` and waits for its answer. Events that come meanwhile are noted.
    ///
    /// # Errors
    /// See [`ClientError`]; after [`ClientError::Silent`] and [`ClientError::Refused`] the
    /// connection is still of use.
    ///
    /// # Cancel safety
    /// If dropped, the command may have been sent, and its answer is passed over.
    pub(in crate::hypervisor::qemu) async fn execute<C: Command>(
        &mut self,
        command: &C,
    ) -> Result<C::Answer, ClientError> {
        self.execute_within(self.limit, command, None).await
    }

    /// As [`Client::execute`], with a descriptor that goes to the peer with the command.
    ///
    /// # Errors
    /// As [`Client::execute`].
    ///
    /// # Cancel safety
    /// As [`Client::execute`].
    pub(in crate::hypervisor::qemu) async fn execute_with_fd<C: Command>(
        &mut self,
        command: &C,
        fd: BorrowedFd<'_>,
    ) -> Result<C::Answer, ClientError> {
        self.execute_within(self.limit, command, Some(fd)).await
    }

    async fn execute_within<C: Command>(
        &mut self,
        limit: Duration,
        command: &C,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<C::Answer, ClientError> {
        Counters::bump(&self.counters.commands);
        let asked = timeout(limit, self.ask(command, fd)).await;
        asked.unwrap_or_else(|_| {
            Counters::bump(&self.counters.commands_timed_out);
            let command = C::NAME;
            Err(ClientError::Silent { command, limit })
        })
    }

    async fn ask<C: Command>(
        &mut self,
        command: &C,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<C::Answer, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        let request = Request {
            execute: C::NAME,
            id,
            arguments: command,
        };
        let mut request = serde_json::to_vec(&request).map_err(MessageError::from)?;
        request.push(b'\n');
        self.send(request, fd).await?;
        loop {
            let bytes = self.message().await?;
            match self.note(&bytes)? {
                Some((answered, refusal)) if answered == id => match refusal {
                    None => return Ok(message::answer(&bytes)?),
                    Some(refusal) => {
                        let command = C::NAME;
                        return Err(ClientError::Refused { command, refusal });
                    }
                },
                // An answer that is late, or to a question of nobody's.
                Some(_) | None => {}
            }
        }
    }

    /// Waits until something happened since the last time: an event that may have changed what
    /// is known of the VM, or an answer that had been given up.
    ///
    /// # Errors
    /// The connection is of no use any longer.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(in crate::hypervisor::qemu) async fn news(&mut self) -> Result<(), ClientError> {
        while !std::mem::take(&mut self.news) {
            let bytes = self.message().await?;
            if let Some((id, _)) = self.note(&bytes)? {
                self.news = id < self.next_id;
            }
        }
        Ok(())
    }

    /// Takes in a message; tells what it answers, if it is an answer.
    fn note(&mut self, bytes: &[u8]) -> Result<Option<(u64, Option<Refusal>)>, ClientError> {
        match message::parse(bytes)? {
            Message::Greeting => Err(MessageError::Unknown.into()),
            Message::Event { news, reset } => {
                Counters::bump(&self.counters.events);
                self.news |= news;
                if reset {
                    self.last_reset = Some(SystemTime::now());
                }
                Ok(None)
            }
            Message::Reply { id, refusal } => Ok(id.map(|id| (id, refusal))),
        }
    }

    /// The next message, when the peer's pace allows it.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    async fn message(&mut self) -> Result<Vec<u8>, ClientError> {
        if let Some(until) = self.rest {
            sleep_until(until).await;
            self.rest = None;
        }
        loop {
            if let Some(message) = self.frames.next()? {
                self.rest = self.pace.count(Instant::now(), message.len());
                return Ok(message);
            }
            let mut buffer = [0; READ_BYTES];
            self.stream.readable().await?;
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => self.frames.extend(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(ClientError::Closed);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends `request` behind what was not taken of those before, and `fd` with its first byte.
    async fn send(
        &mut self,
        request: Vec<u8>,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), ClientError> {
        if self.outbound.len() + request.len() > MAX_OUTBOUND {
            return Err(ClientError::Unread);
        }
        if fd.is_some() {
            self.flush(None).await?;
        }
        self.outbound.extend(request);
        self.flush(fd).await
    }

    /// # Cancel safety
    /// What was sent is no longer in `outbound`, what was not is.
    async fn flush(&mut self, mut fd: Option<BorrowedFd<'_>>) -> Result<(), ClientError> {
        while !self.outbound.is_empty() {
            let sent = self.stream.async_io(Interest::WRITABLE, || {
                send_once(&self.stream, &self.outbound, fd)
            });
            let sent = sent.await.map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ClientError::Closed,
                _ => error.into(),
            })?;
            self.outbound.drain(..sent.min(self.outbound.len()));
            fd = None;
        }
        Ok(())
    }
}

/// Sends the beginning of `bytes`, with `fd` if there is one.
fn send_once(stream: &UnixStream, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<usize> {
    let fds = fd.map(|fd| [fd.as_raw_fd()]);
    let rights = fds.as_ref().map(|fds| ControlMessage::ScmRights(fds));
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let sent = sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(bytes)],
        rights.as_slice(),
        flags,
        None,
    );
    Ok(sent?)
}

#[cfg(test)]
mod tests;
