//! What a console's lock guards: its output, who is attached, who writes, how it is.
//!
//! Plain state with rules; whoever changes it announces that, after the lock is let go.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::Notify;

use super::MAX_ROSTER;
use super::breaks::Breaks;
use super::capture::{Capture, Demand, Hold};
use super::displace::Displacing;
use super::display::Displayed;
use super::effects::Effects;
use super::join::Alone;
use super::moves::Moves;
use super::state::{Availability, ConsoleState, Participant, Roster, Target, WriterChange};
use crate::clock::now;
use crate::core::budget::Budget;
use crate::core::gather::Gather;
use crate::core::id::{SessionId, StreamId};
use crate::core::input::InputQueue;
use crate::core::lease::{Epoch, Lease, NotTheWriter};
use crate::core::output::{Cursor, OutputLog};
use crate::core::position::Generation;
use crate::core::reason::Reason;
use crate::hypervisor::Instance;

/// One attached session, as its console knows it.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) participant: Participant,
    pub(super) input: InputQueue,
    /// Its newest stream: what any other does counts for nothing.
    pub(super) stream: u32,
    /// Has the console attached, until the session ends. To be dropped without the lock.
    pub(super) demand: Option<Demand>,
    /// The VM had moved away when the session came, which waits for it to come back.
    pub(super) waits_for_return: bool,
    /// Wakes this session alone: its input got somewhere.
    pub(super) answers: Arc<Notify>,
    pub(super) order: u64,
    /// Whether it ends when the VM that it watches, or waits for, stops.
    pub(super) ends_when_stopped: bool,
    /// The last generation of that VM's run, once it has stopped.
    pub(super) stopped_in: Option<Generation>,
    /// Of a display: who else may be there, and how to end it for another's sake.
    pub(super) alone: Option<Alone>,
}

/// What pump and viewers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) output: Option<OutputLog>,
    /// Each in a box of its own: a node of the map has room for eleven, and most consoles have
    /// one.
    pub(super) seats: BTreeMap<SessionId, Box<Seat>>,
    pub(super) writer: WriterChange,
    pub(super) state: ConsoleState,
    pub(super) roster_version: u64,
    pub(super) state_version: u64,
    /// Set when the console is no more.
    pub(super) retired: bool,
    pub(super) lease: Lease<SessionId>,
    pub(super) target: Target,
    pub(super) gather: Gather,
    /// When held-back output is due to be shown, if somebody waits for that.
    pub(super) gather_due: Option<Instant>,
    pub(super) instance: Option<Instance>,
    /// The run of the VM whose start was seen, if that of the newest one was, and when.
    pub(super) started: Option<(Instance, Instant)>,
    /// That run was found paused, and was not seen to run since: it has written nothing.
    pub(super) has_not_run: bool,
    /// Whether there was a generation before this one, from which viewers may come.
    pub(super) follows: bool,
    /// When this generation was first attached, if it was.
    pub(super) attached_first: Option<SystemTime>,
    /// Since when it is attached, while it is.
    pub(super) attached_at: Option<Instant>,
    /// Whether output may be missing at the head, and nobody was told: this instance was entered
    /// and is not attached yet or any more, or it ran just after it was.
    pub(super) missing: bool,
    /// Whether the guest's last words came: the last attachment ended with its end of file,
    /// or there was none.
    pub(super) complete: bool,
    /// Counts attachments, so that a late word of one that is gone is not taken.
    pub(super) attachment: u64,
    /// Whether output came of this attachment.
    pub(super) heard: bool,
    /// When it was attached, if it is and nothing was heard.
    pub(super) silent: Option<SystemTime>,
    /// The breaks that wait to be sent; `None` while not attached.
    pub(super) breaks: Option<Breaks>,
    pub(super) displacing: Displacing,
    pub(super) displayed: Displayed,
    /// Whom the console is held for.
    pub(super) hold: Hold,
    pub(super) effects: Effects,
    pub(super) moves: Moves,
    pub(super) next_order: u64,
    pub(super) last_output: Option<SystemTime>,
    pub(super) last_input: Option<SystemTime>,
}

impl Shared {
    pub(super) fn new(target: Target, capture: Capture) -> Self {
        let state = ConsoleState {
            availability: Availability::Waiting,
            since: SystemTime::now(),
            checked: None,
            vm_state: target.vm_state,
            detail: String::new(),
            next_try: None,
            holder: None,
            silent_since: None,
            wedged_since: None,
            generation: None,
            booted: target.last_reset,
        };
        let nobody = WriterChange {
            writer: None,
            epoch: Epoch(0),
            reason: None,
            takeover_reason: String::new(),
        };
        Self {
            output: None,
            seats: BTreeMap::new(),
            writer: nobody,
            state,
            roster_version: 0,
            state_version: 0,
            retired: false,
            lease: Lease::default(),
            target,
            gather: Gather::default(),
            gather_due: None,
            instance: None,
            started: None,
            has_not_run: false,
            follows: false,
            attached_first: None,
            attached_at: None,
            missing: false,
            complete: true,
            attachment: 0,
            heard: false,
            silent: None,
            breaks: None,
            displacing: Displacing::default(),
            displayed: Displayed::default(),
            hold: Hold::new(capture),
            effects: Effects::default(),
            moves: Moves::default(),
            next_order: 0,
            last_output: None,
            last_input: None,
        }
    }

    pub(super) fn allocated(&self) -> usize {
        self.output.as_ref().map_or(0, OutputLog::allocated)
    }

    pub(super) fn close_cursor(&mut self, cursor: Cursor) {
        if let Some(output) = self.output.as_mut() {
            output.close(cursor);
        }
    }

    /// Who is attached.
    pub(super) fn roster(&self) -> Roster {
        let mut seats: Vec<_> = self.seats.values().collect();
        seats.sort_by_key(|seat| seat.order);
        let participants = seats
            .iter()
            .take(MAX_ROSTER)
            .map(|seat| seat.participant.clone());
        Roster {
            participants: participants.collect(),
            total: self.seats.len(),
            writer: self.lease.holder(),
        }
    }

    /// The seat of this stream's session, if it is the session's newest.
    pub(super) fn seat(&mut self, stream: StreamId) -> Option<&mut Seat> {
        let seat = self.seats.get_mut(&stream.session)?;
        (seat.stream == stream.number).then_some(seat)
    }

    /// Who may be given the lease: a session whose stream is broken keeps its place.
    fn is_there(seats: &BTreeMap<SessionId, Box<Seat>>, session: SessionId) -> bool {
        let seat = seats.get(&session);
        seat.is_some_and(|seat| seat.participant.away.is_none())
    }

    /// Takes the lease back, for `reason`, and gives it to the next. Returns whether the
    /// session held it.
    pub(super) fn release(&mut self, session: SessionId, reason: Reason) -> bool {
        let seats = &self.seats;
        let held = self
            .lease
            .release(session, |next| Self::is_there(seats, next));
        if held {
            self.writer_is(Some(reason));
            if let Some(seat) = self.seats.get_mut(&session) {
                seat.input.refuse_pending(reason);
            }
        }
        held
    }

    /// Gives the lease, if it is free, to who waits for it.
    pub(super) fn offer_lease(&mut self) {
        let seats = &self.seats;
        if self
            .lease
            .offer(|next| Self::is_there(seats, next))
            .is_some()
        {
            self.writer_is(None);
        }
    }

    /// Notes who writes now, and why the writer before does not any more.
    pub(super) fn writer_is(&mut self, reason: Option<Reason>) {
        let writer = self.lease.holder().and_then(|now| self.seats.get(&now));
        self.writer = WriterChange {
            writer: writer.map(|seat| seat.participant.clone()),
            epoch: self.lease.epoch(),
            reason,
            takeover_reason: String::new(),
        };
    }

    pub(super) fn may_write(&self, session: SessionId, epoch: Epoch) -> Result<(), Reason> {
        self.lease
            .check(session, epoch)
            .map_err(|refused| match refused {
                NotTheWriter::Stale => Reason::TakenOver,
                NotTheWriter::NeverHeld => Reason::LeaseHeld,
            })?;
        if self.retired {
            Err(Reason::VmGone)
        } else if self.instance.is_none() {
            Err(Reason::NotRunning)
        } else if self.state.availability == Availability::HeldByOther {
            // It would be typed at whatever the other process leaves behind.
            Err(Reason::HeldByOther)
        } else {
            Ok(())
        }
    }

    pub(super) fn refuse_waiting_input(&mut self, reason: Reason) {
        for seat in self.seats.values_mut() {
            seat.input.refuse_pending(reason);
            seat.answers.notify_one();
        }
    }

    /// The endpoint is attached, or has shown so by output. Returns whether output is missing.
    pub(super) fn flows(&mut self) -> bool {
        self.complete = false;
        let late = self.attached_late();
        let unheard = std::mem::take(&mut self.missing) || late;
        let missing = unheard && !(self.has_not_run && self.is_newest_run());
        if missing {
            self.interrupt();
        }
        missing
    }

    /// Output came. Returns whether the console was shown as silent.
    pub(super) fn hear(&mut self) -> bool {
        self.heard = true;
        self.silent = None;
        let shown = self.state.silent_since.take().is_some();
        self.state_version += u64::from(shown);
        shown
    }

    /// The instance is over. What it wrote while nobody was attached is missing.
    pub(super) fn end_instance(&mut self, reason: Reason) {
        let ran = self.instance.take().is_some();
        self.refuse_waiting_input(reason);
        if !std::mem::replace(&mut self.complete, true) {
            self.interrupt();
        }
        if ran {
            self.note_stop();
        }
    }

    fn interrupt(&mut self) {
        if let Some(output) = self.output.as_mut() {
            output.interrupt();
        }
    }

    pub(super) fn begin_generation(&mut self, ring_bytes: usize, budget: &Arc<Budget>) {
        // What was held back is the last of its generation.
        self.gather.show_all(now());
        let number: NonZeroU64 = rand::random();
        let generation = Generation::new(number);
        self.follows = self.output.is_some();
        match self.output.as_mut() {
            Some(output) => output.begin(generation),
            None => {
                let budget = Some(budget.clone());
                self.output = Some(OutputLog::within(ring_bytes, budget, generation));
            }
        }
        self.missing = false;
        self.attached_first = None;
        self.state.generation = Some(generation).filter(|_| !self.is_display());
        self.state_version += 1;
    }
}
