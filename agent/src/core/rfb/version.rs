//! RFB's versions: the twelve bytes with which each side begins (RFC 6143, 7.1.1). It settles
//! what is spoken after an odd number; it does not guess at what is no version.

use super::text::printable;

/// How long a version is on the wire, in bytes.
pub const VERSION_BYTES: usize = 12;

/// A version whose handshake is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// The server decides the security type.
    V3_3,
    /// The client chooses from a list; there is no result after None.
    V3_7,
    /// As 3.7, with a result after every type and a reason after each failure.
    V3_8,
}

/// Why twelve bytes are no version to speak.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not of the form `RFB 003.008\n`.
    #[error("\"{0}\" is no version of RFB")]
    NotRfb(String),
    /// Below 3.3, of which nothing is published. A repeater for VNC says 0.0.
    #[error("its version is {major}.{minor}, and RFB begins with 3.3")]
    TooOld {
        /// 0 to 3.
        major: u16,
        /// 0 to 999.
        minor: u16,
    },
}

impl Version {
    /// As it is sent.
    pub const fn bytes(self) -> &'static [u8; VERSION_BYTES] {
        match self {
            Self::V3_3 => b"RFB 003.003\n",
            Self::V3_7 => b"RFB 003.007\n",
            Self::V3_8 => b"RFB 003.008\n",
        }
    }

    /// What to speak with a peer that sent these [`VERSION_BYTES`].
    ///
    /// Published are 3.3, 3.7 and 3.8. Any other number above 3.3 is taken for 3.3, as RFC 6143
    /// has it, since the newer handshakes cannot be counted on: 003.004 and 003.005 (old
    /// clients), 003.889 (Apple's), 004.001 and 005.000 (RealVNC's). A server that is taken for
    /// 3.3 is answered with 3.3, so both sides agree on it.
    ///
    /// # Errors
    /// [`VersionError`]: nothing can be spoken.
    pub fn of(bytes: &[u8]) -> Result<Self, VersionError> {
        let not_rfb = || VersionError::NotRfb(printable(bytes.trim_ascii_end(), VERSION_BYTES));
        let [b'R', b'F', b'B', b' ', a, b, c, b'.', d, e, f, b'\n'] = *bytes else {
            return Err(not_rfb());
        };
        let major = number([a, b, c]).ok_or_else(not_rfb)?;
        let minor = number([d, e, f]).ok_or_else(not_rfb)?;
        match (major, minor) {
            (3, 8) => Ok(Self::V3_8),
            (3, 7) => Ok(Self::V3_7),
            (0..3, _) | (3, 0..3) => Err(VersionError::TooOld { major, minor }),
            _ => Ok(Self::V3_3),
        }
    }
}

fn number(digits: [u8; 3]) -> Option<u16> {
    digits.iter().try_fold(0, |sum, digit| {
        digit
            .is_ascii_digit()
            .then(|| sum * 10 + u16::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Version, VersionError> {
        Version::of(text.as_bytes())
    }

    #[test]
    fn published_versions_are_themselves() {
        for version in [Version::V3_3, Version::V3_7, Version::V3_8] {
            assert_eq!(Version::of(version.bytes()), Ok(version));
        }
    }

    #[test]
    fn odd_numbers_are_taken_for_3_3() {
        for minor in (4..=999).filter(|minor| !matches!(minor, 7 | 8)) {
            assert_eq!(of(&format!("RFB 003.{minor:03}\n")), Ok(Version::V3_3));
        }
        for odd in ["RFB 004.001\n", "RFB 005.000\n", "RFB 999.999\n"] {
            assert_eq!(of(odd), Ok(Version::V3_3));
        }
    }

    #[test]
    fn what_is_below_3_3_is_refused() {
        for (major, minor) in [(0, 0), (2, 999), (3, 0), (3, 2)] {
            let found = of(&format!("RFB {major:03}.{minor:03}\n"));
            assert_eq!(found, Err(VersionError::TooOld { major, minor }));
        }
    }

    #[test]
    fn what_is_no_version_is_shown_and_refused() {
        let cases = [
            ("SSH-2.0-Open", "SSH-2.0-Open"),
            ("RFB 003.008\r", "RFB 003.008"),
            ("RFB 003,008\n", "RFB 003,008"),
            ("rfb 003.008\n", "rfb 003.008"),
            ("RFB +03.008\n", "RFB +03.008"),
            ("RFB 003.00\u{1b}\n", "RFB 003.00?"),
            ("            ", ""),
            ("RFB 003.008\n\n", "RFB 003.008"),
            ("", ""),
        ];
        for (sent, shown) in cases {
            assert_eq!(of(sent), Err(VersionError::NotRfb(shown.to_owned())));
        }
    }
}
