//! Why a display could not be opened, in words for whoever runs the host. What the display says
//! is made printable and cut; nothing that we sent it is repeated.

use std::fmt;

use super::super::security::Offered;
use super::super::text::printable;
use super::super::version::VersionError;
use super::{MAX_NAME_BYTES, MAX_REASON_BYTES};
use crate::core::reason::Reason;

/// What a display is to say next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Its version.
    Version,
    /// How many security types it offers.
    TypeCount,
    /// Which ones.
    Types,
    /// The security type that it decided on, in 3.3.
    DecidedType,
    /// The version of VeNCrypt.
    VencryptVersion,
    /// Whether it takes ours.
    VencryptAnswer,
    /// How many kinds of VeNCrypt it offers.
    KindCount,
    /// Which ones.
    Kinds,
    /// Whether it takes the one that was chosen.
    KindAnswer,
    /// TLS.
    Tls,
    /// A challenge to prove the password with.
    Challenge,
    /// Whether we are let in.
    Result,
    /// How long the reason of a refusal is.
    ReasonLength(Refused),
    /// The reason of a refusal.
    Reason(Refused),
    /// ServerInit.
    ServerInit,
    /// The display's name, at the end of ServerInit.
    Name,
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "its version",
            Self::TypeCount | Self::Types | Self::DecidedType => "its security types",
            Self::VencryptVersion | Self::VencryptAnswer => "the version of VeNCrypt",
            Self::KindCount | Self::Kinds | Self::KindAnswer => "its kinds of VeNCrypt",
            Self::Tls => "the TLS handshake",
            Self::Challenge => "the challenge for the password",
            Self::Result => "the result of the authentication",
            Self::ReasonLength(_) | Self::Reason(_) => "the reason of its refusal",
            Self::ServerInit | Self::Name => "the size of its screen (ServerInit)",
        })
    }
}

/// What a display refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// To talk at all: before any authentication.
    Connection,
    /// To let us in: after it.
    Authentication,
}

impl Refused {
    /// With as much of the reason as came.
    pub(super) fn error(self, reason: &[u8]) -> DisplayError {
        // QEMU sends the NUL at the end of its strings too.
        let ending = reason.iter().rev().take_while(|byte| **byte == 0).count();
        let reason = &reason[..reason.len() - ending];
        let reason = match printable(reason.trim_ascii(), MAX_REASON_BYTES) {
            empty if empty.is_empty() => "it gave no reason".to_owned(),
            reason => format!("it says \"{reason}\""),
        };
        match self {
            Self::Connection => DisplayError::ConnectionRefused(reason),
            Self::Authentication => DisplayError::AuthenticationRefused(reason),
        }
    }
}

/// Why a display could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DisplayError {
    /// It does not speak RFB, or an old one.
    #[error("the display does not speak RFB: {0}; check that its address is a VNC server's")]
    Version(VersionError),
    /// It refused before it was told anything.
    #[error("the display refused the connection: {0}; see the log of its VNC server")]
    ConnectionRefused(String),
    /// It did not let us in.
    #[error(
        "the display refused the authentication: {0}; check the password or user name for \
         displays, and whether the VM's own has expired"
    )]
    AuthenticationRefused(String),
    /// Nothing that it offers is allowed.
    #[error(
        "the display offers {0}, and none of that may be taken; allow it for displays, with the \
         password, user name or certificates that it needs, or set the display up otherwise"
    )]
    NoneAcceptable(Offered),
    /// It does not speak VeNCrypt 0.2.
    #[error("the display does not speak VeNCrypt 0.2; a newer VNC server does")]
    VencryptVersion,
    /// It did not take the kind of VeNCrypt that it had offered.
    #[error(
        "the display refused a kind of VeNCrypt that it had offered; check its TLS certificates"
    )]
    KindRefused,
    /// Its name has more than [`MAX_NAME_BYTES`].
    #[error(
        "the display's name is longer than {MAX_NAME_BYTES} bytes; \
         check that its address is a VNC server's"
    )]
    NameTooLong,
    /// It closed the connection.
    #[error("the display closed the connection instead of sending {awaited}; {}", next(*authenticating))]
    Closed {
        /// What it was to send.
        awaited: Awaited,
        /// Whether it is likely that it did so because it does not let us in.
        authenticating: bool,
    },
}

/// What to do about a display that closed.
const fn next(authenticating: bool) -> &'static str {
    if authenticating {
        "check the password, user name or client certificate for displays"
    } else {
        "check that the VM runs, and that its address is a VNC server's"
    }
}

impl DisplayError {
    /// [`Reason::Denied`] if the display does not let us in, or what it offers is not enough for
    /// us; [`Reason::EndpointLost`] else.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::AuthenticationRefused(_)
            | Self::NoneAcceptable(_)
            | Self::VencryptVersion
            | Self::KindRefused
            | Self::Closed {
                authenticating: true,
                ..
            } => Reason::Denied,
            Self::Version(_)
            | Self::ConnectionRefused(_)
            | Self::NameTooLong
            | Self::Closed { .. } => Reason::EndpointLost,
        }
    }
}
