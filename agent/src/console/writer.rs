//! Who writes: the lease is asked for, when a session joins or later, and given back.
//!
//! What becomes of a claim is `core::lease`'s to say. Input that waits when its session loses
//! the lease is refused here.

use super::join::{JoinError, JoinRequest};
use super::live::Console;
use super::shared::Shared;
use super::state::Participant;
use crate::core::id::{SessionId, StreamId};
use crate::core::lease::{Claim, Claimed};
use crate::core::reason::Reason;

/// What became of a running session's request for the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriterAnswer {
    /// Every viewer is told of the change, or of the place in the queue, and with them this one.
    Told,
    /// The session writes already.
    Already,
    /// Another one does.
    Held(Option<Participant>),
    /// The stream is not the session's any more.
    Gone,
}

impl Shared {
    /// Asks for the lease for a session that has its seat.
    fn claim(
        &mut self,
        session: SessionId,
        claim: Claim,
        takeover_reason: &str,
    ) -> Result<Claimed<SessionId>, SessionId> {
        let claimed = self.lease.claim(session, claim)?;
        if let Claimed::Granted(before) = claimed {
            let loser = before.and_then(|loser| self.seats.get_mut(&loser));
            if let Some(loser) = loser {
                loser.input.refuse_pending(Reason::TakenOver);
                loser.answers.notify_one();
            }
            self.writer_is(before.map(|_| Reason::TakenOver));
            if before.is_some() {
                takeover_reason.clone_into(&mut self.writer.takeover_reason);
            }
        }
        Ok(claimed)
    }

    /// Asks for the lease as `request` says, for a session that has its seat.
    ///
    /// # Errors
    /// [`JoinError::LeaseHeld`], unless the session is to view then.
    pub(super) fn claim_at_join(&mut self, request: &JoinRequest) -> Result<(), JoinError> {
        let Some(claim) = request.claim else {
            return Ok(());
        };
        let session = request.participant.session;
        match self.claim(session, claim, &request.takeover_reason) {
            Err(holder) if !request.view_otherwise => Err(self.lease_held(holder)),
            _ => Ok(()),
        }
    }

    /// Asks for the lease for a session that is taken up again. It takes it over from nobody:
    /// two clients that come back by themselves would do so for ever.
    pub(super) fn claim_again(&mut self, session: SessionId, claim: Option<Claim>) {
        match claim {
            None => {
                // It comes back to view.
                self.lease.withdraw(session);
                self.release(session, Reason::ClientDetached);
            }
            Some(Claim::Queue) => {
                // Whoever waits gets its turn; nobody is refused for waiting.
                let _ = self.claim(session, Claim::Queue, "");
            }
            Some(Claim::IfFree | Claim::Takeover) => {
                // If another one writes, it comes back as a viewer, and is told who that is.
                let _ = self.claim(session, Claim::IfFree, "");
            }
        }
        self.offer_lease();
    }
}

impl Console {
    /// Asks for the lease for a session that runs.
    pub fn request_writer(
        &self,
        stream: StreamId,
        claim: Claim,
        takeover_reason: &str,
    ) -> WriterAnswer {
        let mut shared = self.shared.lock();
        let Some(seat) = shared.seat(stream) else {
            return WriterAnswer::Gone;
        };
        if let Some(alone) = &seat.alone
            && alone.taken_over.is_cancelled()
        {
            return WriterAnswer::Gone;
        }
        match shared.claim(stream.session, claim, takeover_reason) {
            Ok(Claimed::Already) => return WriterAnswer::Already,
            Ok(Claimed::Granted(_) | Claimed::Waits) => {}
            Err(holder) => {
                let holder = shared.seats.get(&holder);
                return WriterAnswer::Held(holder.map(|seat| seat.participant.clone()));
            }
        }
        drop(shared);
        self.announce_writer();
        WriterAnswer::Told
    }

    /// Takes the lease, or the place in its queue, off a session that goes on, or ends. What it
    /// typed and was not written is refused. Returns whether it had either.
    pub fn release(&self, stream: StreamId, reason: Reason) -> bool {
        let mut shared = self.shared.lock();
        if shared.seat(stream).is_none() {
            return false;
        }
        let waited = shared.lease.withdraw(stream.session);
        let had = shared.release(stream.session, reason) || waited;
        drop(shared);
        if had {
            self.announce_writer();
        }
        had
    }
}
