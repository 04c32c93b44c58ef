//! How a display is: it has sessions, a writer and a state as every console, and no output.
//!
//! ```text
//!              QEMU runs                a relay runs
//!   Waiting ◀──────────▶ Ready ◀──────────────────────▶ Attached
//!                        │   ▲     the last one ended      │
//!          a try failed  ▼   │ the VM's QEMU is another     │
//!              Denied / Unsupported / Lost ◀───────────────┘ (never: one that runs, runs)
//! ```
//! Each relay has a connection of its own to QEMU, which this file neither makes nor sees: it is
//! told what became of it. As no ring is drained, nothing is tried again by itself: DENIED,
//! UNSUPPORTED and LOST are as the last try left them.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::join::JoinError;
use super::live::Console;
use super::shared::Shared;
use super::state::{Availability, Target};
use crate::core::id::StreamId;
use crate::core::reason::Reason;
use crate::endpoint::{EndpointError, Source};
use crate::hypervisor::{ConsoleKind, Instance};

/// What a display's lock guards beside what every console's does.
#[derive(Debug, Default)]
pub(super) struct Displayed {
    /// Relays that run, of the VM's QEMU of now.
    relays: usize,
    /// The run of the VM's QEMU at which the last try failed, and how.
    failed: Option<(Instance, Availability, String)>,
}

/// Keeps the state of the display `console` until `token` is cancelled.
pub(super) async fn run(
    console: Arc<Console>,
    mut target: watch::Receiver<Target>,
    token: CancellationToken,
) {
    loop {
        let now = target.borrow_and_update().clone();
        console.follow_display(&now);
        tokio::select! {
            biased; // to stop comes before everything
            () = token.cancelled() => return,
            changed = target.changed() => if changed.is_err() { return },
        }
    }
}

/// A relay that runs. Dropping it ends it, as far as the display's state is concerned.
#[derive(Debug)]
pub struct Shown {
    console: Arc<Console>,
    instance: Option<Instance>,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.console.change(|shared| {
            if shared.instance == self.instance {
                shared.displayed.relays = shared.displayed.relays.saturating_sub(1);
                shared.show_display();
            }
        });
    }
}

impl Console {
    /// Whether it is a display, and has no stream of bytes of its own.
    pub fn is_display(&self) -> bool {
        self.shared.lock().is_display()
    }

    /// The run of the VM's QEMU that has the display now.
    pub fn shown_by(&self) -> Option<Instance> {
        self.shared.lock().instance
    }

    /// A relay of it runs from now on, on a connection to this run of the VM's QEMU, for as long
    /// as what is returned lives.
    pub fn show(self: &Arc<Self>, instance: Option<Instance>) -> Shown {
        self.metrics.attached.inc();
        self.change(|shared| {
            if shared.instance == instance {
                shared.displayed.relays += 1;
                shared.displayed.failed = None;
                shared.show_display();
            }
        });
        Shown {
            console: self.clone(),
            instance,
        }
    }

    /// It could not be opened, for `error`, as `detail` says to an operator, of this run of the
    /// VM's QEMU. While relays of it run, it is attached all the same.
    pub fn not_shown(&self, instance: Option<Instance>, error: &EndpointError, detail: &str) {
        let availability = Availability::after(error);
        self.metrics.attach_failed(error);
        if self.availability() == availability || availability == Availability::Waiting {
            debug!(console = %self.id(), detail, "not opened");
        } else {
            warn!(console = %self.id(), detail, "not opened");
        }
        self.change(|shared| {
            // That its VM is off, or its hypervisor out of reach, is told by those.
            if availability != Availability::Waiting
                && shared.target.connected
                && let Some(instance) = instance
            {
                shared.displayed.failed = Some((instance, availability, detail.to_owned()));
                shared.show_display();
            }
        });
    }

    /// Whether the session of this stream holds the lease, so that what it types may reach the
    /// display; `None` if the display or the stream is no more.
    pub fn is_written_by(&self, stream: StreamId) -> Option<bool> {
        let mut shared = self.shared.lock();
        let there = shared.instance.is_some() && !shared.retired && shared.seat(stream).is_some();
        there.then(|| shared.lease.holder() == Some(stream.session))
    }

    /// Whether anybody holds the lease.
    pub fn has_writer(&self) -> bool {
        self.shared.lock().lease.holder().is_some()
    }

    /// Input of a session reached the display.
    pub fn typed(&self) {
        self.shared.lock().last_input = Some(SystemTime::now());
    }

    fn follow_display(&self, target: &Target) {
        self.set_target(target);
        if target.connected {
            match target.instance.filter(|_| target.vm_state.has_console()) {
                Some(instance) => self.display_runs(instance),
                None => self.instance_ended(),
            }
        }
        self.change(|shared| {
            if !target.connected {
                shared.displayed.failed = None;
            }
            shared.show_display();
        });
    }

    /// This run of the VM's QEMU has the display now.
    fn display_runs(&self, instance: Instance) {
        let mut shared = self.shared.lock();
        if shared.instance == Some(instance) {
            return;
        }
        shared.end_instance(Reason::NotRunning);
        shared.instance = Some(instance);
        shared.displayed = Displayed::default();
        // A viewer has its place in one, though nothing is ever written to it.
        shared.begin_generation(self.ring_bytes, &self.rings.budget);
        drop(shared);
        self.wake();
    }
}

impl Shared {
    pub(super) fn is_display(&self) -> bool {
        self.target.device.kind == ConsoleKind::Vnc
    }

    /// Whether a session may open the display, as far as its VM is concerned. What the last try
    /// left is no reason not to make another.
    pub(super) fn check_display(&self) -> Result<(), JoinError> {
        if self.instance.is_none() {
            return Err(self.not_running());
        }
        match &self.target.device.source {
            Source::Unserved(_) => Err(JoinError::Unavailable(Box::new(self.state.clone()))),
            _ => Ok(()),
        }
    }

    /// Sets the state by all that is known.
    fn show_display(&mut self) {
        let set = |shared: &mut Self, availability, detail: &str| {
            shared.set_availability(availability, detail, None);
        };
        if !self.target.connected {
            let trouble = self.target.trouble.clone();
            return set(self, Availability::Lost, &trouble);
        }
        if let Source::Unserved(why) = self.target.device.source.clone() {
            return set(self, Availability::Unsupported, &why);
        }
        let Some(instance) = self.instance else {
            return set(self, Availability::Waiting, "the VM is off");
        };
        if self.displayed.relays > 0 {
            return set(self, Availability::Attached, "");
        }
        match self.displayed.failed.clone() {
            Some((at, availability, detail)) if at == instance => set(self, availability, &detail),
            _ => {
                let known = self.state.availability == Availability::Ready;
                let checked = self.state.checked.filter(|_| known);
                set(self, Availability::Ready, "");
                self.state.checked = checked.or_else(|| Some(SystemTime::now()));
            }
        }
    }
}
