//! Judges news of a VM by where its console is attached, or about to be: whether that is still
//! the place. It attaches nothing and lets nothing go.

use tokio::sync::watch;

use crate::console::live::Console;
use crate::console::state::{Availability, Target};
use crate::endpoint::Source;
use crate::hypervisor::Instance;

/// Where a console is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// To which run of its VM's QEMU.
    pub(super) instance: Instance,
    /// To which of that QEMU's devices: what bears a console's alias may be another one once a
    /// device was unplugged.
    pub(super) source: Source,
}

/// How a place is not the console's any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// The VM's QEMU is another one, or gone.
    OtherInstance,
    /// The console is another device of the same QEMU.
    OtherSource,
}

impl Place {
    fn moved(&self, target: &Target) -> Option<Moved> {
        if target.instance != Some(self.instance) {
            Some(Moved::OtherInstance)
        } else if target.device.source != self.source {
            Some(Moved::OtherSource)
        } else {
            None
        }
    }
}

/// Waits, while `console` is being attached at `place`, for news that make that pointless: the
/// VM is off or another one, or nobody knows. Other news are told, and waited on.
///
/// # Cancel safety
/// `target` may have taken note of news.
pub(super) async fn overtaken(
    console: &Console,
    mut target: watch::Receiver<Target>,
    place: &Place,
) {
    while target.changed().await.is_ok() {
        let now = target.borrow_and_update().clone();
        console.set_target(&now);
        if !now.connected || !now.vm_state.has_console() || place.moved(&now).is_some() {
            return;
        }
    }
}

/// Waits for news while `console` is attached at `place`, and tells whether it has moved.
///
/// # Cancel safety
/// No news are lost.
pub(super) async fn of_attached(
    console: &Console,
    target: &mut watch::Receiver<Target>,
    place: &Place,
) -> Option<Moved> {
    if target.changed().await.is_err() {
        return Some(Moved::OtherInstance);
    }
    let target = target.borrow_and_update().clone();
    console.set_target(&target);
    if target.connected {
        console.set_availability(Availability::Attached, "", None);
        place.moved(&target)
    } else {
        // A hypervisor that hangs says nothing on its streams: nobody knows if this one is
        // alive. One that is gone ends its attachments itself.
        console.set_availability(Availability::Lost, &target.trouble, None);
        None
    }
}
