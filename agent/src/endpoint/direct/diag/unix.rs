//! Unix sockets, as `include/uapi/linux/unix_diag.h` has them.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::sys::stat::{major, minor};

use super::{Ask, ESTABLISHED, LISTEN, ask, attributes, only, u32_at};

const AF_UNIX: u8 = 1;

/// What is to be told: name, file, peer, lengths of queues, owner.
const SHOW: u32 = 0x01 | 0x02 | 0x04 | 0x10 | 0x40;

const NAME: u16 = 0;
const VFS: u16 = 1;
const PEER: u16 = 2;
const QUEUES: u16 = 4;
const USER: u16 = 7;

/// The length of an answer's fixed part.
const FIXED: usize = 16;

/// A unix socket that some process has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct UnixSocket {
    /// `ESTABLISHED` or `LISTEN`.
    pub(in super::super) state: u8,
    /// Its inode, by which processes' descriptors name it.
    pub(in super::super) inode: u32,
    /// The inode of the socket at the other end; `None` if nobody has that one (yet, or any
    /// longer).
    pub(in super::super) peer: Option<u32>,
    /// Bytes that were sent to it and not read.
    pub(in super::super) unread: usize,
    /// Whose it is, where the kernel tells (since 5.4).
    pub(in super::super) user: Option<u32>,
    /// The path that it, or the listener that accepted it, was bound to.
    name: Vec<u8>,
    /// That file's own number, and its device's, as the kernel numbers them.
    file: Option<(u32, u32)>,
}

impl UnixSocket {
    fn parse(body: &[u8]) -> Option<Self> {
        let mut socket = Self {
            state: *body.get(2)?,
            inode: u32_at(body, 4)?,
            ..Self::default()
        };
        for (kind, value) in attributes(body.get(FIXED..)?) {
            match kind {
                NAME => socket.name = value.split(|byte| *byte == 0).next()?.to_owned(),
                VFS => socket.file = Some((u32_at(value, 0)?, u32_at(value, 4)?)),
                PEER => socket.peer = u32_at(value, 0).filter(|inode| *inode != 0),
                QUEUES => socket.unread = usize::try_from(u32_at(value, 0)?).ok()?,
                USER => socket.user = u32_at(value, 0),
                _ => {}
            }
        }
        Some(socket)
    }

    /// Whether it was bound to, or accepted from, the file of this identity (device and number,
    /// as stat(2) has them) and path.
    pub(in super::super) fn is_at(&self, identity: (u64, u64), path: &Path) -> bool {
        let Some((number, device)) = self.file else {
            return false;
        };
        // The kernel tells the lower half of the number alone, and of some file systems (btrfs,
        // overlayfs) another device than stat does: then the name decides.
        let same_number = u64::from(number) == identity.1 & u64::from(u32::MAX);
        let same_device = u64::from(device) == (major(identity.0) << 20 | minor(identity.0));
        same_number && (same_device || Path::new(OsStr::from_bytes(&self.name)) == path)
    }
}

fn request(states: u32, inode: u32) -> Vec<u8> {
    let mut request = vec![AF_UNIX, 0, 0, 0];
    // The last two are a cookie: any.
    for word in [states, inode, SHOW, u32::MAX, u32::MAX] {
        request.extend(word.to_ne_bytes());
    }
    request
}

/// The socket of this inode.
///
/// # Errors
/// The system's: [`io::ErrorKind::NotFound`] if there is none.
pub(in super::super) fn unix_by_inode(inode: u32) -> io::Result<UnixSocket> {
    let mut found = None;
    ask(Ask::One, &request(u32::MAX, inode), |body| {
        found = UnixSocket::parse(body);
    })?;
    found.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Every socket that listens at a path, and every one that was accepted from such a one.
///
/// # Errors
/// The system's.
pub(in super::super) fn unix_connections() -> io::Result<Vec<UnixSocket>> {
    let mut found = Vec::new();
    let states = only(ESTABLISHED) | only(LISTEN);
    ask(Ask::All, &request(states, 0), |body| {
        found.extend(UnixSocket::parse(body).filter(|socket| socket.file.is_some()));
    })?;
    Ok(found)
}
