//! Names of things, as types that cannot be mixed up.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

/// The longest alias that is taken from a domain's definition, in bytes.
pub const MAX_ALIAS_BYTES: usize = 128;

/// A VM's UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmUuid(Uuid);

impl VmUuid {
    /// Wraps a UUID.
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for VmUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for VmUuid {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidId::Uuid)
    }
}

/// A console's stable name within its VM: `serial0`, `console1`, …
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alias(Arc<str>);

impl Alias {
    /// Checks and wraps an alias: 1 to [`MAX_ALIAS_BYTES`] bytes of ASCII letters, digits
    /// and `_ - . :`.
    ///
    /// # Errors
    /// [`InvalidId::Alias`] for anything else.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=MAX_ALIAS_BYTES).contains(&text.len());
        let plain = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':'));
        if fits && plain {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId::Alias)
        }
    }

    /// The alias as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One console of one VM.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsoleId {
    /// Whose console it is.
    pub vm: VmUuid,
    /// Which of the VM's consoles.
    pub alias: Alias,
}

impl fmt::Display for ConsoleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vm, self.alias)
    }
}

/// A session's id: a name to speak of it by, not a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Uuid);

impl SessionId {
    /// Wraps a UUID.
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// A new id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// One stream of a session. A session that is taken up again goes on in another stream, and
/// what the one before it still does counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamId {
    /// Whose.
    pub session: SessionId,
    /// Counted from 1.
    pub number: u32,
}

impl StreamId {
    /// The first stream of `session`.
    pub const fn first(session: SessionId) -> Self {
        Self { session, number: 1 }
    }
}

/// Who a proxy is: one subject alternative name of its certificate, a URI or a DNS name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIdentity(Arc<str>);

impl PeerIdentity {
    /// Wraps a name that a verified certificate bore.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Not a UUID.
    #[error("not a UUID: write it as 36 characters with hyphens")]
    Uuid,
    /// Not an alias.
    #[error("not a console alias: 1 to {MAX_ALIAS_BYTES} ASCII letters, digits, or any of _ - . :")]
    Alias,
}
