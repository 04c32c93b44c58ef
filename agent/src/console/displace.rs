//! Asks for a holder outside the agent to be displaced. Each is worth one try, and tries are
//! made for nobody else: a console is never taken by itself.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use super::join::{JoinError, JoinRequest};
use super::live::Console;
use super::state::Availability;

/// How long to wait for what comes of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The asks, numbered from 1.
#[derive(Debug, Default)]
pub(super) struct Displacing {
    asked: u64,
    /// Up to which a try was begun, for all of them together.
    begun: u64,
    /// Up to which a try came to an end.
    done: u64,
    /// How many of those that no try was begun for are still wanted.
    wanted: usize,
}

impl Displacing {
    fn ask(&mut self) -> u64 {
        self.asked += 1;
        self.wanted += 1;
        self.asked
    }

    /// Whoever asked waits no longer.
    fn leave(&mut self, ask: u64) {
        if ask > self.begun {
            self.wanted -= 1;
        }
    }

    /// Whether the try that begins now is to displace.
    pub(super) const fn begin(&mut self) -> bool {
        let wanted = self.wanted > 0;
        self.wanted = 0;
        self.begun = self.asked;
        wanted
    }

    /// The try that was begun last has come to an end. Tells whether anybody waited for it.
    pub(super) const fn end(&mut self) -> bool {
        let news = self.done != self.begun;
        self.done = self.begun;
        news
    }

    const fn is_done(&self, ask: u64) -> bool {
        self.done >= ask
    }
}

/// One ask. Dropping it takes it back, if no try was begun.
struct Ask<'a> {
    console: &'a Console,
    number: u64,
}

impl Ask<'_> {
    fn is_pending(&self) -> bool {
        let shared = self.console.shared.lock();
        let held = shared.state.availability == Availability::HeldByOther;
        held && !shared.retired && !shared.displacing.is_done(self.number)
    }
}

impl Drop for Ask<'_> {
    fn drop(&mut self) {
        self.console.shared.lock().displacing.leave(self.number);
    }
}

impl Console {
    /// The try to attach has come to an end.
    pub(super) fn displacing_ended(&self) {
        if self.shared.lock().displacing.end() {
            self.wake();
        }
    }

    /// Has a process outside the agent displaced that holds the console, for a session that
    /// could be attached but for that. Waits for what comes of it, 10 seconds at most; the
    /// console's state tells. Where nobody holds it, nothing is done.
    ///
    /// # Errors
    /// Why the session could not be attached in any case; nobody is displaced then.
    ///
    /// # Cancel safety
    /// If dropped, the holder may or may not be displaced.
    pub async fn displace_holder(&self, request: &JoinRequest) -> Result<(), JoinError> {
        let mut changed = self.changed.subscribe();
        let number = {
            let mut shared = self.shared.lock();
            if shared.state.availability != Availability::HeldByOther {
                return Ok(());
            }
            shared.check_place(self.max_viewers)?;
            shared.check_claim(request)?;
            shared.displacing.ask()
        };
        let proxy = &request.participant.proxy;
        info!(console = %self.id(), peer.name = %proxy, "a holder outside the agent is to be displaced");
        self.displace_asked.notify_one();
        let ask = Ask {
            console: self,
            number,
        };
        let outcome = async {
            while ask.is_pending() {
                // The sender is in the console: it cannot be closed.
                let _ = changed.changed().await;
            }
        };
        if timeout(PATIENCE, outcome).await.is_err() {
            warn!(console = %self.id(), "a holder was not displaced within {PATIENCE:?}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_serves_all_who_asked_before_it_began_and_none_after() {
        let mut displacing = Displacing::default();
        assert!(!displacing.begin(), "nobody asked");
        assert!(!displacing.end(), "nobody waits");
        let (first, second) = (displacing.ask(), displacing.ask());
        assert!(!displacing.is_done(first));
        assert!(displacing.begin());
        let third = displacing.ask();
        assert!(displacing.end());
        assert!(displacing.is_done(first) && displacing.is_done(second));
        assert!(!displacing.is_done(third));
        displacing.leave(first);
        displacing.leave(second);
        assert!(displacing.begin(), "the third still waits");
        assert!(displacing.end());
        assert!(displacing.is_done(third));
        displacing.leave(third);
        assert!(!displacing.begin(), "once each");
    }

    #[test]
    fn who_leaves_before_the_try_displaces_nobody() {
        let mut displacing = Displacing::default();
        let ask = displacing.ask();
        displacing.leave(ask);
        assert!(!displacing.begin());
    }
}
