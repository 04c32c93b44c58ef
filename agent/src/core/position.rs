//! Places in a console's output.

use std::fmt;
use std::num::NonZeroU64;

/// A random number that stands for one kept stretch of output: the ring that one agent
/// kept of one running QEMU. Never zero, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(NonZeroU64);

impl Generation {
    /// Wraps a number that was chosen at random.
    pub const fn new(number: NonZeroU64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A place in a console's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which stretch of output.
    pub generation: Generation,
    /// Bytes since its start.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.generation, self.offset)
    }
}
