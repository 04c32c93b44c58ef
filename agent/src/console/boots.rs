//! The VM's starts, resets and stops, as its console takes note of them: where its output since
//! the newest boot begins, and with which generation those end who end with the VM.
//!
//! A start counts as seen where the VM was off, or another run, as far as was known for certain
//! just before. It guesses nothing.

use std::time::{Duration, SystemTime};

use super::shared::Shared;
use super::state::{Target, stamp};
use crate::clock::now;
use crate::hypervisor::{ConsoleKind, Instance, VmState};

/// A generation that begins so long after its VM's start was seen, at most, has its boot: then the
/// console is attached because of it. What came before one that begins, or is attached, later is
/// not there.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A VM that was found paused had written nothing before its console was attached if nothing tells
/// for so long that it runs: QEMU looks once a second whether anybody has opened its terminal, and
/// throws away what a guest writes until it has seen that (chardev/char-pty.c; newer ones look as
/// they write); and news of a QEMU take a moment, longer where libvirt is slow.
const STILL_PAUSED: Duration = Duration::from_secs(2);

impl Shared {
    /// Takes note of what `target` tells of a boot, held against the target before it. Returns
    /// whether that changed the state.
    pub(super) fn note_boot(&mut self, target: &Target) -> bool {
        let (known, before) = (&self.target, self.state.booted);
        let other = known.instance != target.instance;
        if other && target.instance.is_some() {
            let seen = known.connected && target.connected;
            self.started = target.instance.filter(|_| seen).map(|run| (run, now()));
            self.state.booted = self.started.map(|_| SystemTime::now());
        }
        // A reset from before a start that is seen just now is not of this run.
        let just_started = self.state.booted.filter(|_| other);
        if let Some(reset) = target.last_reset
            && (other || known.last_reset != target.last_reset)
            && just_started.is_none_or(|start| start <= reset)
        {
            self.state.booted = Some(reset);
            // What the guest wrote between a reset and the first attachment after is not there.
            let attached = self.attached_first.is_some_and(|first| first <= reset);
            if attached
                && self.instance.is_some()
                && self.instance == target.instance
                && let Some(output) = self.output.as_mut()
            {
                output.boot(stamp(reset));
            }
        }
        let changed = self.state.booted != before;
        self.note_run(target, other);
        changed
    }

    /// Takes note of whether the run whose start was seen has written anything. `other`: it is
    /// told of for the first time.
    fn note_run(&mut self, target: &Target, other: bool) {
        let paused = target.connected && target.vm_state == VmState::Paused;
        if other || !paused {
            // It may have run before it came to an end.
            self.runs();
        }
        if other {
            self.has_not_run = paused && self.started.is_some();
        }
    }

    /// The VM runs, as its hypervisor or its output tells; or it may.
    fn runs(&mut self) {
        let began = std::mem::take(&mut self.has_not_run);
        if began && self.is_newest_run() && !self.guest_waits() {
            let attached = self.attached_at.map(|at| now().duration_since(at));
            self.missing |= attached.is_none_or(|long| long < STILL_PAUSED);
        }
    }

    /// The guest writes.
    pub(super) fn writes(&mut self) {
        if self.is_newest_run() {
            self.runs();
        }
    }

    /// Whether the run that is told of is the one at hand: the last words of one may come after
    /// the news of the next.
    pub(super) fn is_newest_run(&self) -> bool {
        self.instance == self.target.instance
    }

    /// Whether the guest waits until somebody is attached. Else QEMU throws away what it writes.
    fn guest_waits(&self) -> bool {
        self.target.device.kind == ConsoleKind::Channel
    }

    /// A generation began with this run of the VM: with its start, if that was seen just now.
    /// A viewer may begin there before it is known whether the console is attached in time.
    pub(super) fn mark_start(&mut self, instance: Instance) {
        if self.has_boot(instance) == Some(true)
            && let Some(output) = self.output.as_mut()
        {
            output.boot(stamp(SystemTime::now()));
        }
    }

    /// The console is attached. Returns whether that is the first time in its generation, and
    /// what a guest that runs wrote before may be missing.
    pub(super) fn attached_late(&mut self) -> bool {
        if self.attached_first.is_some() {
            return false;
        }
        self.attached_first = Some(SystemTime::now());
        match self.instance.and_then(|run| self.has_boot(run)) {
            Some(has_boot) => !(has_boot && self.guest_waits()),
            // Who was here before it expects what it begins with; others never do.
            None => self.follows,
        }
    }

    /// Whether a generation that begins now has this run's boot; `None`: its start was not seen.
    fn has_boot(&self, instance: Instance) -> Option<bool> {
        let (_, at) = self.started.filter(|(run, _)| *run == instance)?;
        Some(self.has_not_run || now().duration_since(at) <= AT_ONCE)
    }

    /// The VM has stopped: who ends with it does so at the end of this generation.
    pub(super) fn note_stop(&mut self) {
        // What was held back is the last of it.
        self.gather.show_all(now());
        let Some(last) = self.output.as_ref().map(|output| output.head().generation) else {
            return;
        };
        for seat in self
            .seats
            .values_mut()
            .filter(|seat| seat.ends_when_stopped)
        {
            seat.stopped_in.get_or_insert(last);
        }
    }
}
