//! The clock that timers go by: the runtime's, which tests may pause. It decides nothing.

use std::time::Instant;

/// Now, as tokio's timers have it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Waits until `time`; for ever, and without a timer, if there is none.
///
/// # Cancel safety
/// Nothing is lost.
pub(crate) async fn at(time: Option<impl Into<tokio::time::Instant>>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
