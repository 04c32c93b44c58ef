//! What the keyboard says to this program rather than to the guest.
//!
//! ```text
//!   LineStart ── ~ ──▶ Tilde ── . ──▶ Left            (leave)
//!    ▲  │  ▲             ├──── ? ──▶ LineStart       (help)
//!    │  │  │             ├──── B ──▶ LineStart       (a break)
//!    │  │  │             ├── w, r ─▶ LineStart       (ask for the lease, give it back)
//!    │  │  │ Enter       ├──── ~ ──▶ MidLine         (one ~ for the guest)
//!    │  │  │             └─ other ─▶ as if mid-line  (~ and the byte for the guest)
//!    │  │ MidLine, Esc, Report
//!    │  └─ ESC ─▶ Esc ── [ ──▶ Report ─┬─ 0-9 ; ? > ──▶ Report
//!    └─────────── R n c t ─────────────┘
//!   Esc, Report ── other ──▶ as if mid-line
//!   LineStart, MidLine, Esc, Report ── key ──▶ Key ── key ──▶ MidLine   (one key for the guest)
//!                                               └─ anything else, or 300 ms ─▶ Left   (leave)
//! ```
//!
//! A report is what a terminal answers to the guest's question, as if it were typed: where
//! its cursor is (busybox's shell asks at each prompt), its status, its kind, its size. It is
//! the guest's, each byte at once, and the line that it comes at the start of is still at its
//! start. A report has parameters; a few keys look like one (F3 with Shift is `ESC [ 1 ; 2 R`)
//! and are taken for one.
//!
//! A pure machine: bytes and the passing of time in, actions out, the same for every way
//! of cutting the bytes into reads. Refuses to know of terminals, and changes no byte that
//! is the guest's.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How long after the key a second one still means the key itself.
pub(crate) const KEY_PAUSE: Duration = Duration::from_millis(300);

/// The key unless told otherwise: `^]`, as telnet and virsh have it.
pub(crate) const DEFAULT_KEY: u8 = 0x1d;

/// The most bytes between `ESC [` and the end of a report; what is longer is none.
const MAX_REPORT_PARAMETERS: usize = 64;

/// What reports, and many keys, begin with.
const ESC: u8 = 0x1b;

/// Which escapes are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EscapeKey {
    /// None at all, the `Enter ~` ones neither.
    Off,
    /// This key, and those of `Enter ~`.
    Key(u8),
}

/// What is wrong with an escape key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "give one ASCII character, ^X for a control character (^] is the default), or none; not ~ or Enter"
)]
pub(crate) struct InvalidKey;

impl FromStr for EscapeKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let key = match text.as_bytes() {
            b"none" => return Ok(Self::Off),
            [key] => *key,
            b"^?" => 0x7f,
            [b'^', letter] if matches!(letter.to_ascii_uppercase(), b'@'..=b'_') => {
                letter.to_ascii_uppercase() & 0x1f
            }
            _ => return Err(InvalidKey),
        };
        match key {
            b'~' | b'\r' | b'\n' | 0x80.. => Err(InvalidKey),
            key => Ok(Self::Key(key)),
        }
    }
}

impl fmt::Display for EscapeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Off => f.write_str("none"),
            Self::Key(0x7f) => f.write_str("^?"),
            Self::Key(key) if key < 0x20 => write!(f, "^{}", char::from(key | 0x40)),
            Self::Key(key) => write!(f, "{}", char::from(key)),
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// These bytes are the guest's.
    Send(Vec<u8>),
    /// Leave. Nothing comes after it.
    Leave,
    /// Show help.
    Help,
    /// Send a break.
    Break,
    /// Ask for the writer's lease.
    Ask,
    /// Give the writer's lease back.
    Release,
    /// Call [`Escapes::elapsed`] after [`KEY_PAUSE`] unless bytes come first.
    ArmTimer,
}

/// Where the machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the start of a line: `~` is an escape here.
    LineStart,
    /// Within a line.
    MidLine,
    /// After ESC at the start of a line.
    Esc,
    /// After `ESC [` at the start of a line, and so many bytes of parameters.
    Report(usize),
    /// After `~` at the start of a line.
    Tilde,
    /// After the key.
    Key,
    /// Left: everything more is ignored.
    Left,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Escapes {
    key: Option<u8>,
    state: State,
}

impl Escapes {
    /// A machine at the start of a line.
    pub(crate) const fn new(key: EscapeKey) -> Self {
        let key = match key {
            EscapeKey::Off => None,
            EscapeKey::Key(key) => Some(key),
        };
        Self {
            key,
            state: State::LineStart,
        }
    }

    /// Takes what was read.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Action> {
        let Some(key) = self.key else {
            return vec![Action::Send(bytes.to_vec())];
        };
        let mut actions = Vec::new();
        let mut plain = Vec::with_capacity(bytes.len() + 1);
        for &byte in bytes {
            if let Some(action) = self.step(key, byte, &mut plain) {
                flush(&mut plain, &mut actions);
                actions.push(action);
            }
        }
        flush(&mut plain, &mut actions);
        if self.state == State::Key {
            actions.push(Action::ArmTimer);
        }
        actions
    }

    /// Time is up since the last [`Action::ArmTimer`].
    pub(crate) fn elapsed(&mut self) -> Option<Action> {
        (self.state == State::Key).then(|| {
            self.state = State::Left;
            Action::Leave
        })
    }

    /// One byte: what of it is the guest's goes to `plain`.
    fn step(&mut self, key: u8, byte: u8, plain: &mut Vec<u8>) -> Option<Action> {
        match (self.state, byte) {
            (State::Left, _) => {}
            (State::Key, byte) if byte == key => {
                plain.push(key);
                self.state = State::MidLine;
            }
            (State::Key, _) | (State::Tilde, b'.') => {
                self.state = State::Left;
                return Some(Action::Leave);
            }
            (State::Tilde, b'?') => return Some(self.done(Action::Help)),
            (State::Tilde, b'B') => return Some(self.done(Action::Break)),
            (State::Tilde, b'w') => return Some(self.done(Action::Ask)),
            (State::Tilde, b'r') => return Some(self.done(Action::Release)),
            (State::Tilde, b'~') => {
                plain.push(b'~');
                self.state = State::MidLine;
            }
            (State::Tilde, byte) => {
                plain.push(b'~');
                self.ordinary(key, byte, plain);
            }
            (State::LineStart, b'~') => self.state = State::Tilde,
            (State::LineStart | State::MidLine | State::Esc | State::Report(_), byte) => {
                self.ordinary(key, byte, plain);
            }
        }
        None
    }

    /// An escape that leaves the line at its start.
    const fn done(&mut self, action: Action) -> Action {
        self.state = State::LineStart;
        action
    }

    /// A byte that no escape has a claim on yet.
    fn ordinary(&mut self, key: u8, byte: u8, plain: &mut Vec<u8>) {
        if byte == key {
            self.state = State::Key;
            return;
        }
        plain.push(byte);
        self.state = match (self.state, byte) {
            (_, b'\r' | b'\n') => State::LineStart,
            (State::LineStart, ESC) => State::Esc,
            (State::Esc, b'[') => State::Report(0),
            (State::Report(len), b'0'..=b'9' | b';' | b'?' | b'>')
                if len < MAX_REPORT_PARAMETERS =>
            {
                State::Report(len + 1)
            }
            (State::Report(1..), b'R' | b'n' | b'c' | b't') => State::LineStart,
            _ => State::MidLine,
        };
    }
}

/// Moves what gathered into an action, if anything did.
fn flush(plain: &mut Vec<u8>, actions: &mut Vec<Action>) {
    if !plain.is_empty() {
        actions.push(Action::Send(std::mem::take(plain)));
    }
}

#[cfg(test)]
mod tests;
