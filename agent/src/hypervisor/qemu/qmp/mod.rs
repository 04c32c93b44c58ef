//! QMP, QEMU's monitor protocol, as far as the agent needs it.
//!
//! The peer is hostile ground: whoever may put a socket where the agent looks for one may
//! answer anything. [`frames`] cuts its bytes into messages of bounded size and depth,
//! [`message`] tells what a message is, [`command`] what may be asked, and [`client`] asks.
//! Only `client` does I/O.
//!
//! Source: QEMU's `docs/interop/qmp-spec.rst` and QAPI schemas, and QEMU 7.2 as it behaves.

pub(super) mod client;
pub(super) mod command;
pub(super) mod frames;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(super) mod message;
pub(super) mod pace;
pub(super) mod text;
