//! Which key events do not reach the guest because of the combinations that are refused, and
//! which keys a session holds down in the guest.
//!
//! The press that would complete a refused combination is kept back, and so is its release. The
//! others of its keys pass, whatever the order, and the key itself does in other company. That is
//! judged by what this session's client pressed, so **what cannot be known** is:
//!
//! - **Which layout the display was given.** QEMU takes the number of an extended key event and
//!   throws its keysym away, unless it was started with a layout (`-k`, libvirt's `keymap`): then
//!   it goes by the keysym alone. Both are counted with here: an event is kept back if either
//!   reading completes a combination. A keysym is read as on a US keyboard, which is what QEMU
//!   does without a layout. With another layout letters and signs may be other keys than they are
//!   taken for here; modifiers, function keys, `delete`, `sysrq` and all others that type nothing
//!   are the same in every layout that comes with QEMU.
//! - **What the guest makes of a key**: whether its own layout puts another letter there, or it
//!   knows of sticky keys, or of another combination that does the same.
//! - **Keys that are not pressed through this session**: by another way to the display, by
//!   `SendKeys`, or by QEMU, which presses Num Lock and Caps Lock when a keypad's or letter's
//!   keysym does not fit the lock that it believes the guest to be in (not if the client
//!   announced the LED state). All VNC connections of a display share one keyboard, and QEMU lets
//!   go of all its keys when one of them ends.
//!
//! QEMU reads 16 bits of a keysym and 16 of a number, however much a client fills in; so does
//! this. Seen on QEMU 7.2, whose answers for every keysym and number are the tables in here.

mod keysym;
mod scancode;

use super::message::{u16_at, u32_at};
use super::rules::Combination;

/// The most that a session can hold down, counted by number and keysym: a client that lets go of
/// a key with another keysym than it pressed it with leaves some behind, so it is more than a
/// keyboard has keys. Presses beyond it are kept back.
pub const MAX_HELD: usize = 1024;

/// Keys by Linux's numbers for them, all below 256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeySet([u64; 4]);

impl KeySet {
    /// Of these keys.
    pub fn of(keys: impl IntoIterator<Item = u16>) -> Self {
        let mut set = Self::default();
        for key in keys {
            set.set(key, true);
        }
        set
    }

    /// Whether `key` is in it.
    pub fn has(&self, key: u16) -> bool {
        let word = self.0.get(usize::from(key / 64));
        word.is_some_and(|word| word & (1 << (key % 64)) != 0)
    }

    pub(super) fn set(&mut self, key: u16, there: bool) {
        if let Some(word) = self.0.get_mut(usize::from(key / 64)) {
            *word &= !(1 << (key % 64));
            *word |= u64::from(there) << (key % 64);
        }
    }
}

/// A key event of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    /// Pressed, else let go.
    pub down: bool,
    /// What the client says the key types, as X names it.
    pub keysym: u32,
    /// Which key it is, in an extended event: its XT scancode, 0x80 added for those with a
    /// prefix.
    pub number: Option<u32>,
}

impl KeyEvent {
    /// Reads a whole `KeyEvent` or extended one, as [`look`](super::message::look) found it.
    pub(super) fn read(message: &[u8]) -> Self {
        match message.len() {
            12 => Self {
                down: u16_at(message, 2) != 0,
                keysym: u32_at(message, 4),
                number: Some(u32_at(message, 8)),
            },
            _ => Self {
                down: message[1] != 0,
                keysym: u32_at(message, 4),
                number: None,
            },
        }
    }

    /// The message that lets go of this key.
    fn release(self, out: &mut Vec<u8>) {
        match self.number {
            None => out.extend_from_slice(&[4, 0, 0, 0]),
            Some(_) => out.extend_from_slice(&[255, 0, 0, 0]),
        }
        out.extend_from_slice(&self.keysym.to_be_bytes());
        if let Some(number) = self.number {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }

    /// Whether its release lets go of what `other` pressed, however the display reads them.
    fn is_same_key(self, other: Self) -> bool {
        let number = |event: Self| event.number.map(|number| number & 0xFFFF);
        let keysym = |event: Self| keysym::folded(event.keysym);
        number(self) == number(other) && keysym(self) == keysym(other)
    }
}

/// One reading of what a client pressed: by numbers, or by keysyms.
#[derive(Debug, Default)]
struct Keyboard {
    down: KeySet,
    kept_back: KeySet,
}

impl Keyboard {
    fn completes(&self, keys: &[u16], refused: &[Combination]) -> bool {
        let mut down = self.down;
        for &key in keys {
            down.set(key, true);
        }
        refused.iter().any(|combination| combination.is_down(&down))
    }

    fn press(&mut self, keys: &[u16], passes: bool) {
        for &key in keys {
            if passes {
                self.down.set(key, true);
            }
            self.kept_back.set(key, !passes);
        }
    }

    /// Lets go, and tells whether any of these is down, and whether any was kept back.
    fn release(&mut self, keys: &[u16]) -> (bool, bool) {
        let (mut was_down, mut was_kept_back) = (false, false);
        for &key in keys {
            was_down |= self.down.has(key);
            was_kept_back |= self.kept_back.has(key);
            self.down.set(key, false);
            self.kept_back.set(key, false);
        }
        (was_down, was_kept_back)
    }
}

/// The keys of one session.
#[derive(Debug)]
pub struct KeyFilter {
    refused: Vec<Combination>,
    /// As [`readings`] are.
    keyboards: [Keyboard; 2],
    /// What was pressed in the guest and not let go: at most [`MAX_HELD`].
    held: Vec<KeyEvent>,
}

impl KeyFilter {
    /// With nothing pressed.
    pub fn new(refused: Vec<Combination>) -> Self {
        Self {
            refused,
            keyboards: Default::default(),
            held: Vec::new(),
        }
    }

    /// Takes note of an event, and tells whether it may reach the guest.
    pub fn takes(&mut self, event: KeyEvent) -> bool {
        if event.down {
            return self.press(event);
        }
        let passes = self.release(event);
        if passes {
            self.held.retain(|held| !held.is_same_key(event));
        }
        passes
    }

    /// Appends the messages that let go of all that is down, and takes it for up.
    pub fn release_all(&mut self, out: &mut Vec<u8>) {
        for event in self.held.drain(..) {
            event.release(out);
        }
        self.keyboards = Default::default();
    }

    fn press(&mut self, event: KeyEvent) -> bool {
        let is_held = self.held.iter().any(|held| held.is_same_key(event));
        let mut passes = is_held || self.held.len() < MAX_HELD;
        if !self.refused.is_empty() {
            let readings = readings(event);
            let mut pairs = self.keyboards.iter().zip(&readings);
            passes &= !pairs.any(|(keyboard, keys)| keyboard.completes(keys, &self.refused));
            for (keyboard, keys) in self.keyboards.iter_mut().zip(&readings) {
                keyboard.press(keys, passes);
            }
        }
        if passes && !is_held {
            self.held.push(event);
        }
        passes
    }

    /// What was never pressed may be let go: QEMU passes over it.
    fn release(&mut self, event: KeyEvent) -> bool {
        if self.refused.is_empty() {
            return true;
        }
        let (mut was_down, mut was_kept_back) = (false, false);
        for (keyboard, keys) in self.keyboards.iter_mut().zip(&readings(event)) {
            let (down, kept_back) = keyboard.release(keys);
            was_down |= down;
            was_kept_back |= kept_back;
        }
        was_down || !was_kept_back
    }
}

/// Which keys a display takes an event for: one without a layout, and one with.
pub(super) fn readings(event: KeyEvent) -> [Vec<u16>; 2] {
    let by_keysym = keysym::keys(event.keysym);
    let by_number = match event.number {
        Some(number) => scancode::key(number).into_iter().collect(),
        None => by_keysym.clone(),
    };
    [by_number, by_keysym]
}

#[cfg(test)]
mod tests;
