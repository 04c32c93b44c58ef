//! How far output may run ahead of what a client has acknowledged.
//!
//! Without this, a viewer that stops reading holds on to its share of the HTTP/2
//! connection that it has in common with others.

use std::collections::VecDeque;

use super::position::{Generation, Position};

/// The most output messages that go unacknowledged where there is a window: unread small
/// messages weigh more on a connection than their bytes tell.
pub const MAX_UNACKNOWLEDGED: usize = 1024;

/// About how many bytes of state may follow the newest acknowledgement where there is a
/// window. A client that reads and has little to acknowledge is told hundreds of changes.
pub const STATE_AHEAD: u64 = 64 * 1024;

/// The part of [`STATE_AHEAD`] that rosters may fill. A hundred viewers that had stopped
/// reading used up their connection with each other's rosters.
pub const ROSTERS_AHEAD: u64 = 16 * 1024;

/// The smallest window that a client may set, in bytes.
pub const MIN_WINDOW: u64 = 4096;

/// The largest window that a client may set, in bytes.
pub const MAX_WINDOW: u64 = 16 * 1024 * 1024;

/// An acknowledgement of what was never sent, or was acknowledged further before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "output was acknowledged up to a position that is not between the last one and what was sent"
)]
pub struct OutOfPlace;

#[derive(Debug)]
struct Frame {
    position: Position,
    bytes: u64,
}

impl Frame {
    fn holds(&self, position: Position) -> Option<u64> {
        let same = self.position.generation == position.generation;
        let into = position
            .offset
            .checked_sub(self.position.offset)
            .filter(|_| same)?;
        (into <= self.bytes).then_some(into)
    }
}

/// What may be sent to a client now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes of output.
    pub output: u64,
    /// Whether a roster.
    pub roster: bool,
    /// Whether other state.
    pub state: bool,
}

impl Room {
    /// Nothing but answers to what the client sent.
    pub const NONE: Self = Self {
        output: 0,
        roster: false,
        state: false,
    };

    /// Whatever there is.
    pub const ALL: Self = Self {
        output: u64::MAX,
        roster: true,
        state: true,
    };
}

/// One session's output window.
#[derive(Debug)]
pub struct OutputWindow {
    /// Bytes; `None` for a client that sets none.
    size: Option<u64>,
    acknowledged: Position,
    /// Where what was sent ends.
    sent: Position,
    /// What was sent and not acknowledged, oldest first.
    frames: VecDeque<Frame>,
    outstanding: u64,
    /// Bytes of state that were sent since the last acknowledgement.
    state_ahead: u64,
}

impl OutputWindow {
    /// A window of `size` bytes, or none, of a stream that begins at `start`.
    pub const fn new(size: Option<u64>, start: Position) -> Self {
        let frames = VecDeque::new();
        Self {
            size,
            acknowledged: start,
            sent: start,
            frames,
            outstanding: 0,
            state_ahead: 0,
        }
    }

    /// The client will acknowledge nothing more: from here on there is no window.
    pub fn lift(&mut self) {
        self.size = None;
        self.frames.clear();
    }

    /// The generation that was sent last.
    pub const fn generation(&self) -> Generation {
        self.sent.generation
    }

    fn output_room(&self) -> u64 {
        match self.size {
            None => u64::MAX,
            Some(_) if self.frames.len() >= MAX_UNACKNOWLEDGED => 0,
            Some(size) => size.saturating_sub(self.outstanding),
        }
    }

    /// What may be sent now.
    pub fn room(&self) -> Room {
        let within = |limit| self.size.is_none() || self.state_ahead < limit;
        Room {
            output: self.output_room(),
            roster: within(ROSTERS_AHEAD),
            state: within(STATE_AHEAD),
        }
    }

    /// About so many bytes of state were sent.
    pub const fn state_sent(&mut self, bytes: u64) {
        self.state_ahead += bytes;
    }

    /// Output was sent.
    pub fn sent(&mut self, position: Position, bytes: u64) {
        self.sent = Position {
            offset: position.offset + bytes,
            ..position
        };
        if self.size.is_some() {
            self.frames.push_back(Frame { position, bytes });
            self.outstanding += bytes;
        }
    }

    /// A gap or a new generation was sent: the client is at `position` after it.
    pub fn moved(&mut self, position: Position) {
        self.sent = position;
        if self.size.is_some() {
            self.frames.push_back(Frame { position, bytes: 0 });
        }
    }

    /// The client says that `position` is the next byte it expects.
    ///
    /// # Errors
    /// [`OutOfPlace`] if it cannot be; nothing changes then. A client without a window may
    /// acknowledge or not; what it says is not looked at.
    pub fn acknowledge(&mut self, position: Position) -> Result<(), OutOfPlace> {
        if self.size.is_none() || position == self.acknowledged {
            self.state_ahead = 0;
            return Ok(());
        }
        if position == self.sent {
            self.frames.clear();
            self.outstanding = 0;
        } else {
            let holds = |frame: &Frame| frame.holds(position);
            let found = self.frames.iter().position(|frame| holds(frame).is_some());
            let index = found.ok_or(OutOfPlace)?;
            for passed in self.frames.drain(..index) {
                self.outstanding -= passed.bytes;
            }
            self.shorten_first(position);
        }
        self.acknowledged = position;
        self.state_ahead = 0;
        Ok(())
    }

    /// Takes what lies before `position` off the first frame, in which it is.
    fn shorten_first(&mut self, position: Position) {
        let Some(frame) = self.frames.front_mut() else {
            return;
        };
        let Some(into) = frame.holds(position) else {
            return;
        };
        frame.bytes -= into;
        frame.position = position;
        self.outstanding -= into;
        if frame.bytes == 0 {
            self.frames.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::*;
    use crate::core::position::Generation;

    fn at(offset: u64) -> Position {
        Position {
            generation: Generation::new(NonZeroU64::MIN),
            offset,
        }
    }

    #[test]
    fn a_stopped_viewer_is_sent_no_more_than_its_window() {
        let mut window = OutputWindow::new(Some(10), at(0));
        window.sent(at(0), 6);
        window.sent(at(6), 4);
        assert_eq!(window.room().output, 0);
        assert_eq!(window.acknowledge(at(8)), Ok(()));
        assert_eq!(window.room().output, 8);
        assert_eq!(
            window.acknowledge(at(7)),
            Err(OutOfPlace),
            "below the last one"
        );
        assert_eq!(
            window.acknowledge(at(11)),
            Err(OutOfPlace),
            "above what was sent"
        );
        assert_eq!(window.acknowledge(at(10)), Ok(()));
        assert_eq!(window.room().output, 10);
    }

    #[test]
    fn many_small_messages_close_the_window_too() {
        let mut window = OutputWindow::new(Some(1 << 20), at(0));
        for offset in 0..MAX_UNACKNOWLEDGED as u64 {
            assert!(window.room().output > 0);
            window.sent(at(offset), 1);
        }
        assert_eq!(window.room().output, 0);
        assert_eq!(window.acknowledge(at(1)), Ok(()));
        assert!(window.room().output > 0);
    }

    #[test]
    fn a_gap_can_be_acknowledged_and_uses_no_window() {
        let mut window = OutputWindow::new(Some(10), at(0));
        window.sent(at(0), 5);
        window.moved(at(500));
        assert_eq!(window.room().output, 5);
        window.sent(at(500), 5);
        assert_eq!(window.acknowledge(at(500)), Ok(()));
        assert_eq!(window.room().output, 5);
    }

    #[test]
    fn each_of_several_gaps_can_be_acknowledged() {
        let mut window = OutputWindow::new(Some(10), at(0));
        window.moved(at(100));
        window.moved(at(200));
        assert_eq!(window.acknowledge(at(100)), Ok(()));
        assert_eq!(window.acknowledge(at(50)), Err(OutOfPlace));
        assert_eq!(window.acknowledge(at(200)), Ok(()));
        for offset in 0..MAX_UNACKNOWLEDGED as u64 {
            window.moved(at(1000 + offset));
        }
        assert_eq!(
            window.room().output,
            0,
            "what waits to be acknowledged is bounded"
        );
    }

    #[test]
    fn state_is_held_back_until_an_acknowledgement_be_it_of_the_same_position() {
        let mut window = OutputWindow::new(Some(10), at(0));
        assert_eq!(
            window.room(),
            Room {
                output: 10,
                roster: true,
                state: true
            }
        );
        window.state_sent(ROSTERS_AHEAD);
        assert_eq!(
            window.room(),
            Room {
                output: 10,
                roster: false,
                state: true
            }
        );
        window.state_sent(STATE_AHEAD);
        assert_eq!(
            window.room(),
            Room {
                output: 10,
                roster: false,
                state: false
            }
        );
        assert_eq!(window.acknowledge(at(1)), Err(OutOfPlace));
        assert!(!window.room().state);
        assert_eq!(window.acknowledge(at(0)), Ok(()));
        assert!(window.room().state && window.room().roster);

        let mut none = OutputWindow::new(None, at(0));
        none.state_sent(STATE_AHEAD);
        assert_eq!(none.room(), Room::ALL, "no window: HTTP/2 is the limit");
    }

    proptest! {
        #[test]
        fn what_is_unacknowledged_never_passes_the_window(
            size in MIN_WINDOW..20_000,
            steps in prop::collection::vec((any::<bool>(), 1u64..9000), 1..200),
        ) {
            let mut window = OutputWindow::new(Some(size), at(0));
            let (mut sent, mut acknowledged) = (0u64, 0u64);
            for (send, amount) in steps {
                if send {
                    let bytes = amount.min(window.room().output);
                    if bytes > 0 {
                        window.sent(at(sent), bytes);
                        sent += bytes;
                    }
                } else {
                    acknowledged = (acknowledged + amount).min(sent);
                    prop_assert_eq!(window.acknowledge(at(acknowledged)), Ok(()));
                }
                prop_assert!(sent - acknowledged <= size);
                prop_assert_eq!(window.room().output, size - (sent - acknowledged));
            }
        }
    }
}
