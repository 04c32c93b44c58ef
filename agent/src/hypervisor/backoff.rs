//! How long to wait before the next try. Pure: whoever uses it brings the randomness.

use std::time::Duration;

/// The first wait.
pub(in crate::hypervisor) const FIRST: Duration = Duration::from_millis(100);
/// The longest wait for libvirtd. It bounds how long a console stays away after libvirtd is
/// back, which is to be under three seconds all told.
pub(in crate::hypervisor) const LONGEST_CONNECT: Duration = Duration::from_secs(1);
/// The longest wait before a VM that could not be read from libvirt is read again.
pub(in crate::hypervisor) const LONGEST_READ: Duration = Duration::from_secs(30);
/// The longest wait before a QMP socket that was not served is tried again.
pub(in crate::hypervisor) const LONGEST_SOCKET: Duration = Duration::from_secs(5);

/// Waits that double from [`FIRST`] up to a limit, each shortened at random by up to a half,
/// so that agents that lost something together do not come back together.
#[derive(Clone, Debug)]
pub(in crate::hypervisor) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Starts over with [`FIRST`]; `longest` bounds every wait.
    pub(in crate::hypervisor) const fn new(longest: Duration) -> Self {
        Self {
            next: FIRST,
            longest,
        }
    }

    /// The next wait. `random` is any number; which one decides how much it is shortened.
    pub(in crate::hypervisor) fn next(&mut self, random: u32) -> Duration {
        let full = self.next.min(self.longest);
        self.next = full.saturating_mul(2).min(self.longest);
        full - full.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
    }

    /// Starts over: what was tried has worked.
    pub(in crate::hypervisor) const fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_grow_and_stay_within_bounds(randoms in prop::collection::vec(any::<u32>(), 1..80)) {
            let mut backoff = Backoff::new(LONGEST_CONNECT);
            let mut full = FIRST;
            for random in randoms {
                let wait = backoff.next(random);
                prop_assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
                full = (full * 2).min(LONGEST_CONNECT);
            }
            backoff.reset();
            prop_assert_eq!(backoff.next(0), FIRST);
        }
    }
}
