//! What a console's lock guards: its output, who is attached, who writes, how it is.
//!
//! Plain state with rules; whoever changes it announces that, after the lock is let go.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::Notify;

use super::MAX_ROSTER;
use super::state::{Availability, ConsoleState, Participant, Roster, Target, WriterChange};
use crate::core::gather::Gather;
use crate::core::id::SessionId;
use crate::core::input::InputQueue;
use crate::core::lease::{Claim, Epoch, Lease, NotTheWriter};
use crate::core::output::{Cursor, OutputLog, Start};
use crate::core::position::Generation;
use crate::core::reason::Reason;
use crate::hypervisor::Instance;

/// The clock that the pump's timers go by.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// One attached session, as its console knows it.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) participant: Participant,
    pub(super) input: InputQueue,
    /// Wakes this session alone: its input got somewhere.
    pub(super) answers: Arc<Notify>,
    pub(super) order: u64,
}

/// What pump and viewers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) output: Option<OutputLog>,
    pub(super) seats: BTreeMap<SessionId, Seat>,
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
    /// Whether output may be missing at the head: this instance was entered, and is not
    /// attached yet or any more.
    pub(super) missing: bool,
    /// Whether the guest's last words came: the last attachment ended with its end of file,
    /// or there was none.
    pub(super) complete: bool,
    /// Counts attachments, so that a late word of one that is gone is not taken.
    pub(super) attachment: u64,
    pub(super) next_order: u64,
    pub(super) last_output: Option<SystemTime>,
    pub(super) last_input: Option<SystemTime>,
}

/// How a session wants to be attached.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// Who it is.
    pub participant: Participant,
    /// Where it begins.
    pub start: Start,
    /// How it asks for the writer's lease; `None` to view.
    pub claim: Option<Claim>,
    /// What it tells whom it takes over.
    pub takeover_reason: String,
    /// View if the lease is held.
    pub view_otherwise: bool,
}

/// Why a session could not be attached.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JoinError {
    /// Another session holds the lease.
    #[error("{} (session {}) has been writing to this console; view it, or take it over", .0.proxy, .0.session)]
    LeaseHeld(Box<Participant>),
    /// The VM is off.
    #[error("the VM is not running: start it, then attach")]
    NotRunning,
    /// The console cannot be served now, as its state says.
    #[error("the console cannot be attached: {}", .0.detail)]
    Unavailable(Box<ConsoleState>),
    /// As many are attached as may be.
    #[error(
        "{0} sessions are attached to this console, the most that limits.viewers_per_console allows"
    )]
    TooManyViewers(usize),
    /// The VM, or this console of it, is no more.
    #[error("the console is no more")]
    Gone,
}

impl Shared {
    pub(super) fn new(target: Target) -> Self {
        let state = ConsoleState {
            availability: Availability::Waiting,
            since: SystemTime::now(),
            vm_state: target.vm_state,
            detail: String::new(),
            next_try: None,
            holder: None,
            silent_since: None,
            wedged_since: None,
            generation: None,
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
            missing: false,
            complete: true,
            attachment: 0,
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
        let mut seats: Vec<&Seat> = self.seats.values().collect();
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

    pub(super) fn check_open(&self, max_viewers: usize) -> Result<(), JoinError> {
        if self.retired {
            return Err(JoinError::Gone);
        }
        if self.seats.len() >= max_viewers {
            return Err(JoinError::TooManyViewers(self.seats.len()));
        }
        match self.state.availability {
            Availability::Waiting if self.instance.is_none() => Err(self.not_running()),
            Availability::Unsupported | Availability::HeldByOther | Availability::Denied => {
                Err(JoinError::Unavailable(Box::new(self.state.clone())))
            }
            _ => Ok(()),
        }
    }

    /// The VM is off, or is known to run and not attached for the first time yet.
    fn not_running(&self) -> JoinError {
        if self.target.instance.is_none() {
            return JoinError::NotRunning;
        }
        let mut state = self.state.clone();
        "it is about to be attached, try again".clone_into(&mut state.detail);
        JoinError::Unavailable(Box::new(state))
    }

    pub(super) fn claim_at_join(&mut self, request: &JoinRequest) -> Result<(), JoinError> {
        let Some(claim) = request.claim else {
            return Ok(());
        };
        match self.lease.claim(request.participant.session, claim) {
            Ok(displaced) => {
                if let Some(loser) = displaced.and_then(|loser| self.seats.get_mut(&loser)) {
                    loser.input.refuse_pending(Reason::TakenOver);
                    loser.answers.notify_one();
                }
                self.writer = WriterChange {
                    writer: Some(request.participant.clone()),
                    epoch: self.lease.epoch(),
                    reason: displaced.map(|_| Reason::TakenOver),
                    takeover_reason: match displaced {
                        Some(_) => request.takeover_reason.clone(),
                        None => String::new(),
                    },
                };
                Ok(())
            }
            Err(_) if request.view_otherwise => Ok(()),
            Err(holder) => match self.seats.get(&holder) {
                Some(seat) => Err(JoinError::LeaseHeld(Box::new(seat.participant.clone()))),
                None => Err(JoinError::Gone),
            },
        }
    }

    /// Takes the lease back, for `reason`. Returns whether the session held it.
    pub(super) fn release(&mut self, session: SessionId, reason: Reason) -> bool {
        let held = self.lease.release(session);
        if held {
            self.writer = WriterChange {
                writer: None,
                epoch: self.lease.epoch(),
                reason: Some(reason),
                takeover_reason: String::new(),
            };
            if let Some(seat) = self.seats.get_mut(&session) {
                seat.input.refuse_pending(reason);
            }
        }
        held
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
        let missing = std::mem::take(&mut self.missing);
        if missing {
            self.interrupt();
        }
        missing
    }

    /// The instance is over. What it wrote while nobody was attached is missing.
    pub(super) fn end_instance(&mut self, reason: Reason) {
        self.instance = None;
        self.refuse_waiting_input(reason);
        if !std::mem::replace(&mut self.complete, true) {
            self.interrupt();
        }
    }

    fn interrupt(&mut self) {
        if let Some(output) = self.output.as_mut() {
            output.interrupt();
        }
    }

    pub(super) fn begin_generation(&mut self, ring_bytes: usize) {
        // What was held back is the last of its generation.
        self.gather.show_all(now());
        let number: NonZeroU64 = rand::random();
        let generation = Generation::new(number);
        match self.output.as_mut() {
            Some(output) => output.begin(generation),
            None => self.output = Some(OutputLog::new(ring_bytes, generation)),
        }
        self.missing = false;
        self.state.generation = Some(generation);
        self.state_version += 1;
    }
}
