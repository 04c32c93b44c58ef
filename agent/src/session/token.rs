//! What a session is taken up again with: a secret of this agent's making, told to nobody but
//! its client.

use std::fmt;

/// How many random bytes a token has.
pub const TOKEN_BYTES: usize = 32;

/// A resume token. Unguessable, and never logged.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; TOKEN_BYTES]);

impl Token {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    /// A token as it came over the wire. One of another length is nobody's.
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// A token as it goes over the wire.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
