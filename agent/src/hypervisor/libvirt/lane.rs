//! Work that may wait on libvirt, one piece after another, on a thread of its own that is
//! there only while there is work. A lane never shares its thread: what hangs in it holds
//! up that lane alone.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long a lane's thread waits for more work before it ends. A person who types keeps it.
const LINGER: Duration = Duration::from_secs(5);
/// The most pieces of work that may wait in a lane.
const MAX_WAITING: usize = 8;
/// A lane thread's stack. libvirt's client needs little, and mere address space costs little.
const STACK_BYTES: usize = 512 << 10;

/// One piece of work.
type Job = Box<dyn FnOnce() + Send>;

/// Work was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    /// [`MAX_WAITING`] pieces wait already.
    #[error("too much waits for libvirt already")]
    Full,
    /// The thread could not be started.
    #[error("no thread could be started: raise the agent's limit of tasks")]
    NoThread(#[source] std::io::Error),
}

/// A sequence of work. Clones append to the same one.
#[derive(Clone)]
pub(super) struct Lane {
    owner: Arc<Owner>,
}

/// All who may append. When the last is gone, the thread need not linger.
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.queue.lock().last = true;
        self.shared.wake.notify_one();
    }
}

struct Shared {
    name: String,
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Whether a thread serves the lane.
    served: bool,
    /// Whether nothing more will be appended.
    last: bool,
}

impl Lane {
    /// An empty lane, with no thread yet. The kernel shows 15 bytes of `name`.
    pub(super) fn new(name: &str) -> Self {
        let shared = Shared {
            name: name.to_owned(),
            queue: Mutex::default(),
            wake: Condvar::new(),
        };
        Self {
            owner: Arc::new(Owner {
                shared: Arc::new(shared),
            }),
        }
    }

    /// Appends work. It runs even if the lane is dropped meanwhile.
    ///
    /// # Errors
    /// See [`LaneError`]; the work is dropped without having run.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) -> Result<(), LaneError> {
        let shared = &self.owner.shared;
        let mut queue = shared.queue.lock();
        if queue.jobs.len() == MAX_WAITING {
            return Err(LaneError::Full);
        }
        if !queue.served {
            let served = Arc::clone(shared);
            thread::Builder::new()
                .name(shared.name.clone())
                .stack_size(STACK_BYTES)
                .spawn(move || served.serve())
                .map_err(LaneError::NoThread)?;
            queue.served = true;
        }
        queue.jobs.push_back(Box::new(job));
        shared.wake.notify_one();
        Ok(())
    }
}

impl Shared {
    fn serve(&self) {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!(lane = %self.name, "work on a libvirt thread panicked");
                }
                queue = self.queue.lock();
                continue;
            }
            let waited = queue.last || self.wake.wait_for(&mut queue, LINGER).timed_out();
            if waited && queue.jobs.is_empty() {
                queue.served = false;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn work_runs_in_order_and_a_panic_ends_only_itself() {
        let lane = Lane::new("test-lane");
        let (tell, told) = sync_channel(4);
        for number in 0..3 {
            let tell = tell.clone();
            lane.run(move || {
                tell.send(number).unwrap();
                assert_ne!(number, 1, "on purpose");
            })
            .unwrap();
        }
        let got: Vec<i32> = (0..3).map(|_| told.recv_timeout(SOON).unwrap()).collect();
        assert_eq!(got, [0, 1, 2]);
    }

    #[test]
    fn what_waits_is_bounded_and_one_lane_does_not_hold_up_another() {
        let (stuck, other) = (Lane::new("stuck"), Lane::new("other"));
        let (release, released) = sync_channel::<()>(0);
        let (tell, told) = sync_channel(2);
        let started = tell.clone();
        stuck
            .run(move || {
                started.send("stuck").unwrap();
                released.recv_timeout(SOON).unwrap();
            })
            .unwrap();
        assert_eq!(told.recv_timeout(SOON), Ok("stuck"));
        for _ in 0..MAX_WAITING {
            stuck.run(|| ()).unwrap();
        }
        assert!(matches!(stuck.run(|| ()), Err(LaneError::Full)));
        other.run(move || tell.send("other").unwrap()).unwrap();
        assert_eq!(told.recv_timeout(SOON), Ok("other"));
        release.send(()).unwrap();
    }
}
