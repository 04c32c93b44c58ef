//! A timer that is exact to some tens of microseconds: the runtime's own counts milliseconds,
//! and in one of those a console's socket may fill.

use std::io;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

use super::ffi::{Timer, watch_timer};

/// Rests, one after another.
pub(super) struct Rests(AsyncFd<Timer>);

impl Rests {
    /// Within a runtime.
    ///
    /// # Errors
    /// The system's, if there are no descriptors left.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        Ok(Self(watch_timer(timer)?))
    }

    /// Lets `rest` pass.
    ///
    /// # Errors
    /// The system's.
    ///
    /// # Cancel safety
    /// A rest that was given up does not shorten the next.
    pub(super) async fn rest(&mut self, rest: Duration) -> io::Result<()> {
        let expiration = Expiration::OneShot(TimeSpec::from_duration(rest));
        let timer = self.0.get_ref().timer();
        timer.set(expiration, TimerSetTimeFlags::empty())?;
        loop {
            let mut ready = self.0.readable().await?;
            // An expiry of the rest before is told by the readiness, but not by a read.
            if let Ok(expired) = ready.try_io(|timer| Ok(timer.get_ref().timer().wait()?)) {
                return expired;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[tokio::test]
    async fn rests_last_as_long_as_they_should_whatever_was_given_up_before() {
        let mut rests = Rests::new().unwrap();
        let short = Duration::from_micros(300);
        for _ in 0..20 {
            let begun = Instant::now();
            rests.rest(short).await.unwrap();
            assert!(begun.elapsed() >= short);
            let long = Duration::from_secs(60);
            let given_up = tokio::time::timeout(Duration::from_millis(1), rests.rest(long)).await;
            assert!(given_up.is_err());
        }
    }
}
