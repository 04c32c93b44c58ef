//! Tells whether a QEMU process is still there, by its id and the time at which it started,
//! since ids are used again. It never signals anything.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a process whose sockets were closed may take to end. Its descriptors are closed
/// some milliseconds before it is gone; with much memory to give back, up to seconds.
const ENDING: Duration = Duration::from_secs(2);
/// The first pause between two looks; it doubles.
const FIRST_LOOK: Duration = Duration::from_millis(2);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// One process, told apart from all others since the host's boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Its id.
    pub(super) id: u32,
    /// When it started, in clock ticks since boot.
    pub(super) started: u64,
}

/// What Linux says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    started: u64,
}

impl Process {
    /// The process of this id; `None` if there is none, or it cannot be seen from here.
    pub(super) fn of(id: u32) -> Option<Self> {
        let started = stat(id)?.started;
        Some(Self { id, started })
    }

    /// Whether it has not ended.
    pub(super) fn lives(self) -> bool {
        self.state()
            .is_some_and(|state| !matches!(state, 'Z' | 'X'))
    }

    /// Whether it is stopped, by a signal or a debugger.
    pub(super) fn is_stopped(self) -> bool {
        matches!(self.state(), Some('T' | 't'))
    }

    /// Waits until it has ended; tells whether it did in good time.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn ends_soon(self) -> bool {
        let deadline = Instant::now() + ENDING;
        let mut pause = FIRST_LOOK;
        while self.lives() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        true
    }

    fn state(self) -> Option<char> {
        let stat = stat(self.id)?;
        (stat.started == self.started).then_some(stat.state)
    }
}

fn stat(id: u32) -> Option<Stat> {
    parse(&std::fs::read(format!("/proc/{id}/stat")).ok()?)
}

/// Reads `/proc/PID/stat` (proc(5)). The second field, a command's name in parentheses, is
/// chosen by the process, and may hold anything.
fn parse(bytes: &[u8]) -> Option<Stat> {
    let end = bytes.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(bytes.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // The state is field 3, the start time field 22.
    let started = fields.nth(22 - 4)?.parse().ok()?;
    Some(Stat { state, started })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn this_process_lives_and_another_of_its_id_does_not() {
        let own = Process::of(std::process::id()).unwrap();
        assert!(own.lives());
        assert!(!own.is_stopped());
        let earlier = Process {
            started: own.started + 1,
            ..own
        };
        assert!(!earlier.lives());
    }

    #[tokio::test]
    async fn an_ended_child_has_ended_before_it_is_waited_for() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.lives());
        child.kill().unwrap();
        assert!(process.ends_soon().await);
        child.wait().unwrap();
        assert!(!process.lives());
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_lives_on_is_given_all_the_time_there_is() {
        let own = Process::of(std::process::id()).unwrap();
        let before = Instant::now();
        assert!(!own.ends_soon().await);
        let waited = before.elapsed();
        assert!(waited >= ENDING, "{waited:?}");
        assert!(waited < ENDING + Duration::from_millis(100), "{waited:?}");
    }

    proptest! {
        #[test]
        fn a_commands_name_hides_nothing(name in "[ ()A-Z0-9]{0,16}", started: u64) {
            let zeros = "0 ".repeat(18);
            let text = format!("42 ({name}) S {zeros}{started} 1 2 3");
            let expected = Stat { state: 'S', started };
            prop_assert_eq!(parse(text.as_bytes()), Some(expected));
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&bytes);
        }
    }
}
