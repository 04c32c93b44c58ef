//! QEMU without libvirt, on real QEMUs.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod attach;
mod displays;
mod effects;
mod greeted;
mod host;
mod identity;
mod lives;
mod ports;
