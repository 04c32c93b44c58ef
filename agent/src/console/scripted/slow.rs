//! A line that takes bytes later than a write hands them to it, as libvirt's does, and only as
//! far as a test says. It sends nothing by itself.

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::endpoint::{Abandoned, EndpointError};

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    under_way: Vec<u8>,
    taken: usize,
    abandoned: bool,
    broken: bool,
    /// Everything that was ever taken.
    sent: Vec<u8>,
}

/// The line, through all its attachments.
#[derive(Default)]
pub(crate) struct SlowLine {
    state: Mutex<State>,
    news: Notify,
}

impl SlowLine {
    /// What waits is on its way from now on, unless something is.
    pub(crate) fn begin(&self) {
        let mut state = self.state.lock();
        if state.under_way.is_empty() && !state.broken {
            state.under_way = std::mem::take(&mut state.waiting);
        }
    }

    /// So many of the bytes on their way are taken; the others are not.
    pub(crate) fn finish(&self, count: usize) {
        let mut state = self.state.lock();
        if state.broken {
            return; // It tells nothing any more.
        }
        let mut rest = std::mem::take(&mut state.under_way);
        let taken: Vec<u8> = rest.drain(..count.min(rest.len())).collect();
        state.taken += taken.len();
        state.sent.extend(taken);
        if !state.abandoned {
            rest.append(&mut state.waiting);
            state.waiting = rest;
        }
        drop(state);
        self.news.notify_one();
    }

    /// It breaks; so many of the bytes on their way get through, and nobody is told.
    pub(crate) fn break_down(&self, count: usize) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.broken, true) {
            return;
        }
        let through = count.min(state.under_way.len());
        let through = state.under_way.get(..through).unwrap_or_default().to_vec();
        state.sent.extend(through);
        drop(state);
        self.news.notify_one();
    }

    /// It is a new one, or nobody's: nothing is on its way.
    pub(super) fn renew(&self) {
        let mut state = self.state.lock();
        let sent = std::mem::take(&mut state.sent);
        *state = State {
            sent,
            ..State::default()
        };
    }

    pub(crate) fn sent(&self) -> Vec<u8> {
        self.state.lock().sent.clone()
    }

    pub(super) async fn write(&self, bytes: &[u8]) -> Result<usize, EndpointError> {
        {
            let mut state = self.state.lock();
            assert!(
                state.under_way.is_empty() && state.taken == 0,
                "not settled"
            );
            state.waiting = bytes.to_vec();
            state.abandoned = false;
        }
        self.taken(|state| state.taken > 0).await
    }

    pub(super) fn abandon(&self) -> Abandoned {
        let mut state = self.state.lock();
        state.waiting.clear();
        state.abandoned = true;
        Abandoned {
            taken: std::mem::take(&mut state.taken),
            under_way: state.under_way.len(),
        }
    }

    pub(super) async fn settle(&self) -> Result<usize, EndpointError> {
        self.taken(|_| true).await
    }

    async fn taken(&self, enough: impl Fn(&State) -> bool) -> Result<usize, EndpointError> {
        loop {
            {
                let mut state = self.state.lock();
                if state.broken {
                    return Err(EndpointError::Unreachable("broken".to_owned()));
                }
                if enough(&state) {
                    state.waiting.clear();
                    state.abandoned = true;
                    if state.under_way.is_empty() {
                        return Ok(std::mem::take(&mut state.taken));
                    }
                }
            }
            self.news.notified().await;
        }
    }
}
