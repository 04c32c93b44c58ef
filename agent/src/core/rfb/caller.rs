//! The server's part of RFB's handshake, towards a caller that was authenticated long before:
//! it offers the security type None alone. It passes nothing on, and takes not one byte of what
//! follows ClientInit.
//!
//! ```text
//!            3.7, 3.8: type None offered              None (3.8: result OK)
//!  Version ──────────────────────────────▶ Choice ──────────────────────▶ ClientInit ─▶ Done
//!     │ │        3.3: type None decided       │ another type                  ▲
//!     │ └─────────────────────────────────────┼───────────────────────────────┘
//!     │ no version                            ▼
//!     └───────────────────────────────▶ Failed(CallerError)
//! ```

use super::piece::Piece;
use super::version::{VERSION_BYTES, Version, VersionError};

/// What the agent begins with.
pub const GREETING: &[u8; VERSION_BYTES] = Version::V3_8.bytes();
/// How much of a caller's bytes the handshake takes at most: version, type and ClientInit.
pub const MAX_BYTES: usize = VERSION_BYTES + 2;
/// How much the handshake answers at most, in bytes, [`GREETING`] not counted.
pub const MAX_REPLY_BYTES: usize = 128;

const TYPE_NONE: u8 = 1;
/// The results of the security handshake.
const OK: u32 = 0;
const FAILED: u32 = 1;
/// What a caller is told that chose another type.
const ONLY_NONE: &str = "only the security type None is offered here: authentication is done";
/// What a caller is told whose version is too old.
const TOO_OLD: &str = "only versions of RFB from 3.3 on are spoken here";

/// Why the handshake ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallerError {
    /// What came is no version of RFB, or too old.
    #[error("the caller does not speak RFB: {0}; connect a VNC viewer")]
    Version(VersionError),
    /// The caller chose a type that was not offered.
    #[error("the caller chose security type {0}, and only None (1) was offered; let it take that")]
    Choice(u8),
}

/// What comes of the bytes that were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// More must come.
    More,
    /// ClientInit came: the handshake is over, and ServerInit is to be sent.
    Done {
        /// Whether the caller leaves other viewers connected. Told, and used for nothing: the
        /// agent decides that.
        shared: bool,
    },
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Awaited {
    Version,
    Choice(Version),
    ClientInit,
    Nothing { shared: bool },
    Failed(CallerError),
}

/// One handshake with a caller.
#[derive(Debug)]
pub struct Caller {
    awaited: Awaited,
    piece: Piece,
}

impl Caller {
    /// A caller that [`GREETING`] is sent to, and that has said nothing yet.
    pub const fn new() -> Self {
        Self {
            awaited: Awaited::Version,
            piece: Piece::of(VERSION_BYTES),
        }
    }

    /// Takes what the caller sent, cut anywhere, from the front of `bytes`; what follows
    /// ClientInit stays there. Appends to `reply` what is to be sent to the caller: in all at
    /// most [`MAX_REPLY_BYTES`].
    ///
    /// # Errors
    /// [`CallerError`], and the same at each call after it. What is in `reply` tells the caller,
    /// where its version has a way: it is to be sent before the connection is closed.
    pub fn take(&mut self, bytes: &mut &[u8], reply: &mut Vec<u8>) -> Result<Step, CallerError> {
        loop {
            match &self.awaited {
                Awaited::Failed(error) => return Err(error.clone()),
                Awaited::Nothing { shared } => return Ok(Step::Done { shared: *shared }),
                Awaited::Version | Awaited::Choice(_) | Awaited::ClientInit => {}
            }
            let Some(piece) = self.piece.fill(bytes) else {
                return Ok(Step::More);
            };
            self.awaited = self.next(&piece, reply).unwrap_or_else(Awaited::Failed);
        }
    }

    /// What a whole piece leads to.
    fn next(&mut self, piece: &[u8], reply: &mut Vec<u8>) -> Result<Awaited, CallerError> {
        self.piece = Piece::of(1);
        match (&self.awaited, piece) {
            (Awaited::Version, piece) => {
                let version = version(piece, reply)?;
                if version == Version::V3_3 {
                    put(reply, u32::from(TYPE_NONE));
                    return Ok(Awaited::ClientInit);
                }
                reply.extend_from_slice(&[1, TYPE_NONE]);
                Ok(Awaited::Choice(version))
            }
            (Awaited::Choice(version), [TYPE_NONE]) => {
                if *version == Version::V3_8 {
                    put(reply, OK);
                }
                Ok(Awaited::ClientInit)
            }
            (Awaited::Choice(version), piece) => {
                // 3.7 has neither result nor reason for None, and closes.
                if *version == Version::V3_8 {
                    put(reply, FAILED);
                    put_reason(reply, ONLY_NONE);
                }
                let chosen = piece.first().copied().unwrap_or_default();
                Err(CallerError::Choice(chosen))
            }
            (_, flag) => Ok(Awaited::Nothing {
                shared: flag != [0],
            }),
        }
    }
}

impl Default for Caller {
    fn default() -> Self {
        Self::new()
    }
}

fn version(piece: &[u8], reply: &mut Vec<u8>) -> Result<Version, CallerError> {
    Version::of(piece).map_err(|error| {
        // 3.3's way to refuse, which the version before it may know.
        if let VersionError::TooOld { .. } = error {
            put(reply, 0);
            put_reason(reply, TOO_OLD);
        }
        CallerError::Version(error)
    })
}

fn put(reply: &mut Vec<u8>, number: u32) {
    reply.extend_from_slice(&number.to_be_bytes());
}

fn put_reason(reply: &mut Vec<u8>, reason: &str) {
    put(reply, u32::try_from(reason.len()).unwrap_or(u32::MAX));
    reply.extend_from_slice(reason.as_bytes());
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
