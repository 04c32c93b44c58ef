//! One session's view of a console: what it has been told, and what is new to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::MAX_FRAME;
use super::live::Console;
use super::shared::Shared;
use super::state::{ConsoleState, Participant, Roster, SideEffect, WriterChange};
use crate::clock::at;
use crate::core::id::StreamId;
use crate::core::input::{INPUT_WINDOW, Refused};
use crate::core::output::{Cursor, Next};
use crate::core::position::Position;
use crate::core::reason::Reason;
use crate::core::window::Room;

/// How long the answer to input waits for output to go with it: an echo is there in less,
/// and each message of its own costs a client and the agent more than the echo itself.
const ANSWER_HELD: Duration = Duration::from_millis(5);

/// Something that is new to a viewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Bytes, a gap, or a new generation; never [`Next::Idle`].
    Output(Next),
    /// Input that was not written.
    InputRefused(Refused),
    /// Every byte of input below was written or refused.
    InputDone(u64),
    /// Who writes.
    Writer(WriterChange),
    /// The session's place among those who wait for the lease, from 1, and who holds it.
    Queued(u32, Option<Participant>),
    /// Who is attached.
    Roster(Roster),
    /// The console's state.
    State(ConsoleState),
    /// What was done to the console or its VM.
    Effect(SideEffect),
    /// The VM goes on at another host: which, if it was announced.
    Moved(Option<Arc<str>>),
    /// The console is no more, for this reason.
    Ended(Reason),
}

/// One session's place at a console, for one stream. Dropping it takes the session off as
/// [`Reason::TransportLost`], unless the session was taken up again; see [`Viewer::leave`].
#[derive(Debug)]
pub struct Viewer {
    console: Arc<Console>,
    stream: StreamId,
    cursor: Option<Cursor>,
    position: Position,
    answers: Arc<Notify>,
    changed: watch::Receiver<()>,
    refused: std::vec::IntoIter<Refused>,
    input_done: u64,
    /// Until when the answer to input waits for output to go with it.
    answer_held: Option<Instant>,
    writer_told: WriterChange,
    /// The place in the lease's queue that it was told, 0 for none.
    place_told: u32,
    roster_told: u64,
    state_told: Option<u64>,
    /// How much of the VM's moves it was told.
    moves_told: u32,
    /// How many side effects it was told of, or missed.
    effects_told: u64,
}

impl Viewer {
    pub(super) fn new(
        console: Arc<Console>,
        stream: StreamId,
        cursor: Cursor,
        answers: Arc<Notify>,
        changed: watch::Receiver<()>,
        shared: &Shared,
    ) -> Self {
        Self {
            console,
            stream,
            position: cursor.position(),
            cursor: Some(cursor),
            answers,
            changed,
            refused: Vec::new().into_iter(),
            input_done: 0,
            answer_held: None,
            writer_told: shared.writer.clone(),
            place_told: 0,
            roster_told: shared.roster_version,
            state_told: None,
            moves_told: shared.moves_told_at_first(),
            effects_told: shared.effects.count(),
        }
    }

    /// The next byte that the viewer expects.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Which stream of which session it is for.
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// Its console.
    pub const fn console(&self) -> &Arc<Console> {
        &self.console
    }

    /// Who writes, as this viewer was last told.
    pub const fn writer(&self) -> &WriterChange {
        &self.writer_told
    }

    /// Whether this viewer is the writer, as it was last told.
    pub fn writes(&self) -> bool {
        self.is_me(self.writer_told.writer.as_ref())
    }

    fn is_me(&self, participant: Option<&Participant>) -> bool {
        participant.is_some_and(|writer| writer.session == self.stream.session)
    }

    /// Whether the first that it is told of output is a gap at the very place where it begins,
    /// which one that resumes there may have been told before.
    pub fn begins_interrupted(&self) -> bool {
        let shared = self.console.shared.lock();
        match (&shared.output, &self.cursor) {
            (Some(output), Some(cursor)) => output.begins_interrupted(cursor),
            _ => false,
        }
    }

    /// Who is attached, and the oldest position that is kept.
    pub fn surroundings(&self) -> (Roster, Position) {
        let shared = self.console.shared.lock();
        let oldest = shared
            .output
            .as_ref()
            .map_or(self.position, |output| output.oldest());
        (shared.roster(), oldest)
    }

    /// What is new, if anything is, as far as there is `room` for it: first answers to
    /// input, then news, then output. What there is no room for waits, joined.
    pub fn poll(&mut self, room: Room) -> Option<Item> {
        if let Some(refused) = self.refused.next() {
            return Some(Item::InputRefused(refused));
        }
        let console = self.console.clone();
        // Whatever changes from here on wakes the next wait.
        self.changed.mark_unchanged();
        let mut shared = console.shared.lock();
        let before = shared.allocated();
        let item = self
            .answer(&mut shared, room)
            .or_else(|| self.news(&shared, room))
            .or_else(|| self.output(&mut shared, room.output));
        console.count_ring(before, shared.allocated());
        drop(shared);
        if let Some(Item::Output(Next::Gap(gap))) = &item {
            console.metrics.gap(gap.reason);
        }
        item
    }

    /// Waits until [`Viewer::poll`] may have something. With no `room`, output alone may
    /// still wake it.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = self.answers.notified() => {}
            // The sender is in the console that we hold: it cannot be closed.
            _ = self.changed.changed() => {}
            () = at(self.answer_held) => {}
        }
    }

    /// Takes the session off.
    pub fn leave(mut self, reason: Reason) {
        self.take_off(reason);
    }

    fn take_off(&mut self, reason: Reason) {
        if let Some(cursor) = self.cursor.take() {
            self.console.leave(self.stream, cursor, reason);
        }
    }

    fn answer(&mut self, shared: &mut Shared, room: Room) -> Option<Item> {
        let seat = shared.seat(self.stream)?;
        self.refused = seat.input.take_refused().into_iter();
        if let Some(refused) = self.refused.next() {
            return Some(Item::InputRefused(refused));
        }
        let done = seat.input.done();
        let new = done - self.input_done;
        if new == 0 {
            return None;
        }
        let now = Instant::now();
        let until = *self.answer_held.get_or_insert(now + ANSWER_HELD);
        // Nothing comes that it could go with at the end.
        let may_wait = room != Room::NONE && new < INPUT_WINDOW / 2;
        if may_wait && now < until {
            return None;
        }
        self.input_done = done;
        self.answer_held = None;
        Some(Item::InputDone(done))
    }

    fn news(&mut self, shared: &Shared, room: Room) -> Option<Item> {
        if room.state && self.writer_told.epoch != shared.writer.epoch {
            self.writer_told = shared.writer.clone();
            return Some(Item::Writer(shared.writer.clone()));
        }
        let place = shared.lease.place(self.stream.session).unwrap_or_default();
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        if room.state && self.place_told != place {
            self.place_told = place;
            if place > 0 {
                return Some(Item::Queued(place, shared.writer.writer.clone()));
            }
        }
        if let Some((told, effect)) = shared.effects.after(self.effects_told)
            && room.state
        {
            self.effects_told = told;
            return Some(Item::Effect(effect.clone()));
        }
        if room.roster && self.roster_told != shared.roster_version {
            self.roster_told = shared.roster_version;
            return Some(Item::Roster(shared.roster()));
        }
        if room.state && self.moves_told != shared.moves_told() {
            self.moves_told = shared.moves_told();
            return Some(Item::Moved(shared.moved_to()));
        }
        if room.state && self.state_told != Some(shared.state_version) {
            self.state_told = Some(shared.state_version);
            return Some(Item::State(shared.state.clone()));
        }
        None
    }

    fn output(&mut self, shared: &mut Shared, room: u64) -> Option<Item> {
        // The last words of a console that is gone come before its end, if there is room.
        let seat = shared.seat(self.stream)?;
        let (last, waits) = (seat.stopped_in, seat.waits_for_return);
        let moved = shared.moved_away() && !waits;
        let why = match last {
            _ if moved => Reason::Moved,
            Some(_) => Reason::VmStopped,
            None => Reason::VmGone,
        };
        let ended = (shared.retired || moved).then_some(Item::Ended(why));
        let (Some(cursor), Some(output)) = (self.cursor.as_mut(), shared.output.as_mut()) else {
            return ended;
        };
        // Of a VM that only stopped, the last words wait for room, and the end for them.
        if last.is_some_and(|last| output.is_told(cursor, last)) {
            return Some(Item::Ended(why));
        }
        if room == 0 {
            return ended;
        }
        let max = usize::try_from(room).unwrap_or(usize::MAX).min(MAX_FRAME);
        // What belongs to another run is none of its last words, and none follow a move.
        let hidden = if last.is_some() || moved {
            0
        } else {
            shared.gather.hidden()
        };
        let next = output.next(cursor, max, hidden);
        self.position = cursor.position();
        if next != Next::Idle
            && let Some(until) = &mut self.answer_held
        {
            // It goes with this.
            *until = Instant::now();
        }
        if next == Next::Idle {
            ended
        } else {
            Some(Item::Output(next))
        }
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.take_off(Reason::TransportLost);
    }
}

const _: () = assert!(
    INPUT_WINDOW as usize >= MAX_FRAME,
    "a whole input message fits the window"
);
