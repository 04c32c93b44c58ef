//! When a console is held: whom it is held for, and how long after the last of them.
//!
//! ```text
//!                demand             attached                  the last demand ends
//!   let alone ──────────▶ wanted ─────────────▶ wanted ─────────────────────▶ lingering
//!       ▲                   │ ended, untold       ▲          demand              │
//!       ├───────────────────┘                     └──────────────────────────────┤
//!       └──────────────────────────── time is up: endpoint and ring are let go ──┘
//! ```
//! Always wanted is one whose mode is `always`; one whose mode is `off`, or that was not
//! attached, does not linger. What is let alone costs nothing: no descriptor, no connection,
//! no timer, no try. It is READY as far as was last seen, or as the last try left it, until its
//! VM changes. It attaches nothing: that the pump does.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::timeout;

use super::live::Console;
use super::shared::Shared;
use super::state::Availability;
use crate::clock::{at, now};
use crate::config::{self, CaptureMode};
use crate::core::gather::Gather;
use crate::core::id::ConsoleId;

/// How long whoever wants a console waits for the first try to attach it: longer than a call to
/// libvirt takes by default, so that they are told what came of one that hangs.
const PATIENCE: Duration = Duration::from_secs(15);

/// When one console is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capture {
    pub(super) mode: CaptureMode,
    pub(super) linger: Duration,
}

impl Capture {
    /// Of a display, which writes nothing that could be kept: it is held for those who view it,
    /// whatever the configuration says of the others.
    pub(super) const OF_DISPLAY: Self = Self {
        mode: CaptureMode::Off,
        linger: Duration::ZERO,
    };

    /// What the configuration says of this console, of a VM of this name.
    pub(super) fn of(config: &config::Capture, id: &ConsoleId, vm_name: &str) -> Self {
        let rule = config.rules.iter().find(|rule| {
            let alias = rule.aliases.is_empty() || rule.aliases.contains(&id.alias);
            alias && rule.vms.iter().any(|vms| vms.selects(id.vm, vm_name))
        });
        Self {
            mode: rule.and_then(|rule| rule.mode).unwrap_or(config.mode),
            linger: rule.and_then(|rule| rule.linger).unwrap_or(config.linger),
        }
    }
}

/// Whom a console is held for.
#[derive(Debug)]
pub(super) struct Hold {
    capture: Capture,
    /// How many [`Demand`]s there are.
    demands: usize,
    lingers_until: Option<Instant>,
    /// Whether it was attached since it was last let alone.
    was_attached: bool,
    /// Whether no try was made since it was last let alone, or its end is not told yet.
    pub(super) untried: bool,
    /// When somebody last came or left: a later one has a larger number.
    pub(super) last_use: u64,
}

impl Hold {
    pub(super) const fn new(capture: Capture) -> Self {
        Self {
            capture,
            demands: 0,
            lingers_until: None,
            was_attached: false,
            untried: true,
            last_use: 0,
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        let always = self.capture.mode == CaptureMode::Always;
        always || self.demands > 0 || self.lingers_until.is_some()
    }

    pub(super) const fn attached(&mut self) {
        self.was_attached = true;
    }

    const fn come(&mut self) {
        self.demands += 1;
        self.lingers_until = None;
    }

    fn leave(&mut self, now: Instant) {
        self.demands = self.demands.saturating_sub(1);
        let lingers = self.demands == 0
            && self.was_attached
            && self.capture.mode == CaptureMode::OnDemand
            && !self.capture.linger.is_zero();
        if lingers {
            self.lingers_until = now.checked_add(self.capture.linger);
        }
    }
}

/// Somebody wants a console to be attached, until this is dropped. A [`super::Viewer`] has one.
#[derive(Debug)]
pub struct Demand {
    console: Arc<Console>,
}

impl Drop for Demand {
    fn drop(&mut self) {
        self.console.change_use(|hold| hold.leave(now()));
    }
}

impl Console {
    /// Has the console attached if it can be, for as long as what is returned lives, and, by
    /// its mode, a while longer. Waits for nothing.
    pub fn demand(self: &Arc<Self>) -> Demand {
        self.change_use(Hold::come);
        Demand {
            console: self.clone(),
        }
    }

    /// The same, and waits until it is told how the console is: 15 seconds at most, and not at
    /// all where that is known already.
    ///
    /// # Cancel safety
    /// If dropped, nobody wants the console.
    pub async fn attach(self: &Arc<Self>) -> Demand {
        let mut changed = self.changed.subscribe();
        let demand = self.demand();
        let told = async {
            while self.is_untried() {
                // The sender is in the console: it cannot be closed.
                let _ = changed.changed().await;
            }
        };
        // If it is not, the console's state says so.
        let _ = timeout(PATIENCE, told).await;
        demand
    }

    fn is_untried(&self) -> bool {
        let shared = self.shared.lock();
        shared.hold.untried && !shared.retired
    }

    /// What the configuration says of it has changed, as its VM's name has.
    pub(super) fn set_capture(&self, capture: Capture) {
        self.change_hold(|hold| {
            hold.capture = capture;
            if capture.mode != CaptureMode::OnDemand {
                hold.lingers_until = None;
            }
        });
    }

    /// Somebody comes or leaves.
    fn change_use(&self, change: impl FnOnce(&mut Hold)) {
        self.change_hold(|hold| {
            change(hold);
            hold.last_use = self.rings.next_use();
        });
    }

    fn change_hold(&self, change: impl FnOnce(&mut Hold)) {
        let mut shared = self.shared.lock();
        let hold = &mut shared.hold;
        let (wanted, lingered) = (hold.is_wanted(), hold.lingers_until);
        change(hold);
        let turned = hold.is_wanted() != wanted;
        let lingering = hold.lingers_until != lingered;
        drop(shared);
        if turned {
            self.wanted_changed.notify_one();
        }
        if lingering {
            self.lingering.notify_one();
        }
    }

    /// Whether the console is to be attached, or to stay so.
    pub(super) fn is_wanted(&self) -> bool {
        self.shared.lock().hold.is_wanted()
    }

    /// Ends the time after the last viewer, each time that it is up. Never returns.
    pub(super) async fn linger(&self) {
        loop {
            let until = self.shared.lock().hold.lingers_until;
            tokio::select! {
                () = self.lingering.notified() => {}
                () = at(until) => self.change_hold(|hold| {
                    hold.lingers_until = hold.lingers_until.filter(|until| now() < *until);
                }),
            }
        }
    }

    /// Lets the ring go, and its generation with it, if nobody wants the console. Returns
    /// whether somebody does.
    pub(super) fn keep_or_forget(&self) -> bool {
        let mut shared = self.shared.lock();
        if shared.hold.is_wanted() {
            return true;
        }
        let before = shared.kept();
        shared.forget();
        self.count_kept(before, shared.kept());
        drop(shared);
        if before.is_some() {
            // Lists show what is kept.
            self.list();
        }
        false
    }

    /// The VM runs, and nobody wants the console. It is ready, unless the last try that came to
    /// an end `failed`: then it is as that left it. A try that was `given_up` saw nothing: what
    /// was ready before is as it was last seen.
    pub(super) fn let_alone(&self, failed: bool, given_up: bool) {
        self.change(|shared| {
            let was_ready = shared.state.availability == Availability::Ready;
            if failed || given_up && was_ready {
                shared.state.next_try = None;
            } else {
                shared.set_availability(Availability::Ready, "", None);
                shared.state.checked = Some(SystemTime::now());
            }
            shared.hold.untried = true;
        });
    }
}

impl Shared {
    fn forget(&mut self) {
        self.output = None;
        self.gather = Gather::default();
        self.gather_due = None;
        self.instance = None;
        // A late word of the attachment that was let go is not taken.
        self.attachment += 1;
        (self.missing, self.complete) = (false, true);
        self.hold.was_attached = false;
        // Who comes before it is told how the console is now waits for that.
        self.hold.untried = true;
    }
}
