//! What is told of one local connection, on stderr.
//!
//! Refuses to wait for a stderr that takes nothing: bytes go on.

use crate::output::tell_unless_stuck;

/// The connection, by number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Say(pub(super) u64);

impl Say {
    /// Tells something; control characters were made visible already.
    pub(super) fn tell(&self, text: &str) {
        tell_unless_stuck(&format!("connection {}: {text}", self.0));
    }
}
