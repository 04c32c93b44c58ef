//! The VM's starts, resets and stops, as its console takes note of them: where its output since
//! the newest boot begins, and with which generation those end who end with the VM.
//!
//! A start counts as seen where the VM was off, or another run, as far as was known for certain
//! just before. It guesses nothing.

use std::time::{Duration, SystemTime};

use super::shared::Shared;
use super::state::{Target, stamp};
use crate::clock::now;
use crate::hypervisor::{Instance, VmState};

/// A generation that begins so long after its VM's start was seen, at most, has its boot: then the
/// console is attached because of it. What came before one that begins, or is attached, later is
/// not there; nor, where no terminal holds it, what came before one that was found running.
const AT_ONCE: Duration = Duration::from_secs(1);

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
        self.state.booted != before
    }

    /// A generation began with this run of the VM: with its start, if that was seen just now.
    /// A viewer may begin there before it is known whether the console is attached in time.
    pub(super) fn mark_start(&mut self, instance: Instance) {
        if self.started_at_once(instance) == Some(true)
            && let Some(output) = self.output.as_mut()
        {
            output.boot(stamp(SystemTime::now()));
        }
    }

    /// The console is attached. Returns whether that is the first time in its generation, and so
    /// late that output since the start may be missing.
    pub(super) fn attached_late(&mut self) -> bool {
        if self.attached_first.is_some() {
            return false;
        }
        self.attached_first = Some(SystemTime::now());
        let Some(at_once) = self.instance.and_then(|run| self.started_at_once(run)) else {
            return false;
        };
        let awaited = self.target.vm_state == VmState::Paused;
        !(at_once && (awaited || self.target.device.source.holds_output()))
    }

    /// Whether the start of this run was seen just now; `None`: it was not seen.
    fn started_at_once(&self, instance: Instance) -> Option<bool> {
        let (_, at) = self.started.filter(|(run, _)| *run == instance)?;
        Some(now().duration_since(at) <= AT_ONCE)
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
