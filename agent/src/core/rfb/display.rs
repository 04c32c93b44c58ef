//! The client's part of RFB's handshake, towards the VNC server of a hypervisor: up to and with
//! ServerInit. It takes the strongest of what is allowed and offered, and nothing else; it
//! believes no length, and takes not one byte of what follows.
//!
//! ```text
//!                3.7, 3.8                 None (3.8) ────────────────────────┐
//!  Version ──────▶ Types ──┬─ None (3.7) ────────────────────────┐           │
//!     │ 3.3                ├─ VNC ──────────▶ Challenge ─────────┼────▶ Result ─▶ ServerInit
//!     └──────▶ Decided ────┤ (None, VNC)          ▲              │           ▲       ▲   │
//!                          │                      │ X509Vnc      └───────────┼───────┘   ▼
//!                          └─ VeNCrypt ─▶ kinds ─▶ Tls ──────────────────────┘         Name
//!                                                     X509None, X509Plain                ▼
//!  each ─▶ Failed(DisplayError); a refusal brings its reason first                     Done
//! ```

mod answer;
mod error;

use bytes::Bytes;

use super::password::CHALLENGE_BYTES;
use super::piece::Piece;
use super::security::{Acceptable, Security};
use super::version::{VERSION_BYTES, Version};
pub use error::{Awaited, DisplayError, Refused};

/// The longest reason of a refusal that is kept, in bytes. What is beyond is not read.
pub const MAX_REASON_BYTES: usize = 1024;
/// The longest name of a display, in bytes.
pub const MAX_NAME_BYTES: usize = 64 * 1024;
/// How long ServerInit is without the name, in bytes.
const SERVER_INIT_BYTES: usize = 24;
/// How much of a display's bytes the handshake takes at most. Beside ServerInit there are two
/// lists of 255 at most, the longest reason, and some fixed numbers.
pub const MAX_BYTES: usize =
    SERVER_INIT_BYTES + MAX_NAME_BYTES + MAX_REASON_BYTES + 5 * u8::MAX as usize + 64;
/// How much the handshake answers at most, in bytes: the credentials of Plain, and some fixed
/// numbers.
pub const MAX_REPLY_BYTES: usize = 2 * super::vencrypt::MAX_PLAIN_BYTES + 64;

/// A display's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInit {
    /// The display's width in pixels.
    pub width: u16,
    /// The display's height in pixels.
    pub height: u16,
    /// How it wants to show pixels, as RFC 6143, 7.4 has it. Not looked into.
    pub pixel_format: [u8; 16],
    /// The whole message as it came, to be passed on: at most 24 bytes and the name of
    /// [`MAX_NAME_BYTES`].
    pub raw: Bytes,
}

/// What comes of the bytes that were taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// [`Display::wants`] tells how much more must come.
    More,
    /// `reply` is to be sent, TLS begun, and [`Display::secured`] told. Nothing that came
    /// before is to be taken for what comes in TLS.
    StartTls,
    /// The handshake is over; what follows is the display's.
    Done(ServerInit),
}

/// One handshake with a display.
#[derive(Debug)]
pub struct Display<'a> {
    acceptable: &'a Acceptable,
    shared: bool,
    version: Version,
    /// What was settled on.
    security: Option<Security>,
    /// Whether TLS was begun.
    tls: bool,
    awaited: Awaited,
    piece: Piece,
    /// ServerInit without the name, once it came.
    head: Vec<u8>,
    end: Option<Result<ServerInit, DisplayError>>,
}

impl<'a> Display<'a> {
    /// A display that has said nothing yet. `shared` is what ClientInit tells it: whether it
    /// leaves other viewers connected.
    pub const fn new(acceptable: &'a Acceptable, shared: bool) -> Self {
        Self {
            acceptable,
            shared,
            version: Version::V3_3,
            security: None,
            tls: false,
            awaited: Awaited::Version,
            piece: Piece::of(VERSION_BYTES),
            head: Vec::new(),
            end: None,
        }
    }

    /// How many bytes are to be read next: never more than belong to the handshake, so that
    /// whoever reads no more than that has nothing left over. 0 when the handshake is over, and
    /// when TLS is to be begun.
    pub const fn wants(&self) -> usize {
        match self.end {
            Some(_) => 0,
            None => self.piece.missing(),
        }
    }

    /// What the display is to say next: for whoever waited in vain.
    pub const fn awaited(&self) -> Awaited {
        self.awaited
    }

    /// With what the display is opened, once that is settled.
    pub const fn security(&self) -> Option<Security> {
        self.security
    }

    /// Takes what the display sent, cut anywhere, from the front of `bytes`; what does not
    /// belong to the handshake stays there. Appends to `reply` what is to be sent to it: in all
    /// at most [`MAX_REPLY_BYTES`].
    ///
    /// # Errors
    /// [`DisplayError`], and the same at each call after it.
    pub fn take(&mut self, bytes: &mut &[u8], reply: &mut Vec<u8>) -> Result<Step, DisplayError> {
        loop {
            if let Some(end) = &self.end {
                return end.clone().map(Step::Done);
            }
            if self.awaited == Awaited::Tls {
                return Ok(Step::StartTls);
            }
            let Some(piece) = self.piece.fill(bytes) else {
                return Ok(Step::More);
            };
            if let Err(error) = self.answer(&piece, reply) {
                self.end = Some(Err(error));
            }
        }
    }

    /// TLS is there, and the display's certificate was verified. Appends to `reply` what is to
    /// be sent in it first. Does nothing unless [`Step::StartTls`] was the last step.
    pub fn secured(&mut self, reply: &mut Vec<u8>) {
        if self.awaited != Awaited::Tls || self.end.is_some() {
            return;
        }
        self.tls = true;
        if self.security == Some(Security::X509Vnc) {
            self.wait_for(Awaited::Challenge, CHALLENGE_BYTES);
            return;
        }
        if let (Some(Security::X509Plain), Some(plain)) = (self.security, &self.acceptable.plain) {
            plain.put(reply);
        }
        self.wait_for(Awaited::Result, 4);
    }

    /// What it means that the display closed the connection here.
    pub fn closed(&self) -> DisplayError {
        match (&self.end, self.awaited) {
            (Some(Err(error)), _) => error.clone(),
            // It refused, and closed before it had told why in full.
            (_, Awaited::ReasonLength(refused)) => refused.error(&[]),
            (_, Awaited::Reason(refused)) => refused.error(self.piece.have()),
            (_, awaited) => DisplayError::Closed {
                awaited,
                // Whoever is not let in by its certificate or password is told so by RFB, or
                // by nothing: QEMU closes on a client certificate that it does not take.
                authenticating: matches!(awaited, Awaited::Result)
                    || (self.tls && matches!(awaited, Awaited::Challenge)),
            },
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
