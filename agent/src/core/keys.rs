//! Keys of a PC keyboard, by QEMU's names for them, and how they are pressed.
//!
//! Refuses to know of layouts: a key is a place on the keyboard, and what it types is the
//! guest's affair.

mod table;

use std::time::Duration;

use self::table::{ALIASES, KEYS};

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

impl Key {
    /// Every key there is. Each name is there once; two keys may share Linux's number.
    pub const ALL: &'static [Self] = KEYS;

    /// The key of this name: QEMU's, or another that people use for it (`del`, `enter`,
    /// `win`). In lower case only.
    pub fn named(name: &str) -> Option<Self> {
        let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
        let name = alias.map_or(name, |(_, name)| name);
        KEYS.iter().find(|key| key.name == name).copied()
    }
}

/// Keys that are pressed together: 1 to [`MAX_KEYS`] of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPress {
    /// The keys, in the order in which they are pressed.
    pub keys: Vec<Key>,
    /// How long they are held, at most [`MAX_HOLD`].
    pub hold: Duration,
}

/// Why keys cannot be pressed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// None, or too many.
    #[error("{0} keys were named: name 1 to {MAX_KEYS}")]
    Count(usize),
    /// Held for too long.
    #[error("keys are held for {} s at most", MAX_HOLD.as_secs())]
    Hold,
}

impl KeyPress {
    /// These keys, pressed together in this order and held for so long.
    ///
    /// # Errors
    /// [`KeyError`] if they are none, more than [`MAX_KEYS`], or held for more than
    /// [`MAX_HOLD`].
    pub fn new(keys: Vec<Key>, hold: Duration) -> Result<Self, KeyError> {
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(KeyError::Count(keys.len()));
        }
        if hold > MAX_HOLD {
            return Err(KeyError::Hold);
        }
        Ok(Self { keys, hold })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// `KEY_CNT` of Linux.
    const NUMBERS: u16 = 0x300;

    #[test]
    fn each_name_is_there_once_and_in_lower_case() {
        let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), KEYS.len());
        for name in names {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(plain), "{name}");
            assert_eq!(Key::named(name).unwrap().name, name);
            assert_eq!(Key::named(&name.to_uppercase()), {
                // Digits have no case.
                let same = name.to_uppercase() == name;
                same.then(|| Key::named(name).unwrap())
            });
        }
    }

    #[test]
    fn each_number_is_in_range_and_belongs_to_one_key_of_linux() {
        let mut names: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
        for key in KEYS {
            assert!((1..NUMBERS).contains(&key.linux), "{key:?}");
            names.entry(key.linux).or_default().push(key.name);
        }
        let shared: Vec<_> = names
            .into_values()
            .filter(|names| names.len() > 1)
            .collect();
        assert_eq!(
            shared,
            [vec!["asterisk", "kp_multiply"], vec!["sysrq", "print"]]
        );
    }

    #[test]
    fn numbers_are_those_of_linux() {
        for (name, linux) in [
            ("esc", 1),
            ("1", 2),
            ("0", 11),
            ("q", 16),
            ("ret", 28),
            ("ctrl", 29),
            ("m", 50),
            ("alt", 56),
            ("f1", 59),
            ("f10", 68),
            ("kp_7", 71),
            ("less", 86),
            ("f11", 87),
            ("f12", 88),
            ("sysrq", 99),
            ("delete", 111),
            ("kp_comma", 121),
            ("meta_l", 125),
            ("f13", 183),
            ("f24", 194),
            ("mediaselect", 226),
        ] {
            assert_eq!(Key::named(name), Some(Key { name, linux }));
        }
    }

    #[test]
    fn aliases_lead_to_keys_and_hide_none() {
        for (alias, name) in ALIASES {
            assert_eq!(Key::named(alias).unwrap().name, *name);
            assert!(KEYS.iter().all(|key| key.name != *alias), "{alias}");
        }
        let count = ALIASES
            .iter()
            .map(|(alias, _)| alias)
            .collect::<BTreeSet<_>>();
        assert_eq!(count.len(), ALIASES.len());
        assert_eq!(Key::named("unmapped"), None);
        assert_eq!(Key::named(""), None);
    }

    proptest! {
        #[test]
        fn keys_are_taken_within_the_limits_and_no_others(count in 0usize..40, millis in 0u64..10_000) {
            let keys = vec![KEYS[0]; count];
            let hold = Duration::from_millis(millis);
            let expected = (1..=MAX_KEYS).contains(&count) && hold <= MAX_HOLD;
            prop_assert_eq!(KeyPress::new(keys, hold).is_ok(), expected);
        }
    }
}
