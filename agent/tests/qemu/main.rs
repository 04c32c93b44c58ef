//! QEMU without libvirt, on real QEMUs.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod effects;
mod host;
mod identity;
mod lives;
mod ports;
