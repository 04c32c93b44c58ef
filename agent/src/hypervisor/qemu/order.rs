//! What is to be done to a QEMU, on its way to the task that has its monitor.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::core::id::VmUuid;
use crate::core::keys::KeyPress;
use crate::hypervisor::{EffectError, Instance};

/// The most orders that wait for one QEMU.
pub(super) const MAX_ORDERS: usize = 8;

/// Which run of which VM's QEMU it is to be done to: another one may be behind the same socket
/// by the time that the order is taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The VM.
    pub(super) uuid: VmUuid,
    /// The run.
    pub(super) instance: Instance,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Deed {
    /// A break on the line of the chardev of this label.
    Break(String),
    /// Keys, pressed.
    Keys(KeyPress),
    /// A non-maskable interrupt.
    Nmi,
    /// A picture of this screen; it is the answer.
    Screenshot(u32),
    /// The first VNC display is to serve this end of a connection, and to ask for nothing.
    ServeDisplay(OwnedFd),
}

/// Something to be done, and whom to tell how it went.
#[derive(Debug)]
pub(super) struct Order {
    /// To whom, and to nobody else.
    pub(super) target: Target,
    /// What.
    pub(super) deed: Deed,
    /// Told the picture, or nothing. Nobody may listen any more.
    pub(super) done: oneshot::Sender<Result<Vec<u8>, EffectError>>,
}

/// Has `deed` done to `target` and waits for the outcome, at most `limit`.
///
/// # Errors
/// See [`EffectError`].
///
/// # Cancel safety
/// If dropped, it may or may not be done.
pub(super) async fn give(
    orders: &mpsc::Sender<Order>,
    target: Target,
    deed: Deed,
    limit: Duration,
) -> Result<Vec<u8>, EffectError> {
    let unreachable = |why: &str| EffectError::Unreachable(why.to_owned());
    let (done, outcome) = oneshot::channel();
    orders
        .try_send(Order { target, deed, done })
        .map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                EffectError::Busy("too much waits for this VM's monitor already")
            }
            mpsc::error::TrySendError::Closed(_) => EffectError::NotRunning,
        })?;
    match tokio::time::timeout(limit, outcome).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(unreachable("its monitor was lost meanwhile")),
        Err(_) => Err(unreachable("its monitor did not answer: see if QEMU hangs")),
    }
}
