//! One console: what its pump and its viewers share, under one short lock.
//!
//! The lock is never held across a wait. Most of the time it is held for one copy of at most
//! 64 KiB; now and then for a roster, or for the copy of what a ring keeps that is made larger
//! or smaller: at most `console.ring_bytes`. libvirt's event thread takes it to append.
//! Everything that somebody may wait for is announced after it is let go. What the pump calls
//! is in `feed` and `report`.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::capture::Capture;
use super::changes::ChangeBook;
use super::join::{JoinError, JoinRequest};
use super::metrics::ConsoleMetrics;
use super::rings::Rings;
use super::shared::{Seat, Shared};
use super::state::{Status, Target};
use super::viewer::Viewer;
use crate::core::id::{ConsoleId, StreamId};
use crate::core::input::{InputError, InputQueue};
use crate::core::lease::Epoch;
use crate::core::output::{Cursor, OutputLog};
use crate::core::reason::Reason;

/// What may be kept of a console, and when it is held.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) capture: Capture,
    /// The most output that it keeps, in bytes.
    pub(super) ring_bytes: usize,
    /// The most sessions.
    pub(super) max_viewers: usize,
    /// What it shares with all others.
    pub(super) rings: Arc<Rings>,
}

/// One console.
#[derive(Debug)]
pub struct Console {
    id: ConsoleId,
    pub(super) rings: Arc<Rings>,
    pub(super) ring_bytes: usize,
    pub(super) max_viewers: usize,
    pub(super) shared: Mutex<Shared>,
    /// Wakes every viewer: there is output, or news.
    pub(super) changed: watch::Sender<()>,
    /// Wakes the pump: there is input to write.
    pub(super) input_ready: Notify,
    /// Wakes the pump: what it is writing is not the writer's any more.
    pub(super) writer_changed: Notify,
    /// Wakes the pump: held-back output has a time to be shown at.
    pub(super) gathering: Notify,
    /// Wakes the pump: somebody asks for a break.
    pub(super) break_asked: Notify,
    /// Wakes the pump: somebody asks for a holder outside the agent to be displaced.
    pub(super) displace_asked: Notify,
    /// Wakes the pump: another process was found to hold the console.
    pub(super) held: Notify,
    /// Wakes the pump: the console is wanted now, or not any more.
    pub(super) wanted_changed: Notify,
    /// Wakes who watches the time after the last viewer.
    pub(super) lingering: Notify,
    /// Where it is noted that something that lists show has changed.
    pub(super) book: Arc<ChangeBook>,
    pub(super) metrics: ConsoleMetrics,
}

impl Console {
    pub(super) fn new(
        id: ConsoleId,
        target: Target,
        terms: Terms,
        book: Arc<ChangeBook>,
        metrics: ConsoleMetrics,
    ) -> Self {
        let shared = Shared::new(target, terms.capture);
        metrics.state_changed(None, Some(&shared.state));
        Self {
            id,
            rings: terms.rings,
            ring_bytes: terms.ring_bytes,
            max_viewers: terms.max_viewers,
            shared: Mutex::new(shared),
            changed: watch::Sender::new(()),
            input_ready: Notify::new(),
            writer_changed: Notify::new(),
            gathering: Notify::new(),
            break_asked: Notify::new(),
            displace_asked: Notify::new(),
            held: Notify::new(),
            wanted_changed: Notify::new(),
            lingering: Notify::new(),
            book,
            metrics,
        }
    }

    /// Which console it is.
    pub const fn id(&self) -> &ConsoleId {
        &self.id
    }

    /// Changes whenever there is something new of it, for its viewers and for others.
    pub fn news(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Its VM's name.
    pub fn vm_name(&self) -> Arc<str> {
        self.shared.lock().target.vm_name.clone()
    }

    /// What a list shows of it.
    pub fn status(&self) -> Status {
        let shared = self.shared.lock();
        let output = shared.output.as_ref().filter(|_| !shared.is_display());
        Status {
            id: self.id.clone(),
            vm_name: shared.target.vm_name.clone(),
            device: shared.target.device.clone(),
            state: shared.state.clone(),
            viewers: shared.seats.len(),
            writer: shared.writer.writer.clone(),
            oldest: output.map(OutputLog::oldest),
            head: output.map(OutputLog::head),
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
        let demand = self.demand();
        let start = self.find_start(request.start);
        let mut shared = self.shared.lock();
        shared.check_open(self.max_viewers, request.wait_for_start)?;
        shared.check_alone(&request)?;
        if request.wait_for_start && shared.output.is_none() {
            let before = shared.kept();
            shared.begin_generation(self.ring_bytes, &self.rings.budget);
            self.count_kept(before, shared.kept());
        }
        let Some(start) = shared.output.as_mut().map(|output| output.open(start)) else {
            return Err(JoinError::NotRunning);
        };
        let order = shared.next_order;
        shared.next_order += 1;
        let stream = StreamId::first(session);
        let seat = Seat {
            participant: request.participant.clone(),
            input: InputQueue::default(),
            stream: stream.number,
            demand: Some(demand),
            waits_for_return: shared.moved_away(),
            answers: answers.clone(),
            order,
            ends_when_stopped: request.end_when_stopped,
            stopped_in: None,
            alone: request.alone.clone(),
        };
        shared.seats.insert(session, Box::new(seat));
        if let Err(refused) = shared.claim_at_join(&request) {
            let seat = shared.seats.remove(&session);
            shared.close_cursor(start);
            drop(shared);
            drop(seat);
            return Err(refused);
        }
        shared.end_for(&request);
        shared.roster_version += 1;
        let changed = self.changed.subscribe();
        let viewer = Viewer::new(self.clone(), stream, start, answers, changed, &shared);
        drop(shared);
        self.announce_writer();
        Ok(viewer)
    }

    /// Takes a stream's viewer off, and if it is its session's newest, the session, for
    /// `reason`, and its lease with it.
    pub(super) fn leave(&self, stream: StreamId, cursor: Cursor, reason: Reason) {
        let mut shared = self.shared.lock();
        let before = shared.allocated();
        shared.close_cursor(cursor);
        self.count_ring(before, shared.allocated());
        if shared.seat(stream).is_none() {
            return;
        }
        let seat = shared.seats.remove(&stream.session);
        shared.roster_version += 1;
        shared.lease.withdraw(stream.session);
        shared.release(stream.session, reason);
        drop(shared);
        // Its demand takes the lock.
        drop(seat);
        self.announce_writer();
    }

    /// The session has ended, whether or not its client reads that: the console is not held for
    /// it any more, and it keeps nobody out.
    pub fn unwant(&self, stream: StreamId) {
        let demand = self.shared.lock().seat(stream).and_then(|seat| {
            seat.alone = None;
            seat.demand.take()
        });
        drop(demand);
    }

    /// Takes a session's input towards the guest, or refuses it. What comes of a stream that is
    /// not the session's newest is passed over: its client sends it again.
    ///
    /// # Errors
    /// [`InputError`] if the client broke the rules of offset and window.
    pub fn input(
        &self,
        stream: StreamId,
        offset: u64,
        epoch: Epoch,
        bytes: &[u8],
    ) -> Result<(), InputError> {
        let mut shared = self.shared.lock();
        let verdict = shared.may_write(stream.session, epoch);
        let Some(seat) = shared.seat(stream) else {
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

    pub(super) fn announce_writer(&self) {
        self.writer_changed.notify_one();
        self.wake();
        self.list();
    }

    /// Wakes every viewer.
    pub(super) fn wake(&self) {
        self.changed.send_replace(());
    }

    /// Notes that something that lists show has changed, for whoever watches them.
    pub(super) fn list(&self) {
        self.book.changed(&self.id);
    }

    pub(super) fn count_ring(&self, before: usize, after: usize) {
        if before != after {
            self.metrics.ring_bytes.add(after as i64 - before as i64);
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.count_kept(self.shared.lock().kept(), None);
    }
}
