//! What passes between a console and its pump: instances, output, input. How the console is
//! stands in `report`.
//!
//! Nothing here waits: output comes on libvirt's event thread.

use std::time::{Instant, SystemTime};

use bytes::Bytes;

use super::MAX_FRAME;
use super::live::Console;
use super::state::stamp;
use crate::clock::now;
use crate::core::gather::Show;
use crate::core::id::SessionId;
use crate::core::reason::Reason;
use crate::endpoint::Claim;
use crate::hypervisor::Instance;

impl Console {
    /// The QEMU instance to attach to: begins a generation if it is another one than before.
    /// If it is the same, output is missing: that is told once it is attached again.
    /// Returns the number of the attachment about to be made, and whether it may displace.
    pub(super) fn enter(&self, instance: Instance) -> (u64, Claim) {
        let mut shared = self.shared.lock();
        let (before, mut begun) = (shared.kept(), false);
        if shared.instance == Some(instance) {
            shared.missing = true;
        } else {
            shared.end_instance(Reason::NotRunning);
            shared.instance = Some(instance);
            shared.begin_generation(self.ring_bytes, &self.rings.budget);
            begun = true;
            shared.mark_start(instance);
        }
        shared.attachment += 1;
        shared.heard = false;
        let attachment = shared.attachment;
        let claim = if shared.displacing.begin() {
            Claim::Displace
        } else {
            Claim::IfFree
        };
        self.count_kept(before, shared.kept());
        drop(shared);
        self.wake();
        if begun {
            self.list();
        }
        (attachment, claim)
    }

    /// The QEMU instance is gone.
    pub(super) fn instance_ended(&self) {
        let mut shared = self.shared.lock();
        let gone = shared.instance.is_some();
        if gone {
            shared.attachment += 1;
            shared.end_instance(Reason::NotRunning);
        }
        drop(shared);
        if gone {
            self.wake();
        }
    }

    /// The attachment ended because the guest's side closed: its last words came.
    pub(super) fn output_complete(&self) {
        self.shared.lock().complete = true;
    }

    pub(super) fn count_interruption(&self, missing: bool) {
        self.metrics.interruptions.inc_by(u64::from(missing));
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
        shared.writes();
        let missing = shared.flows();
        let output = shared.output.as_mut();
        let denied = output.is_some_and(|output| output.append(bytes, stamp(wall)));
        self.count_ring(before, shared.allocated());
        shared.last_output = Some(wall);
        let heard = shared.hear();
        let counted = heard && !shared.retired;
        let show = shared.gather.appended(bytes.len(), now);
        if let Show::At(due) = show {
            shared.gather_due = Some(due);
        }
        drop(shared);
        self.metrics.output_bytes.inc_by(bytes.len() as u64);
        self.count_interruption(missing);
        if denied {
            self.ring_denied();
        }
        if counted {
            self.metrics.silent.dec();
        }
        if heard {
            self.wake();
            self.list();
        }
        match show {
            Show::Now => self.wake(),
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
            self.wake();
        }
    }

    /// The next bytes that the writer typed, at most `max`, and who typed them.
    pub(super) fn begin_write(&self, max: usize) -> Option<(SessionId, Bytes)> {
        let mut shared = self.shared.lock();
        let writer = shared.lease.holder()?;
        let bytes = shared.seats.get_mut(&writer)?.input.begin_write(max)?;
        Some((writer, bytes))
    }

    /// `written` bytes of those being written were taken, and so many after them are still
    /// under way; the rest waits again.
    pub(super) fn settle_write(&self, session: SessionId, written: usize, under_way: usize) {
        let mut shared = self.shared.lock();
        if written > 0 {
            shared.last_input = Some(SystemTime::now());
            shared.gather.input_written();
        }
        self.metrics.input_bytes.inc_by(written as u64);
        if let Some(seat) = shared.seats.get_mut(&session) {
            seat.input.settle(written, under_way);
            let answers = seat.answers.clone();
            drop(shared);
            answers.notify_one();
        }
    }

    /// Nobody will know of the bytes that are still being written whether they were.
    pub(super) fn lose_write(&self, session: SessionId) {
        let mut shared = self.shared.lock();
        if let Some(seat) = shared.seats.get_mut(&session) {
            seat.input.refuse_in_flight(Reason::EndpointLost);
            let answers = seat.answers.clone();
            drop(shared);
            answers.notify_one();
        }
    }

    /// The endpoint took so many bytes that are no session's input.
    pub(super) fn character_written(&self, bytes: usize) {
        let mut shared = self.shared.lock();
        shared.last_input = Some(SystemTime::now());
        shared.gather.input_written();
        drop(shared);
        self.metrics.input_bytes.inc_by(bytes as u64);
    }
}
