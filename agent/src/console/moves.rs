//! A VM that goes on to another host: its viewers are told, and where to, if somebody announced
//! it; and they end with MOVED once there is nothing more to come here.
//!
//! Whether it moved is the hypervisor's to say, or the announcement's once the VM is gone. It
//! asks nobody where to.

use std::sync::Arc;

use super::live::Console;
use super::shared::Shared;
use super::state::Target;
use crate::hypervisor::VmState;

/// What is known of a console's VM having gone to another host.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Where to, as it was announced last.
    host: Option<Arc<str>>,
    /// The VM is no more here, and its console with it, since it moved.
    gone: bool,
    /// Counts what there was to tell.
    told: u32,
}

impl Shared {
    /// Takes note of what `target` tells of a move, held against the target before it.
    pub(super) fn note_move(&mut self, target: &Target) {
        let moved = |of: &Target| of.vm_state == VmState::Moved;
        if moved(target) && !moved(&self.target) {
            self.moves.told += 1;
        }
        let other = self.target.instance != target.instance;
        if other && target.instance.is_some() && !moved(target) {
            // It runs here again.
            self.moves.host = None;
            for seat in self.seats.values_mut() {
                seat.waits_for_return = false;
            }
        }
    }

    /// The VM is not known any more: `moved` if its hypervisor says why.
    pub(super) fn note_gone(&mut self, moved: bool) {
        let known = self.moves.host.is_some() || self.target.vm_state == VmState::Moved;
        self.moves.gone = moved || known;
    }

    /// Whether the VM moved, and nothing more comes of it here, or it is known where to go on.
    pub(super) fn moved_away(&self) -> bool {
        let moved = self.target.vm_state == VmState::Moved;
        let done = self.instance.is_none() || self.moves.host.is_some();
        self.moves.gone || moved && done
    }

    /// Where to, if it was announced.
    pub(super) fn moved_to(&self) -> Option<Arc<str>> {
        self.moves.host.clone()
    }

    /// How much of it a stream that begins now counts as told of: all but the newest, if that
    /// still holds.
    pub(super) fn moves_told_at_first(&self) -> u32 {
        let holds = self.moves.host.is_some() || self.target.vm_state == VmState::Moved;
        self.moves.told.saturating_sub(u32::from(holds))
    }

    /// How much there was to tell of it so far.
    pub(super) const fn moves_told(&self) -> u32 {
        self.moves.told
    }
}

impl Console {
    /// Where its VM went, if that was announced.
    pub fn moved_to(&self) -> Option<Arc<str>> {
        self.shared.lock().moved_to()
    }

    /// The console's VM goes on at `host`, or did already; `None` takes back what was announced.
    /// Returns how many sessions are told.
    pub fn announce_move(&self, host: Option<&Arc<str>>) -> usize {
        let mut shared = self.shared.lock();
        shared.moves.host = host.cloned();
        shared.moves.told += 1;
        let sessions = shared.seats.len();
        drop(shared);
        self.wake();
        sessions
    }
}
