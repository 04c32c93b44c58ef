//! What is kept from guest and caller in one session, and how refused keys are written. Refuses
//! to know who made a rule: of two sets the stricter is their union.

mod combination;

pub use self::combination::{Combination, MAX_COMBINED_KEYS, RuleError};

/// The most combinations of keys that one side may refuse: the configuration, or a caller.
pub const MAX_COMBINATIONS: usize = 32;

/// The rules of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Nothing but what the picture needs reaches the guest, whoever holds the lease.
    pub view_only: bool,
    /// The caller's clipboard does not reach the guest.
    pub refuse_clipboard_to_guest: bool,
    /// The guest's clipboard does not reach the caller.
    pub refuse_clipboard_from_guest: bool,
    /// Keys that do not reach the guest all together. At most twice [`MAX_COMBINATIONS`].
    pub refused_keys: Vec<Combination>,
}

impl Rules {
    /// Whatever either refuses.
    #[must_use]
    pub fn stricter(&self, other: &Self) -> Self {
        let mut refused_keys = self.refused_keys.clone();
        for combination in &other.refused_keys {
            if !refused_keys.contains(combination) {
                refused_keys.push(combination.clone());
            }
        }
        Self {
            view_only: self.view_only || other.view_only,
            refuse_clipboard_to_guest: self.refuse_clipboard_to_guest
                || other.refuse_clipboard_to_guest,
            refuse_clipboard_from_guest: self.refuse_clipboard_from_guest
                || other.refuse_clipboard_from_guest,
            refused_keys,
        }
    }

    /// Whether every message must be looked into, even of who holds the lease.
    pub fn need_looking(&self) -> bool {
        self.view_only
            || self.refuse_clipboard_to_guest
            || self.refuse_clipboard_from_guest
            || !self.refused_keys.is_empty()
    }
}

/// Reads combinations, such as `ctrl-alt-delete` and `sysrq`.
///
/// # Errors
/// [`RuleError`] for more than [`MAX_COMBINATIONS`], or for one that is none.
pub fn parse_refused_keys<S: AsRef<str>>(texts: &[S]) -> Result<Vec<Combination>, RuleError> {
    if texts.len() > MAX_COMBINATIONS {
        return Err(RuleError::TooMany(texts.len()));
    }
    let mut combinations: Vec<Combination> = Vec::with_capacity(texts.len());
    for text in texts {
        let combination = text.as_ref().parse()?;
        if !combinations.contains(&combination) {
            combinations.push(combination);
        }
    }
    Ok(combinations)
}

#[cfg(test)]
mod tests;
