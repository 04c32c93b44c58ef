//! Consoles: each drained by one pump into one output log, and seen by any number of
//! viewers of whom one may write.
//!
//! ```text
//!                 no QEMU                     attach fails: held, denied, …
//!            ┌────────────── Waiting ◀───┐  ┌──────▶ HeldByOther / Denied / Lost ─┐
//!            ▼    QEMU runs     │        │  │                                     │
//!      (the VM's target) ───────┴─▶ attaching ◀──── again after a pause, or when ─┘
//!            │                       ▲   │          the VM or libvirt changes
//!  unwanted  │                wanted │   ▼
//!            └────▶ Ready ───────────┘ Attached ── ended: closed ─▶ Waiting, else Lost
//!                     ▲                  │
//!                     └──────────────────┘ unwanted: endpoint and ring are let go
//! ```
//! Whether a console is wanted is said by its mode and those who want it: see `capture`. One
//! that nobody wants is not tried again: HeldByOther, Denied and Lost are then as last known.
//!
//! A console's generation begins with each QEMU instance that it sees, not with each
//! attachment: attaching again to the same QEMU tells a gap of unknown length.
//!
//! Nothing here knows of gRPC, and nothing here waits for a viewer.

mod boots;
mod breaks;
mod capture;
mod changes;
mod displace;
mod display;
mod effects;
mod feed;
mod join;
mod lasting;
mod lines;
mod live;
mod metrics;
mod moves;
mod pump;
mod recent;
mod registry;
mod report;
mod rings;
mod shared;
mod state;
mod viewer;
mod writer;

pub use capture::Demand;
pub use changes::{ChangeBook, MAX_TOMBSTONES, Place};
pub use display::Shown;
pub use join::{Alone, JoinError, JoinRequest};
pub use lasting::{RejoinRequest, Rejoined};
pub use live::Console;
pub use metrics::ConsoleMetrics;
pub use recent::{MAX_BEGINNING, MAX_NEWEST, Recent};
pub use registry::{Directory, Registry, RegistryConfig, default_alias};
pub use state::{
    Availability, ConsoleState, Participant, Roster, SideEffect, SideEffectKind, Status, Target,
    WriterChange, stamp_to_time,
};
pub use viewer::{Item, Viewer};
pub use writer::WriterAnswer;

/// The most bytes of output in one message.
pub const MAX_FRAME: usize = 64 * 1024;

/// The most participants that a roster names; it tells how many there are beside them.
pub const MAX_ROSTER: usize = 64;

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
