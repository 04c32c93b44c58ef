//! How a console is, as its pump reports it: to viewers, to lists, and to the gauges, which
//! count a console until it is retired.

use std::time::SystemTime;

use super::breaks::{Breaks, give_up};
use super::live::Console;
use super::shared::Shared;
use super::state::{Availability, ConsoleState, Target};
use crate::clock::now;
use crate::core::reason::Reason;
use crate::endpoint::Holder;

impl Console {
    /// Changes the state, and tells what is new about it.
    pub(super) fn change(&self, change: impl FnOnce(&mut Shared)) {
        let mut shared = self.shared.lock();
        let (before, untried) = (shared.state.clone(), shared.hold.untried);
        change(&mut shared);
        let told = untried && !shared.hold.untried;
        let news = shared.state != before;
        shared.state_version += u64::from(news);
        if news && !shared.retired {
            self.metrics
                .state_changed(Some(&before), Some(&shared.state));
        }
        drop(shared);
        if news || told {
            self.wake();
        }
        if news {
            self.list();
        }
    }

    /// Whether the console can be used, as was reported last.
    pub(super) fn availability(&self) -> Availability {
        self.shared.lock().state.availability
    }

    /// What the hypervisor says of the console now.
    pub(super) fn set_target(&self, target: &Target) {
        let mut shared = self.shared.lock();
        if shared.target == *target {
            return;
        }
        shared.note_move(target);
        let vm_state = if target.connected {
            target.vm_state
        } else {
            shared.state.vm_state
        };
        let booted = shared.note_boot(target);
        let news = shared.state.vm_state != vm_state || booted;
        shared.state.vm_state = vm_state;
        shared.state_version += u64::from(news);
        let before = std::mem::replace(&mut shared.target, target.clone());
        // What is missing before whatever comes next is told at once.
        let missing = shared.attached_at.is_some() && shared.missing && shared.flows();
        drop(shared);
        self.count_interruption(missing);
        self.wake();
        if news || before.vm_name != target.vm_name || before.device != target.device {
            self.list();
        }
    }

    /// The endpoint is attached: output flows from here on.
    pub(super) fn attached(&self) {
        self.metrics.attached.inc();
        let mut missing = false;
        self.change(|shared| {
            missing = shared.flows();
            shared.attached_at = Some(now());
            shared.silent = (!shared.heard).then(SystemTime::now);
            shared.breaks = Some(Breaks::new());
            shared.displacing.end();
            shared.hold.attached();
            shared.set_availability(Availability::Attached, "", None);
        });
        self.count_interruption(missing);
        self.wake();
    }

    /// The endpoint was let go. Breaks that wait are given up.
    pub(super) fn detached(&self) {
        let mut waiting = None;
        self.change(|shared| {
            shared.attached_at = None;
            shared.silent = None;
            waiting = shared.breaks.take();
            shared.state.silent_since = None;
            shared.state.wedged_since = None;
        });
        give_up(waiting.unwrap_or_default());
    }

    /// Whether the console can be used, as the pump found.
    pub(super) fn set_availability(
        &self,
        availability: Availability,
        detail: &str,
        next_try: Option<SystemTime>,
    ) {
        self.change(|shared| shared.set_availability(availability, detail, next_try));
    }

    /// Who holds the console, where that could be found out, if it is held still.
    pub(super) fn set_holder(&self, holder: Option<Holder>) {
        self.change(|shared| {
            if shared.state.availability == Availability::HeldByOther {
                shared.state.holder = holder;
                shared.hold.untried = false;
            }
        });
    }

    /// Since when input makes no progress, or that it does.
    pub(super) fn set_wedged(&self, since: Option<SystemTime>) {
        self.change(|shared| shared.state.wedged_since = since);
    }

    /// The console is no more, and its VM neither if `with_vm`, since it moved if `moved`: its
    /// viewers are told, and nobody can join.
    pub(super) fn retire(&self, with_vm: bool, moved: bool) {
        let mut shared = self.shared.lock();
        let counted = !std::mem::replace(&mut shared.retired, true);
        shared.gather.show_all(now());
        if with_vm {
            shared.note_gone(moved);
            if shared.instance.is_some() {
                shared.note_stop();
            }
        }
        shared.refuse_waiting_input(Reason::VmGone);
        if counted {
            self.metrics.state_changed(Some(&shared.state), None);
        }
        drop(shared);
        self.wake();
    }
}

impl Shared {
    pub(super) fn set_availability(
        &mut self,
        availability: Availability,
        detail: &str,
        next_try: Option<SystemTime>,
    ) {
        let fresh = self.hold.untried;
        // Who holds it is found out next, and told with it.
        self.hold.untried = fresh && availability == Availability::HeldByOther;
        let output = self.output.as_ref().filter(|_| !self.is_display());
        let generation = output.map(|output| output.head().generation);
        let changed = self.state.availability != availability;
        let before = &self.state;
        self.state = ConsoleState {
            availability,
            since: if changed {
                SystemTime::now()
            } else {
                before.since
            },
            checked: None,
            vm_state: before.vm_state,
            detail: detail.to_owned(),
            next_try,
            holder: before.holder.clone().filter(|_| !changed && !fresh),
            silent_since: self
                .silent
                .filter(|_| availability == Availability::Attached),
            wedged_since: before.wedged_since,
            generation: generation.or(before.generation),
            booted: before.booted,
        };
        if changed && availability == Availability::HeldByOther {
            self.refuse_waiting_input(Reason::HeldByOther);
        }
    }
}
