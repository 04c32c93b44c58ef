//! The one place that spawns tasks, and the one that waits for them to end.
//!
//! Every task has a name, belongs to a group, and is told to stop by the group's token.
//! It refuses to hide a panic: the panic is logged with the task's name, ends that task
//! alone, and shows in its join handle.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// A group of tasks that are stopped and awaited together.
///
/// Clones are the same group. Groups form a tree by [`Tasks::child`]: stopping a group
/// stops those below it, and waiting for a group waits for those below it.
#[derive(Clone, Debug)]
pub struct Tasks {
    group: Arc<Group>,
}

#[derive(Debug)]
struct Group {
    tracker: TaskTracker,
    token: CancellationToken,
    /// How many tasks of each name run, here and below: what a missed deadline names.
    running: Mutex<BTreeMap<&'static str, usize>>,
    parent: Option<Arc<Group>>,
}

impl Tasks {
    /// A new root group.
    #[expect(
        clippy::new_without_default,
        reason = "a group of tasks is made where it is owned"
    )]
    pub fn new() -> Self {
        Self::with(CancellationToken::new(), None)
    }

    /// A group below this one: it can be stopped and awaited by itself, and is stopped
    /// and awaited with this one.
    pub fn child(&self) -> Self {
        Self::with(
            self.group.token.child_token(),
            Some(Arc::clone(&self.group)),
        )
    }

    fn with(token: CancellationToken, parent: Option<Arc<Group>>) -> Self {
        let tracker = TaskTracker::new();
        let running = Mutex::default();
        Self {
            group: Arc::new(Group {
                tracker,
                token,
                running,
                parent,
            }),
        }
    }

    /// The token that tells this group's tasks to stop. A task that ends by itself need
    /// not look at it; any other must.
    pub fn token(&self) -> CancellationToken {
        self.group.token.clone()
    }

    /// Spawns a task that runs until it ends by itself. `name` is a fixed word or two for
    /// logs. The returned handle may be dropped: the group awaits the task.
    ///
    /// A panic in `future` is logged with the name and ends this task alone; the handle
    /// then gives a [`tokio::task::JoinError`].
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that spawns"
    )]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let membership = Membership::new(&self.group, name);
        let caught = AssertUnwindSafe(future).catch_unwind();
        // Not an async block: it would have room for the future twice, for what it is given and
        // for what it awaits, and there is a task for each stream.
        tokio::spawn(caught.map(move |ended| {
            // Held until the future has ended, been aborted, or panicked.
            let _membership = membership;
            match ended {
                Ok(output) => output,
                Err(payload) => {
                    report_panic(name, &*payload);
                    // The runtime catches it again and puts it into the join handle. The
                    // panic hook, which has run, does not run twice.
                    resume_unwind(payload)
                }
            }
        }))
    }

    /// Spawns a task that is aborted when the returned handle is dropped. Otherwise as
    /// [`Tasks::spawn`].
    pub fn spawn_owned<F>(&self, name: &'static str, future: F) -> AbortOnDropHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        AbortOnDropHandle::new(self.spawn(name, future))
    }

    /// Computes on a thread for such work, so that no task waits for a worker meanwhile. It
    /// cannot be told to stop: it is to end by itself, within seconds, and whoever calls this
    /// sees to it that only a few do so at once. A panic is as in [`Tasks::spawn`].
    ///
    /// # Errors
    /// [`tokio::task::JoinError`] after a panic.
    ///
    /// # Cancel safety
    /// If dropped, it goes on, and what it gives is lost.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that spawns, and it calls nothing that may hang"
    )]
    pub async fn compute<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        let membership = Membership::new(&self.group, name);
        let work = move || {
            let _membership = membership;
            std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
                report_panic(name, &*payload);
                resume_unwind(payload)
            })
        };
        tokio::task::spawn_blocking(work).await
    }

    /// Tells the tasks of this group and of those below it to stop. Does not wait; call
    /// [`Tasks::drained`] next.
    pub fn close(&self) {
        self.group.tracker.close();
        self.group.token.cancel();
    }

    /// Waits until no task of this group, or of one below it, runs any longer, or until
    /// `deadline` has passed; logs which of the two happened, and answers whether it was
    /// the first. Tells nobody to stop: that is [`Tasks::close`].
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped; it may be called again.
    pub async fn drained(&self, deadline: Duration) -> bool {
        self.group.tracker.close();
        let seconds = deadline.as_secs_f64();
        if tokio::time::timeout(deadline, self.group.tracker.wait())
            .await
            .is_ok()
        {
            tracing::debug!("all tasks ended");
            return true;
        }
        let left = self.running();
        tracing::warn!(
            deadline.seconds = seconds,
            ?left,
            "tasks still ran at the deadline"
        );
        false
    }

    /// How many tasks of each name run in this group and below it.
    pub fn running(&self) -> BTreeMap<&'static str, usize> {
        self.group.running.lock().clone()
    }
}

/// One task's place in its group and in all groups above it. Dropping it leaves them.
struct Membership {
    name: &'static str,
    groups: Vec<(Arc<Group>, TaskTrackerToken)>,
}

impl Membership {
    fn new(group: &Arc<Group>, name: &'static str) -> Self {
        let mut groups = Vec::new();
        let mut next = Some(group);
        while let Some(group) = next {
            *group.running.lock().entry(name).or_insert(0) += 1;
            groups.push((Arc::clone(group), group.tracker.token()));
            next = group.parent.as_ref();
        }
        Self { name, groups }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        for (group, _) in &self.groups {
            let mut running = group.running.lock();
            if let Some(count) = running.get_mut(self.name) {
                *count -= 1;
                if *count == 0 {
                    running.remove(self.name);
                }
            }
        }
    }
}

/// Logs a panic by the task's name. A payload with formatted text is left out, since it
/// may quote what a guest or a peer sent; a literal one cannot.
fn report_panic(name: &'static str, payload: &(dyn Any + Send)) {
    let literal = payload.downcast_ref::<&'static str>().copied();
    let text = literal.unwrap_or("(withheld)");
    tracing::error!(
        task = name,
        panic.text = text,
        "a task panicked: a fault in the agent"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_closed_group_ends_with_its_tasks() {
        let tasks = Tasks::new();
        let token = tasks.token();
        let task = tasks.spawn("waiter", async move {
            token.cancelled().await;
            7
        });
        assert_eq!(tasks.running(), BTreeMap::from([("waiter", 1)]));
        tasks.close();
        assert!(tasks.drained(SOON).await);
        assert_eq!(task.await.expect("it ended by itself"), 7);
        assert!(tasks.running().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_told_of_at_the_deadline() {
        let tasks = Tasks::new();
        let _task = tasks.spawn_owned("stubborn", std::future::pending::<()>());
        tasks.close();
        let before = tokio::time::Instant::now();
        assert!(!tasks.drained(SOON).await);
        assert_eq!(before.elapsed(), SOON);
        assert_eq!(tasks.running(), BTreeMap::from([("stubborn", 1)]));
    }

    #[tokio::test]
    async fn a_panic_ends_one_task_and_is_logged_by_its_name() {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let writer = Arc::new(log.reopen().expect("opens again"));
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(writer);
        let _guard = tracing::subscriber::set_default(subscriber.finish());
        let tasks = Tasks::new();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let bad = tasks.spawn("bad", async { panic!("on purpose: {}", 1 + 1) });
        let good = tasks.spawn("good", receiver);
        let error = bad.await.map(|(): ()| ()).expect_err("it panicked");
        assert!(error.is_panic());
        sender.send(1).expect("the other task still runs");
        assert_eq!(good.await.expect("no panic").expect("sent"), 1);
        assert!(tasks.drained(SOON).await);
        let log = std::fs::read_to_string(log.path()).expect("UTF-8");
        assert!(
            log.contains("task=\"bad\" panic.text=\"(withheld)\""),
            "{log}"
        );
        let bad = tasks.compute("bad sum", || panic!("on purpose")).await;
        assert!(bad.map(|(): ()| ()).expect_err("it panicked").is_panic());
        let good = tasks.compute("good sum", || 1 + 1).await;
        assert_eq!(good.expect("it computes"), 2);
    }

    #[tokio::test]
    async fn computing_goes_on_when_it_is_left_and_is_awaited_by_the_group() {
        let tasks = Tasks::new();
        let (release, held) = std::sync::mpsc::sync_channel::<i32>(1);
        let mut computing = Box::pin(tasks.compute("sum", move || held.recv().map(|n| n + 1)));
        tokio::select! {
            biased; // it is polled, and so begun, before it is left
            _ = &mut computing => panic!("nobody released it"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(tasks.running(), BTreeMap::from([("sum", 1)]));
        drop(computing);
        assert_eq!(tasks.running(), BTreeMap::from([("sum", 1)]), "it goes on");
        release.send(1).expect("it still runs");
        assert!(tasks.drained(SOON).await);
    }

    #[tokio::test]
    async fn dropping_an_owned_task_aborts_it() {
        let tasks = Tasks::new();
        let task = tasks.spawn_owned("owned", std::future::pending::<()>());
        drop(task);
        assert!(tasks.drained(SOON).await);
        assert!(
            !tasks.token().is_cancelled(),
            "draining alone tells nobody to stop"
        );
    }

    #[tokio::test]
    async fn a_child_stops_alone_and_is_awaited_by_its_parent() {
        let tasks = Tasks::new();
        let child = tasks.child();
        let (upper, lower) = (tasks.token(), child.token());
        let _a = tasks.spawn("upper", async move { upper.cancelled().await });
        let _b = child.spawn("lower", async move { lower.cancelled().await });
        assert_eq!(
            tasks.running(),
            BTreeMap::from([("lower", 1), ("upper", 1)])
        );

        child.close();
        assert!(child.drained(SOON).await);
        assert!(!tasks.token().is_cancelled());
        assert_eq!(tasks.running(), BTreeMap::from([("upper", 1)]));

        let late = tasks.child();
        let token = late.token();
        let _c = late.spawn("late", async move { token.cancelled().await });
        tasks.close();
        assert!(tasks.drained(SOON).await);
        assert!(late.token().is_cancelled());
    }
}
