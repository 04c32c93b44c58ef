//! Which VMs a rule is about: one by its UUID, or those whose names fit a pattern. Pure; it
//! knows no VM but the one it is asked about.

use std::str::FromStr;

use super::id::VmUuid;

/// The longest pattern, in bytes: no VM's name is longer than 1 KiB.
pub const MAX_PATTERN_BYTES: usize = 1024;

/// Which VMs a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmSelector {
    /// The VM of this UUID.
    Uuid(VmUuid),
    /// Those of this name, in which each `*` stands for any characters, or none.
    Name(String),
}

/// A selector is empty, too long, or has characters that no name has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a VM's UUID or name; write \"6c0f3a2e-9f0b-4d55-8b1c-6f1d2f9f2a11\", \"build-7\" or \"build-*\""
)]
pub struct NotASelector;

impl FromStr for VmSelector {
    type Err = NotASelector;

    fn from_str(text: &str) -> Result<Self, NotASelector> {
        if text.is_empty() || text.len() > MAX_PATTERN_BYTES || text.contains(char::is_control) {
            return Err(NotASelector);
        }
        Ok(match text.parse() {
            Ok(uuid) => Self::Uuid(uuid),
            Err(_) => Self::Name(text.to_owned()),
        })
    }
}

impl VmSelector {
    /// Whether it selects this VM.
    pub fn selects(&self, uuid: VmUuid, name: &str) -> bool {
        match self {
            Self::Uuid(own) => *own == uuid,
            Self::Name(pattern) => fits(pattern, name),
        }
    }
}

/// Whether `name` fits `pattern`, in which each `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(begin) else {
        return false;
    };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let end = pieces.pop().unwrap_or_default();
    // Each piece as early as it comes leaves the most for those after it.
    for piece in pieces {
        match name.split_once(piece) {
            Some((_, after)) => name = after,
            None => return false,
        }
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selector(text: &str) -> VmSelector {
        text.parse().expect("a selector")
    }

    #[test]
    fn a_uuid_selects_by_uuid_and_all_else_by_name() {
        let uuid = "6c0f3a2e-9f0b-4d55-8b1c-6f1d2f9f2a11";
        let other = "00000000-0000-4000-8000-000000000001".parse().expect("one");
        let vm = uuid.parse().expect("a UUID");
        assert!(selector(uuid).selects(vm, "any"));
        assert!(!selector(uuid).selects(other, uuid));
        assert!(selector("web-*").selects(other, "web-1"));
        for wrong in ["", "a\nb", &"x".repeat(MAX_PATTERN_BYTES + 1)] {
            assert_eq!(wrong.parse::<VmSelector>(), Err(NotASelector));
        }
    }

    #[test]
    fn a_star_stands_for_any_characters_or_none() {
        for (pattern, name, fit) in [
            ("web", "web", true),
            ("web", "web1", false),
            ("*", "", true),
            ("web-*", "web-", true),
            ("*-db", "a-db", true),
            ("*-db", "a-db1", false),
            ("a*b*c", "abbc", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("a**a", "aa", true),
            ("*ab", "aab", true),
            ("*a*ab", "aab", true),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }

    /// The meaning, spelt out slowly.
    fn fits_slowly(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|cut| fits_slowly(rest, &name[cut..])),
            Some((first, rest)) => name.first() == Some(first) && fits_slowly(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_fits_as_the_meaning_has_it(pattern in "[ab*]{0,7}", name in "[ab]{0,8}") {
            prop_assert_eq!(fits(&pattern, &name), fits_slowly(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
