//! Keys pressed together that do not reach the guest: how they are written, and whether they are
//! all down.

use std::fmt;
use std::str::FromStr;

use crate::core::keys::Key;
use crate::core::rfb::keys::KeySet;

/// The most keys of one combination.
pub const MAX_COMBINED_KEYS: usize = 8;

/// How much of a name that is none is told, in characters.
const MAX_NAME_TOLD: usize = 32;

/// Modifiers that a keyboard has twice: the names that mean either, the keys' own names, and
/// their numbers.
const MODIFIERS: [Modifier; 4] = [
    Modifier {
        names: &["ctrl", "control"],
        left: "lctrl",
        keys: [29, 97],
    },
    Modifier {
        names: &["alt"],
        left: "lalt",
        keys: [56, 100],
    },
    Modifier {
        names: &["shift"],
        left: "lshift",
        keys: [42, 54],
    },
    Modifier {
        names: &["meta", "super", "win"],
        left: "meta_l",
        keys: [125, 126],
    },
];

/// Keys that a guest takes for each other while Num Lock is off, and the two Enters.
const TWINS: [(u16, u16); 11] = [
    (111, 83), // delete, kp_decimal
    (110, 82), // insert, kp_0
    (107, 79), // end
    (108, 80), // down
    (109, 81), // pgdn
    (105, 75), // left
    (106, 77), // right
    (102, 71), // home
    (103, 72), // up
    (104, 73), // pgup
    (28, 96),  // ret, kp_enter
];

#[derive(Debug)]
struct Modifier {
    names: &'static [&'static str],
    left: &'static str,
    keys: [u16; 2],
}

/// Why keys cannot be refused as they are written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// More combinations than [`MAX_COMBINATIONS`](super::MAX_COMBINATIONS).
    #[error("{0} combinations of keys are refused: refuse at most {max}", max = super::MAX_COMBINATIONS)]
    TooMany(usize),
    /// More keys than [`MAX_COMBINED_KEYS`].
    #[error("{0} keys in one combination: name at most {MAX_COMBINED_KEYS}")]
    TooManyKeys(usize),
    /// No key is called that.
    #[error(
        "no key is named {0:?}: give QEMU's names with hyphens between them, such as ctrl-alt-delete"
    )]
    UnknownKey(String),
}

/// Keys that must not be down all at once. Two are equal whatever the order they are written in.
///
/// A modifier that a keyboard has twice is either of both (`ctrl`), unless it is written as
/// `lctrl` or `ctrl_r`. Of several keys together, one that the keypad has too stands for both:
/// `ctrl-alt-delete` is also the keypad's `Del`, which guests take for the same. A key alone is
/// that key and no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Combination {
    /// Sorted, without repetition, 1 to [`MAX_COMBINED_KEYS`].
    words: Vec<Word>,
}

/// One key, or one of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Word {
    /// Modifiers come first, as people write them.
    rank: usize,
    name: &'static str,
    keys: [u16; 2],
}

impl Combination {
    /// Whether all of its keys are among `down`.
    pub fn is_down(&self, down: &KeySet) -> bool {
        let several = self.words.len() > 1;
        self.words.iter().all(|word| {
            word.keys
                .iter()
                .any(|&key| down.has(key) || (several && twin(key).any(|twin| down.has(twin))))
        })
    }
}

fn twin(key: u16) -> impl Iterator<Item = u16> {
    TWINS.iter().filter_map(move |&(one, other)| match key {
        _ if key == one => Some(other),
        _ if key == other => Some(one),
        _ => None,
    })
}

impl FromStr for Combination {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let count = text.split('-').count();
        if count > MAX_COMBINED_KEYS {
            return Err(RuleError::TooManyKeys(count));
        }
        let mut words = text
            .split('-')
            .map(word)
            .collect::<Result<Vec<_>, RuleError>>()?;
        words.sort_unstable();
        words.dedup();
        Ok(Self { words })
    }
}

fn word(name: &str) -> Result<Word, RuleError> {
    for (rank, modifier) in MODIFIERS.iter().enumerate() {
        if modifier.names.contains(&name) {
            return Ok(Word {
                rank,
                name: modifier.names[0],
                keys: modifier.keys,
            });
        }
    }
    let Some(key) = Key::named(name) else {
        let told = name.chars().take(MAX_NAME_TOLD).collect();
        return Err(RuleError::UnknownKey(told));
    };
    // What is written for a left modifier alone must not read as either of both.
    let left = MODIFIERS
        .iter()
        .find(|modifier| modifier.keys[0] == key.linux);
    Ok(Word {
        rank: MODIFIERS.len(),
        name: left.map_or(key.name, |modifier| modifier.left),
        keys: [key.linux; 2],
    })
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, word) in self.words.iter().enumerate() {
            if at > 0 {
                f.write_str("-")?;
            }
            f.write_str(word.name)?;
        }
        Ok(())
    }
}
