//! Asks the kernel about sockets, by sock_diag(7): who is connected to whom, and how much
//! waits to be read. Needs no privilege. It tells of the agent's own network namespace only,
//! and changes nothing.
//!
//! A connection that its listener has not accepted yet has no inode at the far end: so shows
//! whether QEMU took it.

mod inet;
mod unix;

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

pub(super) use inet::{tcp_accepted_at, tcp_between, tcp_listening_on, tcp_waiting_at};
pub(super) use unix::{UnixSocket, unix_by_inode, unix_connections};

/// Message types of sock_diag(7) and netlink(7).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;

/// The length of a netlink message's header.
const HEADER: usize = 16;

/// What the kernel puts into one answer at most.
const ANSWER: usize = 32 * 1024;

/// The most sockets that are looked at for one question.
const MAX_SOCKETS: usize = 1 << 17;

/// States, as `include/net/tcp_states.h` numbers them; unix sockets use the same.
pub(super) const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
pub(super) const LISTEN: u8 = 10;

/// A bit mask of one state.
const fn only(state: u8) -> u32 {
    1 << state
}

/// Whether one socket is asked for, or all that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    One,
    All,
}

/// Asks for sockets and hands each answer's body to `each`.
///
/// # Errors
/// The system's: [`io::ErrorKind::NotFound`] where the one asked for is not there.
fn ask(ask: Ask, request: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    let flags = match ask {
        Ask::One => NLM_F_REQUEST,
        Ask::All => NLM_F_REQUEST | NLM_F_DUMP,
    };
    send(
        netlink.as_raw_fd(),
        &message(flags, request),
        MsgFlags::empty(),
    )?;
    let mut answer = vec![
        0;
        match ask {
            Ask::One => ANSWER / 8,
            Ask::All => ANSWER,
        }
    ];
    let mut seen = 0;
    loop {
        // The kernel answers before it returns from the question: there is nothing to wait for.
        let length = receive(&netlink, &mut answer)?;
        let mut rest = answer.get(..length).unwrap_or_default();
        while let Some((kind, body, after)) = split(rest) {
            rest = after;
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return Err(error(body)),
                _ => each(body),
            }
            seen += 1;
            if ask == Ask::One {
                return Ok(());
            }
        }
        if seen > MAX_SOCKETS || length == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

fn receive(netlink: &OwnedFd, answer: &mut [u8]) -> io::Result<usize> {
    loop {
        match recv(netlink.as_raw_fd(), answer, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EINTR) => {}
            received => return Ok(received?),
        }
    }
}

fn message(flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence and port: one question a socket, and the kernel knows who asks.
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The first message's type and body, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let kind = u16_at(bytes, 4)?;
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(aligned(length)..).unwrap_or_default()))
}

/// The attributes after a body's fixed part, each with its type.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)?;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

const fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

fn error(body: &[u8]) -> io::Error {
    let code = u32_at(body, 0).map_or(0, |code| i32::from_ne_bytes(code.to_ne_bytes()));
    io::Error::from_raw_os_error(code.saturating_neg())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
