//! `WatchConsoles`: every console, a mark, and then changes, joined.
//!
//! A watcher keeps its place in the book of changes and nothing of what it told. What it tells
//! of a console is how that is now, so a slow one costs no more than a fast one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use vmconsole_proto::v1;
use vmconsole_proto::v1::watch_consoles_response::Event;

use super::convert;
use super::list::Filter;
use super::refusal::status;
use crate::console::{ChangeBook, Directory, Place};
use crate::core::changes::Step;
use crate::core::id::ConsoleId;
use crate::core::reason::Reason;

/// Changes within this time are told together.
const JOINED: Duration = Duration::from_millis(50);

/// How many consoles may be passed over at once, without a look at whether to stop.
const PASSED_OVER: usize = 256;

/// One watcher.
pub(super) struct Watcher {
    pub(super) filter: Filter,
    pub(super) directory: watch::Receiver<Arc<Directory>>,
    pub(super) book: Arc<ChangeBook>,
    pub(super) place: Place,
    pub(super) news: watch::Receiver<u64>,
    pub(super) draining: CancellationToken,
    /// Held as long as the watcher is.
    pub(super) _permit: OwnedSemaphorePermit,
}

/// What the watcher hears until it leaves or the agent stops.
pub(super) fn responses(
    watcher: Watcher,
) -> impl Stream<Item = Result<v1::WatchConsolesResponse, Status>> + Send {
    stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        match watcher.next().await {
            Some(response) => Some((Ok(response), Some(watcher))),
            None => {
                let stopping = status(Reason::AgentDraining, "the agent is stopping");
                Some((Err(stopping), None))
            }
        }
    })
}

impl Watcher {
    /// What to tell next. `None`: the agent stops.
    async fn next(&mut self) -> Option<v1::WatchConsolesResponse> {
        loop {
            if self.draining.is_cancelled() {
                return None;
            }
            for _ in 0..PASSED_OVER {
                let (step, version) = self.book.next(&mut self.place);
                if step == Step::Nothing {
                    self.wait().await?;
                } else if let Some(event) = self.event(step) {
                    let event = Some(event);
                    return Some(v1::WatchConsolesResponse { event, version });
                }
            }
            // A filter that lets little through keeps no thread from others.
            tokio::task::yield_now().await;
        }
    }

    /// Waits for a change, and a moment longer for others. `None` when the agent stops.
    async fn wait(&mut self) -> Option<()> {
        let changed = async {
            // Its sender is in the book.
            let _ = self.news.changed().await;
            tokio::time::sleep(JOINED).await;
        };
        tokio::select! {
            biased; // to stop comes before everything
            () = self.draining.cancelled() => return None,
            () = changed => {}
        }
        self.news.mark_unchanged();
        self.book.renew(&mut self.place);
        Some(())
    }

    /// What is told of this step, if anything is.
    fn event(&self, step: Step<ConsoleId>) -> Option<Event> {
        match step {
            Step::Reset(_) => Some(Event::Reset(v1::WatchReset {})),
            Step::Synced => Some(Event::Synced(v1::Synced {})),
            Step::Nothing => None,
            Step::Removed(id) => Some(removed(&id)),
            Step::Changed { key: id, sweep } => {
                let console = self.directory.borrow().console(&id).cloned();
                // If it is gone by now, that is told when its turn comes.
                let status = console?.status();
                if self.filter.admits(&status) {
                    Some(Event::Changed(convert::console(&status)))
                } else {
                    // Whether it was within the filter before, nobody remembers.
                    (!sweep).then(|| removed(&id))
                }
            }
        }
    }
}

fn removed(id: &ConsoleId) -> Event {
    Event::Removed(v1::ConsoleRemoved {
        vm_uuid: id.vm.to_string(),
        alias: id.alias.to_string(),
    })
}
