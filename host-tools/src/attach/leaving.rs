//! How far a session has got with leaving: the same for one that is attached and one that is
//! relayed.
//!
//! Refuses to be called off.

/// How far leaving has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// Nobody wants to.
    No,
    /// Detach goes to the agent behind what goes first.
    Wanted,
    /// Detach has gone: nothing more is said.
    Sent,
}

impl Leaving {
    /// Leave, unless that has begun.
    pub(crate) fn want(&mut self) {
        if *self == Self::No {
            *self = Self::Wanted;
        }
    }
}
