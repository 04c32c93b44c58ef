//! Asks for breaks on a console's line: a short queue from callers to the pump of an attached
//! console. What was asked of an attachment ends with it.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::live::Console;
use super::shared::Shared;
use super::state::Availability;
use crate::hypervisor::EffectError;

/// The most breaks that wait to be sent to one console.
const MAX_BREAKS: usize = 4;

/// The breaks that an attached console was asked for and that wait.
pub(super) type Breaks = VecDeque<Break>;

/// One break that somebody asked for.
#[derive(Debug)]
pub(super) struct Break {
    /// What is to follow it directly.
    pub(super) character: Option<u8>,
    told: oneshot::Sender<Result<(), EffectError>>,
}

impl Break {
    /// Whether nobody waits for it any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.told.is_closed()
    }

    pub(super) fn answer(self, sent: Result<(), EffectError>) {
        // Whoever asked may have left meanwhile.
        let _ = self.told.send(sent);
    }
}

/// Answers those who wait for a break of a console that was let go.
pub(super) fn give_up(breaks: Breaks) {
    for waiting in breaks {
        let detail = "the console was let go before the break's turn".to_owned();
        waiting.answer(Err(EffectError::NotDone(detail)));
    }
}

impl Console {
    /// Puts a break on the console's line, and directly after it `character`, which counts as
    /// nobody's input. By the endpoint if it can, else by the VM's monitor. Has the console
    /// attached for it. Takes some 30 seconds at most, for each break that was asked for before.
    ///
    /// # Errors
    /// See [`EffectError`]. [`EffectError::Unreachable`] says how far it came.
    ///
    /// # Cancel safety
    /// If dropped, it may or may not be sent.
    pub async fn send_break(self: &Arc<Self>, character: Option<u8>) -> Result<(), EffectError> {
        let _demand = self.attach().await;
        let (told, sent) = oneshot::channel();
        {
            let mut shared = self.shared.lock();
            let refused = not_attached(&shared);
            let breaks = shared.breaks.as_mut().ok_or(refused)?;
            // Those whose caller has left take up no place.
            breaks.retain(|waiting| !waiting.is_given_up());
            if breaks.len() >= MAX_BREAKS {
                let detail = "as many breaks as may wait for the console wait already";
                return Err(EffectError::Busy(detail));
            }
            breaks.push_back(Break { character, told });
        }
        self.break_asked.notify_one();
        sent.await.unwrap_or_else(|_| {
            let detail = "the console was let go: the break may or may not have been sent";
            Err(EffectError::Unreachable(detail.to_owned()))
        })
    }

    /// The next break to send, for the pump of the attached console.
    pub(super) fn take_break(&self) -> Option<Break> {
        self.shared.lock().breaks.as_mut()?.pop_front()
    }
}

/// Why there is no line to put a break on.
fn not_attached(shared: &Shared) -> EffectError {
    let detail = shared.state.detail.clone();
    match shared.state.availability {
        _ if shared.retired => EffectError::NotFound("the console is no more".to_owned()),
        Availability::Unsupported => EffectError::Unsupported(detail),
        Availability::Denied => EffectError::Denied(detail),
        _ if shared.target.instance.is_none() => EffectError::NotRunning,
        other => {
            let name = other.name();
            EffectError::NotDone(format!("the console is not attached ({name}): {detail}"))
        }
    }
}
