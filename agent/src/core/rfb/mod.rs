//! RFB, the protocol of VNC (RFC 6143), as far as the agent speaks it or looks into it, as pure
//! machines: bytes in, bytes and decisions out. They open no connection, know no clock, and
//! believe no length.

pub mod caller;
pub mod display;
pub mod encodings;
pub mod filter;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod keys;
pub mod message;
pub mod password;
mod piece;
pub mod rules;
pub mod security;
mod text;
pub mod vencrypt;
pub mod version;
