//! Stand-ins for a hypervisor and its guests: consoles and displays that are unix
//! sockets, with a far side that echoes, floods, stays silent or shows a picture.
//!
//! They stand in where a real guest cannot show what is asked: an emulated 16550 gives
//! 180 kB/s. Whatever a real guest can show is tested with one, and not here.

mod far;
mod host;
mod hypervisor;
mod screen;
mod socket;

pub use far::{FarSide, LINE, Mode, SELL_UNIT, line_at};
pub use host::{Programs, StandinHost, display, socket, start, start_guests};
pub use hypervisor::{ALIAS, StandinHypervisor, vm_uuid};
pub use screen::{SERVER_INIT, UPDATE};
pub use socket::SocketEndpoint;
