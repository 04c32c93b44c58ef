//! How long a pump waits between its tries to attach. Says nothing of why they fail.

use std::time::Duration;

use crate::console::state::Availability;

/// The pause before the first new try after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between tries, but for [`JITTER`].
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The same where another process holds the console: a console is back in service within five
/// seconds of being free, [`JITTER`] and the time to attach included.
const LONGEST_PAUSE_HELD: Duration = Duration::from_secs(3);

/// The same where the agent may not open the console, or cannot: that changes when somebody
/// changes it, and each try is a new connection for libvirt.
const LONGEST_PAUSE_REFUSED: Duration = Duration::from_secs(60);

/// By how large a part a pause varies, so that the consoles of a host do not try all at once.
const JITTER: f64 = 0.2;

/// Twice as long each time.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
}

impl Pauses {
    pub(super) const fn new() -> Self {
        Self { next: FIRST_PAUSE }
    }

    /// Something has changed: the next pause is the first again.
    pub(super) const fn start_anew(&mut self) {
        self.next = FIRST_PAUSE;
    }

    /// The next pause, after a try that left the console so.
    pub(super) fn next(&mut self, availability: Availability) -> Duration {
        let longest = match availability {
            Availability::HeldByOther => LONGEST_PAUSE_HELD,
            Availability::Denied | Availability::Unsupported => LONGEST_PAUSE_REFUSED,
            _ => LONGEST_PAUSE,
        };
        let pause = self.next.min(longest);
        self.next = (pause * 2).min(LONGEST_PAUSE_REFUSED);
        pause.mul_f64(rand::random_range(1.0 - JITTER..=1.0 + JITTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_console_is_tried_again_within_four_seconds_however_long_it_is_held() {
        let mut pauses = Pauses::new();
        let held = Availability::HeldByOther;
        for (availability, longest) in [
            (Availability::Denied, 72),
            (Availability::Lost, 6),
            (held, 4),
        ] {
            for _ in 0..1000 {
                let pause = pauses.next(availability);
                assert!(pause <= Duration::from_secs(longest), "{pause:?}");
            }
            assert!(pauses.next(availability) > Duration::from_secs(longest / 2));
        }
        pauses.start_anew();
        assert!(pauses.next(held) < FIRST_PAUSE * 2);
        let third = [pauses.next(held), pauses.next(held)][1];
        assert!(
            third > FIRST_PAUSE * 3,
            "{third:?}: a console that stays held is not hammered"
        );
    }
}
