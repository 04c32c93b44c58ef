//! Why a relay has to end because of what its client says.

use super::super::message::{MAX_CUT_TEXT, MAX_ENCODINGS, Unknown};

/// What cannot be passed on, and not be passed over either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A message of no known length while every message must be looked into.
    #[error(
        "the VNC client sent a message that is not known ({0}) while it may only view, or rules look into its messages: switch that extension off in the client"
    )]
    Unknown(Unknown),
    /// The lease was lost, and it is not known any more where the client's messages begin.
    #[error(
        "the lease was lost after the VNC client had sent a message that is not known ({0}), so that its input cannot be told from the rest: open the display again"
    )]
    LeaseLost(Unknown),
    /// More encodings than [`MAX_ENCODINGS`].
    #[error("the VNC client announced {0} encodings: at most {MAX_ENCODINGS} are taken")]
    TooManyEncodings(u16),
    /// A text longer than [`MAX_CUT_TEXT`], for which QEMU would close the connection.
    #[error("the VNC client sent a clipboard of {0} bytes: at most {MAX_CUT_TEXT} are taken")]
    CutTextTooLong(u64),
}

impl Violation {
    /// The message's type.
    pub fn message_type(self) -> u8 {
        match self {
            Self::Unknown(unknown) | Self::LeaseLost(unknown) => unknown.number,
            Self::TooManyEncodings(_) => 2,
            Self::CutTextTooLong(_) => 6,
        }
    }
}
