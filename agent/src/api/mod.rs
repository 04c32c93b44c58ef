//! The wire: `vmconsole.v1` to our types and back, and the server that speaks it.
//!
//! Thin on purpose. What a call means is decided below, in `session` and `console`; here a
//! message is checked for form, turned into their words, and their answer into a message
//! or a status.

mod convert;
mod diagnose;
mod effects;
mod list;
mod listening;
mod open;
mod refusal;
mod relay;
mod server;
mod service;
mod sessions;
mod stream;
mod streams;
mod watch;

pub use relay::GraphicsApi;
pub use server::{ConnectionMetrics, GrpcLimits, GrpcServer};
pub use service::{ConsoleApi, Proxy, Served, StreamLimits};
pub use sessions::SessionApi;
