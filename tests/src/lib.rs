//! The harness of the end-to-end tests: a real libvirtd of the test's own, real
//! guests in it, and the unprivileged user that the agent runs as.
//!
//! It refuses to skip: where something is missing a test fails and names the
//! command that installs it. Whatever it starts ends with it, after a panic too.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test harness ends a test by panicking, and explains itself on standard error"
)]

pub mod agent;
pub mod client;
pub mod console;
pub mod dialogue;
pub mod guest;
pub mod image;
pub mod libvirtd;
pub mod machine;
pub mod namespace;
pub mod pki;
pub mod probe;
pub mod process;
pub mod proxy;
pub mod qemu;
pub mod random;
mod ready;
pub mod rfb;
pub mod scrape;
pub mod setup;
pub mod standin;
pub mod usage;
pub mod user;
pub mod virsh;
pub mod wait;
pub mod wire;
