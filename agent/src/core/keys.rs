//! Keys of a PC keyboard, by QEMU's names for them, and how they are pressed.

use std::time::Duration;

/// The most keys that are pressed together.
pub const MAX_KEYS: usize = 16;
/// How long keys are held if nothing else is said.
pub const DEFAULT_HOLD: Duration = Duration::from_millis(100);
/// The longest that keys are held.
pub const MAX_HOLD: Duration = Duration::from_secs(5);

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// QEMU's name for it (`QKeyCode`), such as `ctrl` or `delete`.
    pub name: &'static str,
    /// Linux's number for it (`linux/input-event-codes.h`).
    pub linux: u16,
}

/// Keys that are pressed together: 1 to [`MAX_KEYS`] of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPress {
    /// The keys, in the order in which they are pressed.
    pub keys: Vec<Key>,
    /// How long they are held, at most [`MAX_HOLD`].
    pub hold: Duration,
}
