//! What a hypervisor does to a VM beside carrying its console's bytes, and why it could not.

/// The most bytes of one picture, as the hypervisor gives it: more than 4096 times 4096 points
/// of three bytes.
pub const MAX_SCREENSHOT_BYTES: usize = 64 * 1024 * 1024;

/// Why a side effect did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EffectError {
    /// The VM is off.
    #[error("the VM is not running")]
    NotRunning,
    /// The VM or the console is not known (any longer).
    #[error("no such VM or console: {0}")]
    NotFound(String),
    /// The agent lacks the permission.
    #[error("permission denied: {0}")]
    Denied(String),
    /// The VM has no device for it, or the hypervisor cannot do it.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// As much as may wait for the VM waits already. Nothing was done.
    #[error("{0}: try again in a moment")]
    Busy(&'static str),
    /// The hypervisor or the console cannot be asked. Nothing was done, and nothing will be.
    #[error("nothing was done: {0}")]
    NotDone(String),
    /// The hypervisor did not answer in time, or failed. It may have been done.
    #[error("the hypervisor did not do it: {0}")]
    Unreachable(String),
}

/// A picture as the hypervisor gives it: PPM or PNG, at most [`MAX_SCREENSHOT_BYTES`] long, and
/// as yet unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screenshot(pub Vec<u8>);

/// What a hypervisor answers that has no such thing.
pub(super) fn unsupported() -> EffectError {
    EffectError::Unsupported("this hypervisor has no such thing".to_owned())
}
