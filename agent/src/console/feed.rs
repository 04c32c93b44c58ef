//! What a console's pump tells it: instances, output, how far input got, how it is.
//!
//! Nothing here waits: output comes on libvirt's event thread.

use std::time::{Instant, SystemTime};

use bytes::Bytes;

use super::MAX_FRAME;
use super::live::Console;
use super::shared::now;
use super::state::{Availability, Target, stamp};
use crate::core::gather::Show;
use crate::core::id::SessionId;
use crate::core::reason::Reason;
use crate::hypervisor::Instance;

impl Console {
    /// The QEMU instance to attach to: begins a generation if it is another one than before.
    /// If it is the same, output is missing: that is told once it is attached again.
    /// Returns the number of the attachment about to be made.
    pub(super) fn enter(&self, instance: Instance) -> u64 {
        let mut shared = self.shared.lock();
        let before = shared.allocated();
        if shared.instance == Some(instance) {
            shared.missing = true;
        } else {
            shared.end_instance(Reason::NotRunning);
            shared.instance = Some(instance);
            shared.begin_generation(self.ring_bytes);
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
        let gone = shared.instance.is_some();
        if gone {
            shared.attachment += 1;
            shared.end_instance(Reason::NotRunning);
        }
        drop(shared);
        if gone {
            self.announce();
        }
    }

    /// The endpoint is attached: output flows from here on.
    pub(super) fn attached(&self) {
        let missing = self.shared.lock().flows();
        self.count_interruption(missing);
        self.announce();
    }

    /// The attachment ended because the guest's side closed: its last words came.
    pub(super) fn output_complete(&self) {
        self.shared.lock().complete = true;
    }

    fn count_interruption(&self, missing: bool) {
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
        let missing = shared.flows();
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
        self.count_interruption(missing);
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
        self.metrics.input_bytes.inc_by(written as u64);
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
        answers.notify_one();
    }

    /// What the hypervisor says of the console now.
    pub(super) fn set_target(&self, target: &Target) {
        let mut shared = self.shared.lock();
        if shared.target == *target {
            return;
        }
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
        shared.gather.show_all(now());
        shared.refuse_waiting_input(Reason::VmGone);
        let availability = shared.state.availability;
        drop(shared);
        self.metrics
            .consoles
            .with_label_values(&[availability.name()])
            .dec();
        self.announce();
    }
}
