//! How a display may be opened: the security types that are known, by strength, and which of
//! them are allowed. What is not allowed is never taken, whatever the display offers: there is
//! no way down.

use std::collections::BTreeSet;
use std::fmt;

use super::password::VncPassword;
use super::vencrypt::PlainCredentials;

/// The numbers of security types (RFC 6143, 7.2, and IANA's list).
pub(super) const TYPE_FAILED: u32 = 0;
pub(super) const TYPE_NONE: u32 = 1;
pub(super) const TYPE_VNC: u32 = 2;
pub(super) const TYPE_VENCRYPT: u32 = 19;

/// How many offered types a message names.
const MAX_NAMED: usize = 16;

/// A way to be let in, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Security {
    /// Anybody is let in.
    None,
    /// A password of eight bytes; what follows is readable to whoever is on the way.
    Vnc,
    /// VeNCrypt: TLS with the display's certificate, and maybe one of ours.
    X509None,
    /// The same, with the password inside.
    X509Vnc,
    /// The same, with a user name and a password inside.
    X509Plain,
}

impl Security {
    /// All of them, the strongest first: the order in which they are chosen.
    pub const STRONGEST_FIRST: [Self; 5] = [
        Self::X509Plain,
        Self::X509Vnc,
        Self::X509None,
        Self::Vnc,
        Self::None,
    ];

    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Vnc => "VNC password",
            Self::X509None => "VeNCrypt X509None",
            Self::X509Vnc => "VeNCrypt X509Vnc",
            Self::X509Plain => "VeNCrypt X509Plain",
        }
    }

    /// Whether it is within TLS.
    pub const fn is_vencrypt(self) -> bool {
        matches!(self, Self::X509None | Self::X509Vnc | Self::X509Plain)
    }

    /// Its number among VeNCrypt's kinds, if it is one.
    pub(super) const fn subtype(self) -> Option<u32> {
        match self {
            Self::None | Self::Vnc => None,
            Self::X509None => Some(260),
            Self::X509Vnc => Some(261),
            Self::X509Plain => Some(262),
        }
    }

    /// The security type that leads to it.
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::None => TYPE_NONE,
            Self::Vnc => TYPE_VNC,
            Self::X509None | Self::X509Vnc | Self::X509Plain => TYPE_VENCRYPT,
        }
    }
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What may be taken of what a display offers, and with which secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acceptable {
    /// Nothing else is taken. Empty: no display can be opened.
    pub allowed: BTreeSet<Security>,
    /// For [`Security::Vnc`] and [`Security::X509Vnc`], which are not taken without it.
    pub password: Option<VncPassword>,
    /// For [`Security::X509Plain`], which is not taken without them.
    pub plain: Option<PlainCredentials>,
}

impl Acceptable {
    /// None alone: of a display that was told to let us in.
    pub fn none() -> Self {
        Self {
            allowed: BTreeSet::from([Security::None]),
            ..Self::default()
        }
    }

    /// Whether it may be taken: it is allowed, and its secret is there.
    pub fn takes(&self, security: Security) -> bool {
        let has_secret = match security {
            Security::None | Security::X509None => true,
            Security::Vnc | Security::X509Vnc => self.password.is_some(),
            Security::X509Plain => self.plain.is_some(),
        };
        has_secret && self.allowed.contains(&security)
    }

    /// The strongest that may be taken of those for which `offers` is true.
    pub(super) fn strongest(&self, offers: impl Fn(Security) -> bool) -> Option<Security> {
        Security::STRONGEST_FIRST
            .into_iter()
            .find(|security| self.takes(*security) && offers(*security))
    }
}

/// The security types, or kinds of VeNCrypt, that a display offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered(Vec<u32>);

impl Offered {
    /// Of at most 255 numbers: there is one byte for how many.
    pub(super) const fn new(numbers: Vec<u32>) -> Self {
        Self(numbers)
    }

    /// The numbers, as they were offered.
    pub fn numbers(&self) -> &[u32] {
        &self.0
    }
}

impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, number) in self.0.iter().take(MAX_NAMED).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            match name(*number) {
                Some(name) => write!(f, "{comma}{name}")?,
                None => write!(f, "{comma}type {number}")?,
            }
        }
        match self.0.len().saturating_sub(MAX_NAMED) {
            0 if self.0.is_empty() => f.write_str("nothing"),
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// The names of those that displays are known to offer: for messages alone.
const fn name(number: u32) -> Option<&'static str> {
    Some(match number {
        1 => "None",
        2 => "VNC password",
        5 | 6 | 129 | 130 => "RSA-AES",
        16 => "Tight",
        18 => "TLS",
        19 => "VeNCrypt",
        20 => "SASL",
        30 => "Apple's",
        256 => "VeNCrypt Plain",
        257 => "VeNCrypt TLSNone",
        258 => "VeNCrypt TLSVnc",
        259 => "VeNCrypt TLSPlain",
        260 => Security::X509None.name(),
        261 => Security::X509Vnc.name(),
        262 => Security::X509Plain.name(),
        263 => "VeNCrypt TLSSASL",
        264 => "VeNCrypt X509SASL",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_choice_is_by_strength() {
        let mut sorted = Security::STRONGEST_FIRST;
        sorted.sort();
        sorted.reverse();
        assert_eq!(sorted, Security::STRONGEST_FIRST);
    }

    #[test]
    fn nothing_is_taken_that_is_not_allowed_or_has_no_secret() {
        let all = BTreeSet::from(Security::STRONGEST_FIRST);
        let bare = Acceptable {
            allowed: all.clone(),
            ..Acceptable::default()
        };
        let takes = |terms: &Acceptable| {
            Security::STRONGEST_FIRST
                .into_iter()
                .filter(|it| terms.takes(*it))
                .collect::<Vec<_>>()
        };
        assert_eq!(takes(&bare), [Security::X509None, Security::None]);
        let full = Acceptable {
            allowed: all,
            password: Some(VncPassword::new("p")),
            plain: PlainCredentials::new("u", "p").ok(),
        };
        assert_eq!(takes(&full), Security::STRONGEST_FIRST);
        assert_eq!(full.strongest(|_| true), Some(Security::X509Plain));
        let secret_alone = Acceptable {
            allowed: BTreeSet::new(),
            ..full
        };
        assert_eq!(secret_alone.strongest(|_| true), None);
        assert_eq!(takes(&Acceptable::none()), [Security::None]);
    }

    #[test]
    fn what_was_offered_is_named_and_bounded() {
        let shown = |numbers: &[u32]| Offered::new(numbers.to_vec()).to_string();
        assert_eq!(shown(&[]), "nothing");
        assert_eq!(shown(&[1, 99, 264]), "None, type 99, VeNCrypt X509SASL");
        let many = shown(&[u32::MAX; 255]);
        assert!(many.ends_with("type 4294967295 and 239 more"), "{many}");
        assert!(many.len() < 300);
    }
}
