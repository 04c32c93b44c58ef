//! The way to a VM's screen: displays are opened, one at a time of each VM, and greeted, up to
//! where their own bytes begin. It passes no byte on.

mod displays;
mod error;
mod halves;
mod handshake;
mod load;
mod metrics;
mod terms;
mod tls;

pub use displays::{DisplayError, Displays, MAX_OPENING};
pub use error::HandshakeError;
pub(crate) use error::says_so_itself;
pub use halves::{IntoHalves, ReadHalf, WriteHalf};
pub use handshake::{OpenDisplay, greet};
pub use load::{DisplayTerms, DisplayTermsError};
pub use metrics::RelayMetrics;
pub use terms::{Terms, TermsError};
pub use tls::{DisplayTls, DisplayTlsError, DisplayTlsOptions};
