//! What of a VNC client's messages reaches the display: those that the rules and the lease allow,
//! unchanged and in order. The others are dropped and counted.
//!
//! Without the lease, and with view-only whoever has it, only this passes: the pixel format,
//! encodings, requests for updates, continuous updates and fences. Everything else may pass with
//! the lease, as the rules say. What is taken out of `SetEncodings` stands in
//! [`encodings`](super::encodings), what of keys does not pass in [`keys`](super::keys).
//!
//! ```text
//!              ┌──── whole, or the head of a long one ────┐
//!              ▼                                          │
//!          Between ──▶ Passing: the rest of a long one ───┤
//!           │    └───▶ Dropping: likewise ────────────────┘
//!           │              ▲
//!           │              └── Passing, when the lease is lost: the rest is filled with zeros
//!           └─ unknown ──▶ Opaque, if nothing needs looking into ─┐
//!                    └───▶ Failed ◀── when the lease is lost ─────┘
//! ```
//!
//! A message is judged once, by who holds the lease when it is whole; a long one (cut text), when
//! its head is. Short ones are held until then, at most [`MAX_WHOLE`] bytes: keys, pointer and all
//! that changes the guest go whole or not at all.
//!
//! **When the lease is lost**, what the session began must not hinder the next writer. A cut text
//! that the display has the beginning of is filled up with zeros, at once and without waiting for
//! a client that may never finish it; what the client sends of it later is dropped. The guest may
//! see such a text, of which nothing came from this client after the loss. Then all keys and
//! buttons that the session holds down are let go.
//!
//! Two things are dropped of a client that holds the lease and is under no rule, because they
//! harm QEMU: messages of the extended clipboard that are shorter than their flags, and those that
//! come while the extension is not announced. QEMU 7.2 closes the connection for either; older
//! ones read beyond the message, or ask a clipboard that they have not registered.

mod output;
mod tally;
mod verdict;
mod violation;

use std::mem;

use bytes::Bytes;

use self::output::Output;
pub use self::tally::{DropKind, Dropped};
use self::verdict::Verdict;
pub use self::violation::Violation;
use super::keys::KeyFilter;
use super::message::{Head, Look, Unknown, look};
use super::rules::Rules;

#[cfg(doc)]
use super::message::{MAX_CUT_TEXT, MAX_WHOLE};

/// What one client says, on its way to the display.
#[derive(Debug)]
pub struct ClientFilter {
    rules: Rules,
    keys: KeyFilter,
    /// The last pointer event that passed, if it has buttons down.
    pressed_pointer: Option<[u8; 6]>,
    /// Whether the display takes messages of the extended clipboard.
    clipboard_announced: bool,
    holds_lease: bool,
    /// Whether anything passed that a person did, since that was last asked.
    typed: bool,
    /// The beginning of a message that is not whole.
    held: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Between,
    Passing(u64),
    Dropping(u64),
    Opaque(Unknown),
    Failed(Violation),
}

impl ClientFilter {
    /// For a client that has said nothing since `ClientInit`, and does not hold the lease.
    pub fn new(mut rules: Rules) -> Self {
        let refused = mem::take(&mut rules.refused_keys);
        Self {
            keys: KeyFilter::new(refused.clone()),
            rules: Rules {
                refused_keys: refused,
                ..rules
            },
            pressed_pointer: None,
            clipboard_announced: false,
            holds_lease: false,
            typed: false,
            held: Vec::new(),
            state: State::Between,
        }
    }

    /// Takes what the client sent next, cut anywhere, and appends to `out` what the display is to
    /// get: slices of `bytes` where nothing was dropped. `holds_lease` is as of
    /// [`set_lease`](Self::set_lease), which need not be called if there is something to filter.
    ///
    /// # Errors
    /// [`Violation`], after which the relay has to end, and nothing passes any more. What came
    /// before it is in `out`.
    pub fn filter(
        &mut self,
        bytes: Bytes,
        holds_lease: bool,
        out: &mut Vec<Bytes>,
    ) -> Result<Dropped, Violation> {
        let mut dropped = Dropped::default();
        self.set_lease(holds_lease, out)?;
        let mut output = Output::new(bytes, out);
        let result = self.take(&mut output, &mut dropped);
        output.finish();
        result.map(|()| dropped).inspect_err(|&violation| {
            self.state = State::Failed(violation);
        })
    }

    /// Tells whether the session holds the lease from now on. When it is lost, appends what ends
    /// the session's doings in the guest (see the module): to be called at once then, as the
    /// client may say nothing for long. At most [`MAX_CUT_TEXT`] bytes, which take no memory, and
    /// 12 KiB.
    ///
    /// # Errors
    /// [`Violation`] if there were any before, or if the lease is lost and it is not known any
    /// more what the client says.
    pub fn set_lease(&mut self, holds_lease: bool, out: &mut Vec<Bytes>) -> Result<(), Violation> {
        let lost = self.holds_lease && !holds_lease;
        self.holds_lease = holds_lease;
        match self.state {
            State::Failed(violation) => return Err(violation),
            State::Opaque(unknown) if lost => {
                let violation = Violation::LeaseLost(unknown);
                self.state = State::Failed(violation);
                return Err(violation);
            }
            State::Passing(left) if lost => {
                output::zeros(left, out);
                self.state = State::Dropping(left);
            }
            _ => {}
        }
        if lost {
            self.let_go(out);
        }
        Ok(())
    }

    /// The relay ends: appends what ends the session's doings in the guest, as when the lease is
    /// lost, unless it is not known where the client's messages begin.
    pub fn end(&mut self, out: &mut Vec<Bytes>) {
        match self.state {
            State::Opaque(_) | State::Failed(Violation::LeaseLost(_)) => return,
            State::Passing(left) => output::zeros(left, out),
            State::Between | State::Dropping(_) | State::Failed(_) => {}
        }
        self.state = State::Between;
        self.let_go(out);
    }

    /// Whether anything reached the display since this was last asked that a person must have
    /// done: keys, the pointer, another size, or what nobody can tell.
    pub const fn take_typed(&mut self) -> bool {
        std::mem::replace(&mut self.typed, false)
    }

    /// The rules that it goes by.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// How many bytes it holds: the beginning of one message, at most [`MAX_WHOLE`].
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Lets go of keys and buttons.
    fn let_go(&mut self, out: &mut Vec<Bytes>) {
        let mut releases = Vec::new();
        self.keys.release_all(&mut releases);
        if let Some(mut pointer) = self.pressed_pointer.take() {
            pointer[1] = 0;
            releases.extend_from_slice(&pointer);
        }
        if !releases.is_empty() {
            out.push(releases.into());
        }
    }

    fn take(&mut self, output: &mut Output<'_>, dropped: &mut Dropped) -> Result<(), Violation> {
        let mut at = 0;
        while at < output.len() {
            let there = output.len() - at;
            at += match self.state {
                State::Failed(violation) => return Err(violation),
                State::Opaque(_) => {
                    self.typed = true;
                    output.pass(at, there);
                    there
                }
                State::Passing(left) => {
                    let (taken, left) = part(left, there);
                    output.pass(at, taken);
                    self.state = left.map_or(State::Between, State::Passing);
                    taken
                }
                State::Dropping(left) => {
                    let (taken, left) = part(left, there);
                    self.state = left.map_or(State::Between, State::Dropping);
                    taken
                }
                State::Between if self.held.is_empty() => self.begin(at, output, dropped)?,
                State::Between => self.go_on(at, output, dropped)?,
            };
        }
        Ok(())
    }

    /// Takes the message that begins at `at`, if there is enough of it, and holds it otherwise.
    /// Returns how many bytes that were.
    fn begin(
        &mut self,
        at: usize,
        output: &mut Output<'_>,
        dropped: &mut Dropped,
    ) -> Result<usize, Violation> {
        let bytes = output.bytes();
        let rest = &bytes[at..];
        let head = match self.see(rest)? {
            Seen::Message(head) if rest.len() >= judged(head) => head,
            Seen::Message(_) | Seen::Needs(_) => {
                self.held.extend_from_slice(rest);
                return Ok(rest.len());
            }
            Seen::Opaque => return Ok(0),
        };
        let len = judged(head);
        match self.judge(head, &rest[..len], dropped)? {
            Verdict::Pass => output.pass(at, len),
            Verdict::Drop => {}
            Verdict::Instead(message) => output.write(&message),
        }
        Ok(len)
    }

    /// Adds to what is held what it lacks, as far as that is there, and takes it if it is enough.
    /// Returns how many bytes were added.
    fn go_on(
        &mut self,
        at: usize,
        output: &mut Output<'_>,
        dropped: &mut Dropped,
    ) -> Result<usize, Violation> {
        let mut held = mem::take(&mut self.held);
        let bytes = output.bytes();
        let mut added = 0;
        let verdict = loop {
            let (wanted, head) = match self.see(&held)? {
                Seen::Needs(wanted) => (wanted, None),
                Seen::Message(head) => (judged(head), Some(head)),
                Seen::Opaque => break Verdict::Pass,
            };
            if let Some(head) = head.filter(|_| held.len() == wanted) {
                break self.judge(head, &held, dropped)?;
            }
            let rest = &bytes[at + added..];
            let taken = rest.len().min(wanted - held.len());
            if taken == 0 {
                self.held = held;
                return Ok(added);
            }
            held.extend_from_slice(&rest[..taken]);
            added += taken;
        };
        match verdict {
            Verdict::Pass => output.write(&held),
            Verdict::Drop => {}
            Verdict::Instead(message) => output.write(&message),
        }
        held.clear();
        self.held = held;
        Ok(added)
    }

    /// Looks at a message's beginning. Goes opaque if it is unknown and may be.
    fn see(&mut self, bytes: &[u8]) -> Result<Seen, Violation> {
        match look(bytes) {
            Look::Needs(wanted) => Ok(Seen::Needs(wanted)),
            Look::Message(head) => Ok(Seen::Message(head)),
            Look::TooManyEncodings(count) => Err(Violation::TooManyEncodings(count)),
            Look::Unknown(unknown) if self.rules.need_looking() || !self.holds_lease => {
                Err(Violation::Unknown(unknown))
            }
            Look::Unknown(unknown) => {
                self.state = State::Opaque(unknown);
                Ok(Seen::Opaque)
            }
        }
    }

    /// Judges a message of which there is as much as [`judged`] says, and sees to its rest.
    fn judge(
        &mut self,
        head: Head,
        seen: &[u8],
        dropped: &mut Dropped,
    ) -> Result<Verdict, Violation> {
        let verdict = self.verdict(head, seen, dropped)?;
        let left = head.len - seen.len() as u64;
        self.state = match verdict {
            _ if left == 0 => State::Between,
            Verdict::Drop => State::Dropping(left),
            Verdict::Pass | Verdict::Instead(_) => State::Passing(left),
        };
        if matches!(verdict, Verdict::Drop) {
            dropped.count(DropKind::of(head.kind), 1);
        }
        Ok(verdict)
    }
}

enum Seen {
    Needs(usize),
    Message(Head),
    Opaque,
}

/// How much of a message must be there to judge it.
fn judged(head: Head) -> usize {
    if head.kind.streams() {
        head.bytes
    } else {
        // At most MAX_WHOLE.
        head.len as usize
    }
}

/// How much of `left` is among `there`, and how much is left then, if any.
fn part(left: u64, there: usize) -> (usize, Option<u64>) {
    let taken = usize::try_from(left).map_or(there, |left| left.min(there));
    let left = left - taken as u64;
    (taken, (left > 0).then_some(left))
}

#[cfg(test)]
mod tests;
