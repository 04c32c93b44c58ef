//! Stand-ins for a hypervisor and its guests: consoles that are unix sockets, with a far
//! side that echoes, floods or stays silent.
//!
//! They stand in where a real guest cannot show what is asked: an emulated 16550 gives
//! 180 kB/s. Whatever a real guest can show is tested with one, and not here.

mod far;
mod host;
mod hypervisor;
mod socket;

pub use far::{FarSide, LINE, Mode, SELL_UNIT, line_at};
pub use host::{Programs, StandinHost, socket, start, start_guests};
pub use hypervisor::{ALIAS, StandinHypervisor, vm_uuid};
pub use socket::SocketEndpoint;
