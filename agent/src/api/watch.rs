//! `WatchConsoles`: every console, a mark, and then changes, joined.
//!
//! A watcher is told the difference between what it was last told and what is now, so a
//! slow one costs no more than a fast one: there is no queue of changes to grow.

use std::collections::{BTreeMap, VecDeque};
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
use crate::console::{self, Directory};
use crate::core::id::ConsoleId;
use crate::core::reason::Reason;

/// Changes within this time are told together.
const JOINED: Duration = Duration::from_millis(50);

/// What of a console counts as a change: all but output, input and their times.
#[derive(Debug, PartialEq, Eq)]
struct Told(console::Status);

impl Told {
    fn of(status: &console::Status) -> Self {
        Self(console::Status {
            oldest: None,
            head: None,
            last_output: None,
            last_input: None,
            ..status.clone()
        })
    }
}

/// One watcher.
pub(super) struct Watcher {
    pub(super) filter: Filter,
    pub(super) directory: watch::Receiver<Arc<Directory>>,
    pub(super) listed: watch::Receiver<u64>,
    pub(super) draining: CancellationToken,
    pub(super) permit: OwnedSemaphorePermit,
}

struct State {
    watcher: Watcher,
    told: BTreeMap<ConsoleId, Told>,
    due: VecDeque<Event>,
    /// Whether there was a first comparison.
    begun: bool,
    synced: bool,
    ended: bool,
}

/// What the watcher hears until it leaves or the agent stops.
pub(super) fn responses(
    watcher: Watcher,
) -> impl Stream<Item = Result<v1::WatchConsolesResponse, Status>> + Send {
    let state = State {
        watcher,
        told: BTreeMap::new(),
        due: VecDeque::new(),
        begun: false,
        synced: false,
        ended: false,
    };
    stream::unfold(state, |mut state| async move {
        let item = state.next().await?;
        Some((item, state))
    })
}

impl State {
    async fn next(&mut self) -> Option<Result<v1::WatchConsolesResponse, Status>> {
        if self.ended {
            return None;
        }
        loop {
            if let Some(event) = self.due.pop_front() {
                let event = Some(event);
                return Some(Ok(v1::WatchConsolesResponse {
                    event,
                    version: String::new(),
                }));
            }
            if self.begun && !self.wait().await {
                self.ended = true;
                return Some(Err(status(Reason::AgentDraining, "the agent is stopping")));
            }
            self.compare();
        }
    }

    /// Waits for a change, and a moment longer for others. False when the agent stops.
    async fn wait(&mut self) -> bool {
        tokio::select! {
            biased; // to stop comes before everything
            () = self.watcher.draining.cancelled() => false,
            changed = self.watcher.listed.changed() => {
                tokio::time::sleep(JOINED).await;
                changed.is_ok()
            }
        }
    }

    fn compare(&mut self) {
        self.watcher.listed.borrow_and_update();
        let directory = self.watcher.directory.borrow_and_update().clone();
        let mut gone = std::mem::take(&mut self.told);
        for (id, console) in directory.consoles() {
            let status = console.status();
            if !self.watcher.filter.admits(&status) {
                continue;
            }
            let now = Told::of(&status);
            if gone.remove(id).as_ref() != Some(&now) {
                self.due
                    .push_back(Event::Changed(convert::console(&status)));
            }
            self.told.insert(id.clone(), now);
        }
        for (id, _) in gone {
            let removed = v1::ConsoleRemoved {
                vm_uuid: id.vm.to_string(),
                alias: id.alias.to_string(),
            };
            self.due.push_back(Event::Removed(removed));
        }
        // Before the hypervisor was read whole, nobody knows what there is.
        if directory.synced && !self.synced {
            self.synced = true;
            self.due.push_back(Event::Synced(v1::Synced {}));
        }
        self.begun = true;
        // Held as long as the watcher is.
        let _ = &self.watcher.permit;
    }
}
