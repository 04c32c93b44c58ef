//! The packages, as `packaging/build.sh --test` built them: what is in them, and what they do
//! to a machine with systemd.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test ends by panicking, and prints what it measured"
)]

mod built;
mod contents;
mod deb;
mod host;
mod rpm;
