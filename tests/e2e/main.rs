//! The end-to-end tests: real libvirtd, real guests, the real agent. One module
//! per behaviour. They need root and what `tests/setup.sh test` installs.
#![allow(missing_docs, reason = "a test is documented by its name")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test ends by panicking, and prints the figures that it saw"
)]

mod capture;
mod command_line;
mod cutter;
mod dead_proxy;
mod diagnosis;
mod displays;
mod drain;
mod effects;
mod endpoint_table;
mod endpoints;
mod first_client;
mod flooded;
mod guest_boots;
mod host;
mod hypervisor_faults;
mod keys;
mod libvirt;
mod lives;
mod moved;
mod outlived;
mod pasted;
mod peers;
mod prometheus;
mod python_client;
mod qemu_boots;
mod readme;
mod reconnects;
mod refusals;
mod relays;
mod shell;
mod site;
mod starts;
mod swapped;
mod tails;
mod terminal;
mod virsh;
mod vmconsolectl;
mod writer;
