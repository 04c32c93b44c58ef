//! VeNCrypt 0.2 (security type 19): its kinds, and the credentials of Plain. Only kinds within
//! TLS with an X.509 certificate are known; those with anonymous TLS, which anybody in between
//! can read, and Plain without TLS are not.
//!
//! ```text
//!  server: version ─▶ client: 0.2 ─▶ server: 0, kinds ─▶ client: one of them ─▶ server: 1
//!                                                              ─▶ TLS ─▶ the kind's own
//! ```

use std::fmt;

/// The version that is spoken, major and minor.
pub const VERSION: [u8; 2] = [0, 2];
/// The longest user name, and the longest password, of Plain, in bytes.
pub const MAX_PLAIN_BYTES: usize = 1024;

/// A user name and a password, sent as they are within TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct PlainCredentials {
    username: String,
    password: String,
}

/// A user name or password of Plain that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a user name and a password of VeNCrypt's Plain have 1 to {MAX_PLAIN_BYTES} bytes each")]
pub struct BadPlainCredentials;

impl PlainCredentials {
    /// Of 1 to [`MAX_PLAIN_BYTES`] bytes each.
    ///
    /// # Errors
    /// [`BadPlainCredentials`] if one of them has another length.
    pub fn new(username: &str, password: &str) -> Result<Self, BadPlainCredentials> {
        let fits = |text: &str| (1..=MAX_PLAIN_BYTES).contains(&text.len());
        if !fits(username) || !fits(password) {
            return Err(BadPlainCredentials);
        }
        Ok(Self {
            username: username.to_owned(),
            password: password.to_owned(),
        })
    }

    /// Appends what is sent: both lengths, then both texts.
    pub(super) fn put(&self, wire: &mut Vec<u8>) {
        for text in [&self.username, &self.password] {
            let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
            wire.extend_from_slice(&len.to_be_bytes());
        }
        wire.extend_from_slice(self.username.as_bytes());
        wire.extend_from_slice(self.password.as_bytes());
    }
}

impl fmt::Debug for PlainCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lengths_go_before_both_texts() {
        let mut wire = Vec::new();
        PlainCredentials::new("op", "secret")
            .unwrap()
            .put(&mut wire);
        assert_eq!(wire, b"\0\0\0\x02\0\0\0\x06opsecret");
    }

    #[test]
    fn credentials_are_bounded_and_never_shown() {
        let long = "x".repeat(MAX_PLAIN_BYTES + 1);
        for (username, password) in [("", "b"), ("a", ""), (&long, "b"), ("a", &long)] {
            assert_eq!(
                PlainCredentials::new(username, password),
                Err(BadPlainCredentials)
            );
        }
        let longest = &long[1..];
        let credentials = PlainCredentials::new(longest, longest).unwrap();
        assert_eq!(format!("{credentials:?}"), "[redacted]");
    }
}
