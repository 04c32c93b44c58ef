//! The endpoints that the agent opens itself, on real QEMUs without libvirt: its monitor on a
//! chardev, which answers and serves one client, or a machine that floods its serial port.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test ends by panicking, and prints what it measured"
)]

mod console;
mod flood;
mod held;
mod kinds;
