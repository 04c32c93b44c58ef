//! What changed since when: every key has the version of its last change, and keys that are
//! gone are remembered for a while.
//!
//! It knows who changed and not how, and it does not know who reads it: that is a
//! [`Follower`], which holds its place and nothing else.

mod follower;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;

pub use follower::{Follower, ResetReason, Step};

/// What the last change of a key was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new, or what is shown of it is.
    Changed,
    /// It is gone.
    Removed,
}

/// The last change of each key. `K` names what changes.
#[derive(Debug)]
pub struct Changes<K> {
    /// The version of the newest change; 0 before the first.
    head: u64,
    /// The version of the last change of each key that is there.
    there: BTreeMap<K, u64>,
    changed: BTreeMap<u64, K>,
    /// The versions at which keys went, oldest first.
    gone: BTreeMap<K, u64>,
    tombstones: BTreeMap<u64, K>,
    /// The most tombstones that are kept.
    limit: usize,
    /// The version of the newest tombstone that was forgotten; 0 if none was.
    forgotten: u64,
    /// The version at which all that there was had been added.
    whole: Option<u64>,
}

impl<K: Clone + Ord> Changes<K> {
    /// Nothing yet. At most `limit` keys that are gone will be remembered.
    pub const fn new(limit: usize) -> Self {
        Self {
            head: 0,
            there: BTreeMap::new(),
            changed: BTreeMap::new(),
            gone: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            limit,
            forgotten: 0,
            whole: None,
        }
    }

    /// The version of the newest change; 0 before the first.
    pub const fn head(&self) -> u64 {
        self.head
    }

    /// How many keys that are gone are remembered.
    pub fn tombstones(&self) -> usize {
        self.tombstones.len()
    }

    /// `key` is there now. If it was already, it changed.
    pub fn add(&mut self, key: K) {
        if let Some(version) = self.gone.remove(&key) {
            self.tombstones.remove(&version);
        }
        self.head += 1;
        if let Some(before) = self.there.insert(key.clone(), self.head) {
            self.changed.remove(&before);
        }
        self.changed.insert(self.head, key);
    }

    /// What is shown of `key` changed. Returns whether it is there: of a key that is gone, or
    /// was never there, nothing is noted.
    pub fn change(&mut self, key: &K) -> bool {
        let there = self.there.contains_key(key);
        if there {
            self.add(key.clone());
        }
        there
    }

    /// `key` is gone, if it was there. The oldest tombstone makes room for its own.
    pub fn remove(&mut self, key: &K) {
        let Some((key, before)) = self.there.remove_entry(key) else {
            return;
        };
        self.changed.remove(&before);
        self.head += 1;
        self.gone.insert(key.clone(), self.head);
        self.tombstones.insert(self.head, key);
        if self.tombstones.len() > self.limit
            && let Some((version, key)) = self.tombstones.pop_first()
        {
            self.gone.remove(&key);
            self.forgotten = version;
        }
    }

    /// All that there is has been added, for the first time. Said again, it changes nothing.
    pub fn complete(&mut self) {
        self.whole.get_or_insert(self.head);
    }

    /// The change that comes next after `version`.
    fn next_after(&self, version: u64) -> Option<(u64, &K, Change)> {
        let after = (Bound::Excluded(version), Bound::Unbounded);
        let changed = self.changed.range(after).next();
        let removed = self.tombstones.range(after).next();
        match (changed, removed) {
            (Some((changed, key)), removed)
                if removed.is_none_or(|(removed, _)| changed < removed) =>
            {
                Some((*changed, key, Change::Changed))
            }
            (_, removed) => removed.map(|(version, key)| (*version, key, Change::Removed)),
        }
    }

    /// The key that comes next after `key`, or the first.
    fn key_after(&self, key: Option<&K>) -> Option<&K> {
        let after = key.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.there.range((after, Bound::Unbounded));
        rest.next().map(|(key, _)| key)
    }
}
