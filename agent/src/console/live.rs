//! One console: what its pump and its viewers share, under one short lock.
//!
//! The lock is never held across a wait and never for longer than one copy of 64 KiB;
//! libvirt's event thread takes it to append. Everything that somebody may wait for is
//! announced after it is let go.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::metrics::ConsoleMetrics;
use super::state::{
    Availability, ConsoleState, Participant, Roster, Status, Target, WriterChange, stamp,
};
use super::viewer::Viewer;
use super::{MAX_FRAME, MAX_ROSTER};
use crate::core::gather::{Gather, Show};
use crate::core::id::{ConsoleId, SessionId};
use crate::core::input::{InputError, InputQueue};
use crate::core::lease::{Claim, Epoch, Lease, NotTheWriter};
use crate::core::output::{Cursor, OutputLog, Start};
use crate::core::position::Generation;
use crate::core::reason::Reason;
use crate::hypervisor::Instance;

/// One attached session, as its console knows it.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) participant: Participant,
    pub(super) input: InputQueue,
    /// Wakes this session alone: its input got somewhere.
    pub(super) answers: Arc<Notify>,
    order: u64,
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
    lease: Lease<SessionId>,
    target: Target,
    pub(super) gather: Gather,
    /// When held-back output is due to be shown, if somebody waits for that.
    gather_due: Option<Instant>,
    instance: Option<Instance>,
    /// Whether this instance was attached since viewers were last told of a gap.
    attached: bool,
    /// Counts attachments, so that a late word of one that is gone is not taken.
    attachment: u64,
    next_order: u64,
    last_output: Option<SystemTime>,
    last_input: Option<SystemTime>,
}

/// One console.
#[derive(Debug)]
pub struct Console {
    id: ConsoleId,
    ring_bytes: usize,
    max_viewers: usize,
    shared: Mutex<Shared>,
    /// Wakes every viewer: there is output, or news.
    changed: watch::Sender<()>,
    /// Wakes the pump: there is input to write.
    pub(super) input_ready: Notify,
    /// Wakes the pump: what it is writing is not the writer's any more.
    pub(super) writer_changed: Notify,
    /// Wakes the pump: held-back output has a time to be shown at.
    pub(super) gathering: Notify,
    /// Tells whoever lists consoles that something that lists show has changed.
    listed: Arc<watch::Sender<u64>>,
    pub(super) metrics: ConsoleMetrics,
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

impl Console {
    pub(super) fn new(
        id: ConsoleId,
        target: Target,
        ring_bytes: usize,
        max_viewers: usize,
        listed: Arc<watch::Sender<u64>>,
        metrics: ConsoleMetrics,
    ) -> Self {
        let state = ConsoleState {
            availability: Availability::Waiting,
            since: SystemTime::now(),
            vm_state: target.vm_state,
            detail: String::new(),
            next_try: None,
            generation: None,
        };
        metrics
            .consoles
            .with_label_values(&[state.availability.name()])
            .inc();
        let nobody = WriterChange {
            writer: None,
            epoch: Epoch(0),
            reason: None,
            takeover_reason: String::new(),
        };
        let shared = Shared {
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
            attached: false,
            attachment: 0,
            next_order: 0,
            last_output: None,
            last_input: None,
        };
        Self {
            id,
            ring_bytes,
            max_viewers,
            shared: Mutex::new(shared),
            changed: watch::Sender::new(()),
            input_ready: Notify::new(),
            writer_changed: Notify::new(),
            gathering: Notify::new(),
            listed,
            metrics,
        }
    }

    /// Which console it is.
    pub const fn id(&self) -> &ConsoleId {
        &self.id
    }

    /// What a list shows of it.
    pub fn status(&self) -> Status {
        let shared = self.shared.lock();
        Status {
            id: self.id.clone(),
            vm_name: shared.target.vm_name.clone(),
            device: shared.target.device.clone(),
            state: shared.state.clone(),
            viewers: shared.seats.len(),
            writer: shared.writer.writer.clone(),
            oldest: shared.output.as_ref().map(OutputLog::oldest),
            head: shared.output.as_ref().map(OutputLog::head),
            last_output: shared.last_output,
            last_input: shared.last_input,
        }
    }

    // ---- viewers ----

    /// Attaches a session.
    ///
    /// # Errors
    /// See [`JoinError`]; the session is not attached then, and nobody lost the lease.
    pub fn join(self: &Arc<Self>, request: JoinRequest) -> Result<Viewer, JoinError> {
        let answers = Arc::new(Notify::new());
        let session = request.participant.session;
        let mut shared = self.shared.lock();
        shared.check_open(self.max_viewers)?;
        let Some(start) = shared
            .output
            .as_mut()
            .map(|output| output.open(request.start))
        else {
            return Err(JoinError::NotRunning);
        };
        if let Err(refused) = shared.claim_at_join(&request) {
            shared.close_cursor(start);
            return Err(refused);
        }
        let order = shared.next_order;
        shared.next_order += 1;
        let seat = Seat {
            participant: request.participant,
            input: InputQueue::default(),
            answers: answers.clone(),
            order,
        };
        shared.seats.insert(session, seat);
        shared.roster_version += 1;
        let viewer = Viewer::new(
            self.clone(),
            session,
            start,
            answers,
            self.changed.subscribe(),
            &shared,
        );
        drop(shared);
        self.announce_writer();
        Ok(viewer)
    }

    /// Takes a session off, for `reason`, and its lease with it.
    pub(super) fn leave(&self, session: SessionId, cursor: Option<Cursor>, reason: Reason) {
        let mut shared = self.shared.lock();
        let before = shared.allocated();
        if let Some(cursor) = cursor {
            shared.close_cursor(cursor);
        }
        self.count_ring(before, shared.allocated());
        shared.seats.remove(&session);
        shared.roster_version += 1;
        if shared.lease.release(session) {
            shared.writer = WriterChange {
                writer: None,
                epoch: shared.lease.epoch(),
                reason: Some(reason),
                takeover_reason: String::new(),
            };
        }
        drop(shared);
        self.announce_writer();
    }

    /// Takes a session's input towards the guest, or refuses it.
    ///
    /// # Errors
    /// [`InputError`] if the client broke the rules of offset and window.
    pub fn input(
        &self,
        session: SessionId,
        offset: u64,
        epoch: Epoch,
        bytes: &[u8],
    ) -> Result<(), InputError> {
        let mut shared = self.shared.lock();
        let verdict = shared.may_write(session, epoch);
        let Some(seat) = shared.seats.get_mut(&session) else {
            return Ok(());
        };
        let pushed = seat.input.push(offset, epoch, bytes, verdict);
        let answers = seat.answers.clone();
        drop(shared);
        match verdict {
            Ok(()) => self.input_ready.notify_one(),
            Err(_) => answers.notify_one(),
        }
        pushed
    }

    fn announce_writer(&self) {
        self.writer_changed.notify_one();
        self.announce();
        self.listed.send_modify(|version| *version += 1);
    }

    fn announce(&self) {
        self.changed.send_replace(());
    }

    pub(super) fn with_shared<T>(&self, use_it: impl FnOnce(&mut Shared) -> T) -> T {
        use_it(&mut self.shared.lock())
    }

    // ---- the pump ----

    /// The QEMU instance to attach to: begins a generation if it is another one than before.
    /// Returns the number of the attachment about to be made.
    pub(super) fn enter(&self, instance: Instance) -> u64 {
        let mut shared = self.shared.lock();
        let before = shared.allocated();
        if shared.instance != Some(instance) {
            shared.refuse_waiting_input(Reason::NotRunning);
            shared.instance = Some(instance);
            shared.begin_generation(self.ring_bytes);
        } else if std::mem::take(&mut shared.attached) {
            self.metrics.interruptions.inc();
            if let Some(output) = shared.output.as_mut() {
                output.interrupt();
            }
        }
        shared.attachment += 1;
        let attachment = shared.attachment;
        self.count_ring(before, shared.allocated());
        drop(shared);
        self.announce();
        attachment
    }

    /// The QEMU instance is gone.
    pub(super) fn instance_ended(&self) {
        let mut shared = self.shared.lock();
        let gone = shared.instance.take().is_some();
        if gone {
            shared.attachment += 1;
            shared.refuse_waiting_input(Reason::NotRunning);
        }
        drop(shared);
        if gone {
            self.announce();
        }
    }

    /// Bytes came from the guest. Called on any thread.
    pub(super) fn output(&self, attachment: u64, bytes: &[u8]) {
        for piece in bytes.chunks(MAX_FRAME) {
            self.output_piece(attachment, piece);
        }
    }

    fn output_piece(&self, attachment: u64, bytes: &[u8]) {
        let (wall, now) = (SystemTime::now(), now());
        let mut shared = self.shared.lock();
        if shared.attachment != attachment {
            return;
        }
        let before = shared.allocated();
        if let Some(output) = shared.output.as_mut() {
            output.append(bytes, stamp(wall));
        }
        self.count_ring(before, shared.allocated());
        shared.last_output = Some(wall);
        let show = shared.gather.appended(bytes.len(), now);
        if let Show::At(due) = show {
            shared.gather_due = Some(due);
        }
        drop(shared);
        self.metrics.output_bytes.inc_by(bytes.len() as u64);
        match show {
            Show::Now => self.announce(),
            Show::At(_) => self.gathering.notify_one(),
            Show::Waiting => {}
        }
    }

    /// When held-back output is due, if any is.
    pub(super) fn gather_due(&self) -> Option<Instant> {
        self.shared.lock().gather_due.take()
    }

    /// Shows held-back output whose time has come.
    pub(super) fn show_gathered(&self) {
        let shown = self.shared.lock().gather.due(now());
        if shown {
            self.announce();
        }
    }

    /// The next bytes that the writer typed, at most `max`, and who typed them.
    pub(super) fn begin_write(&self, max: usize) -> Option<(SessionId, Bytes)> {
        let mut shared = self.shared.lock();
        let writer = shared.lease.holder()?;
        let bytes = shared.seats.get_mut(&writer)?.input.begin_write(max)?;
        Some((writer, bytes))
    }

    /// `written` bytes of those being written were taken; `lost`: nobody knows of the rest.
    pub(super) fn settle_write(&self, session: SessionId, written: usize, lost: bool) {
        let mut shared = self.shared.lock();
        if written > 0 {
            shared.last_input = Some(SystemTime::now());
            shared.gather.input_written();
        }
        let Some(seat) = shared.seats.get_mut(&session) else {
            return;
        };
        if lost {
            seat.input.refuse_in_flight(Reason::EndpointLost);
        } else {
            seat.input.settle(written);
        }
        let answers = seat.answers.clone();
        drop(shared);
        self.metrics.input_bytes.inc_by(written as u64);
        answers.notify_one();
    }

    /// What the hypervisor says of the console now.
    pub(super) fn set_target(&self, target: &Target) {
        let mut shared = self.shared.lock();
        let vm_state = if target.connected {
            target.vm_state
        } else {
            shared.state.vm_state
        };
        let news = shared.state.vm_state != vm_state;
        shared.state.vm_state = vm_state;
        shared.state_version += u64::from(news);
        shared.target = target.clone();
        drop(shared);
        self.announce();
        self.listed.send_modify(|version| *version += 1);
    }

    /// Whether the console can be used, as the pump found.
    pub(super) fn set_availability(
        &self,
        availability: Availability,
        detail: &str,
        next_try: Option<SystemTime>,
    ) {
        let mut shared = self.shared.lock();
        let generation = shared
            .output
            .as_ref()
            .map(|output| output.head().generation);
        let before = shared.state.clone();
        shared.attached |= availability == Availability::Attached;
        let state = &mut shared.state;
        if state.availability != availability {
            state.since = SystemTime::now();
        }
        state.availability = availability;
        state.detail = detail.to_owned();
        state.next_try = next_try;
        state.generation = generation;
        let news = *state != before;
        shared.state_version += u64::from(news);
        drop(shared);
        if before.availability != availability {
            self.metrics
                .consoles
                .with_label_values(&[before.availability.name()])
                .dec();
            self.metrics
                .consoles
                .with_label_values(&[availability.name()])
                .inc();
        }
        if news {
            self.announce();
            self.listed.send_modify(|version| *version += 1);
        }
    }

    /// The console is no more: its viewers are told, and nobody can join.
    pub(super) fn retire(&self) {
        let mut shared = self.shared.lock();
        shared.retired = true;
        shared.attachment += 1;
        shared.refuse_waiting_input(Reason::VmGone);
        let availability = shared.state.availability;
        drop(shared);
        self.metrics
            .consoles
            .with_label_values(&[availability.name()])
            .dec();
        self.announce();
    }

    pub(super) fn count_ring(&self, before: usize, after: usize) {
        if before != after {
            self.metrics.ring_bytes.add(after as i64 - before as i64);
        }
    }
}

/// The clock that the pump's timers go by.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Drop for Console {
    fn drop(&mut self) {
        self.count_ring(self.shared.lock().allocated(), 0);
    }
}

impl Shared {
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

    fn check_open(&self, max_viewers: usize) -> Result<(), JoinError> {
        if self.retired {
            return Err(JoinError::Gone);
        }
        if self.seats.len() >= max_viewers {
            return Err(JoinError::TooManyViewers(self.seats.len()));
        }
        match self.state.availability {
            Availability::Waiting if self.instance.is_none() => Err(JoinError::NotRunning),
            Availability::Unsupported | Availability::HeldByOther | Availability::Denied => {
                Err(JoinError::Unavailable(Box::new(self.state.clone())))
            }
            _ => Ok(()),
        }
    }

    fn claim_at_join(&mut self, request: &JoinRequest) -> Result<(), JoinError> {
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
                    takeover_reason: request.takeover_reason.clone(),
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

    fn may_write(&self, session: SessionId, epoch: Epoch) -> Result<(), Reason> {
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

    fn refuse_waiting_input(&mut self, reason: Reason) {
        for seat in self.seats.values_mut() {
            seat.input.refuse_pending(reason);
            seat.answers.notify_one();
        }
    }

    fn begin_generation(&mut self, ring_bytes: usize) {
        let number: NonZeroU64 = rand::random();
        let generation = Generation::new(number);
        match self.output.as_mut() {
            Some(output) => output.begin(generation),
            None => self.output = Some(OutputLog::new(ring_bytes, generation)),
        }
        self.attached = false;
        self.state.generation = Some(generation);
        self.state_version += 1;
    }
}
