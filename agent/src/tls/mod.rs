//! The encrypted way in: TLS 1.3 with certificates on both sides, and who the client is.
//!
//! A connection that leaves this module has proved an identity and has begun to speak
//! HTTP/2. It is not yet allowed anything: [`AllowList`] answers that when a call comes,
//! so that a refusal can be said in gRPC. The accept loop is not here.

mod acceptor;
mod cork;
mod failure;
mod files;
mod identity;
mod metrics;
mod pending;
mod preface;
#[cfg(test)]
mod testing;

pub use acceptor::{Handshakes, Peer, Secured};
pub use cork::Corked;
pub use failure::{HandshakeError, HandshakeFailure};
pub use files::{TlsError, server_config};
pub use identity::{AllowList, Fingerprint, IdentityError, MAX_IDENTITIES, identities};
pub use metrics::HandshakeMetrics;
pub use preface::{PREFACE, Prefaced};
