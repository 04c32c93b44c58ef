//! Bounded waits for a condition or a value: the one place of the tests that
//! polls. It refuses to wait for time itself to pass.

use std::time::{Duration, Instant};

/// Pause between two looks at the condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until `holds` returns true.
///
/// # Panics
/// When it does not within `bound`; `what` says what was waited for.
#[track_caller]
pub fn until(what: &str, bound: Duration, mut holds: impl FnMut() -> bool) {
    value(what, bound, || holds().then_some(()));
}

/// Waits until `look` returns a value, and returns it.
///
/// # Panics
/// When it does not within `bound`; `what` says what was waited for.
#[track_caller]
pub fn value<T>(what: &str, bound: Duration, look: impl FnMut() -> Option<T>) -> T {
    match try_value(bound, look) {
        Some(value) => value,
        None => panic!("waited {bound:?} in vain for: {what}"),
    }
}

/// Waits until `look` returns a value; `None` when it did not within `bound`.
/// `look` is asked at least once, and once more when the time is up.
pub fn try_value<T>(bound: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + bound;
    loop {
        let late = Instant::now() >= deadline;
        if let Some(value) = look() {
            return Some(value);
        }
        if late {
            return None;
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pause of every bounded wait, in one place"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_comes_late_is_returned() {
        let mut looks = 0;
        let value = value("the third look", Duration::from_secs(10), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(value, 3);
    }

    #[test]
    fn a_value_that_never_comes_ends_at_the_bound() {
        let begin = Instant::now();
        assert_eq!(try_value(Duration::from_millis(50), || None::<()>), None);
        assert!(begin.elapsed() >= Duration::from_millis(50));
    }
}
