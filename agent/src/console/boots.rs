//! The VM's starts, resets and stops, as its console takes note of them: where its output since
//! the newest boot begins, and with which generation those end who end with the VM.
//!
//! A start counts as seen where the VM was off, or another run, as far as was known for certain
//! just before. It guesses nothing.

use std::time::SystemTime;

use super::shared::{Shared, now};
use super::state::{Target, stamp};
use crate::hypervisor::Instance;

impl Shared {
    /// Takes note of what `target` tells of a boot, held against the target before it. Returns
    /// whether that changed the state.
    pub(super) fn note_boot(&mut self, target: &Target) -> bool {
        let (known, before) = (&self.target, self.state.booted);
        let other = known.instance != target.instance;
        if other && target.instance.is_some() {
            let seen = known.connected && target.connected;
            self.started = target.instance.filter(|_| seen);
            self.state.booted = self.started.map(|_| SystemTime::now());
        }
        if let Some(reset) = target.last_reset
            && (other || known.last_reset != target.last_reset)
        {
            self.state.booted = Some(reset);
            if self.instance.is_some()
                && self.instance == target.instance
                && let Some(output) = self.output.as_mut()
            {
                output.boot(stamp(reset));
            }
        }
        self.state.booted != before
    }

    /// A generation began with this run of the VM: with its start, if that was seen.
    pub(super) fn mark_start(&mut self, instance: Instance) {
        if self.started == Some(instance)
            && let Some(output) = self.output.as_mut()
        {
            output.boot(stamp(SystemTime::now()));
        }
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
