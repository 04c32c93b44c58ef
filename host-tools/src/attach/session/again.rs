//! A session whose stream broke, and the stream that takes its place.
//!
//! Refuses to send a byte again unless the agent says that it never came, and to claim that
//! nothing was missed where that is not known.

use std::time::Duration;

use vmconsole_proto::v1::{Opened, Position};

use super::{Claim, Effect, Session, Typing, usual, writes};
use crate::attach::notices;
use crate::attach::typed::Undelivered;
use crate::attach::window::MAX_UNACKED_MESSAGES;
use crate::exit::Exit;

/// With what the next stream is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Again {
    /// The next byte of output that is expected.
    pub(crate) position: Position,
    /// The session to take up; empty for a new one.
    pub(crate) token: Vec<u8>,
    /// What to ask for.
    pub(crate) claim: Claim,
}

impl Session {
    /// The stream broke: typing waits until another takes its place.
    pub(crate) const fn broke(&mut self) {
        self.up = false;
    }

    /// With what to open the next stream; unset while too much of the streams before is still
    /// to be written out.
    pub(crate) fn again(&self) -> Option<Again> {
        (self.output.unwritten() <= MAX_UNACKED_MESSAGES).then(|| Again {
            position: self.output.expected(),
            token: self.token.clone(),
            claim: self.claim,
        })
    }

    /// The agent does not know the session any more: the next is a new one.
    pub(crate) fn over(&mut self) {
        self.token.clear();
    }

    /// Another stream was opened with [`Session::again`], `down` after the last broke.
    pub(crate) fn reopened(&mut self, opened: Opened, down: Duration) -> Vec<Effect> {
        self.up = true;
        let same = !self.token.is_empty();
        let mut effects = vec![Effect::Notice(notices::back(
            down,
            &opened,
            self.output.expected(),
            same,
        ))];
        effects.extend(self.check(|window| window.reopened(opened.position)));
        effects.extend(self.input_reopened(&opened, same));
        effects.extend(self.lease_reopened(&opened, same));
        self.token = opened.resume_token;
        self.id = opened.session_id;
        self.roster = opened.roster.unwrap_or_default();
        let state = opened.console.unwrap_or_default().state.unwrap_or_default();
        if usual(&state) == Some(false) && usual(&self.state) != Some(false) {
            effects.push(Effect::Notice(notices::state(&state)));
        }
        self.state = state;
        effects
    }

    /// Goes on with the input where the agent says; else what was on its way stays in doubt.
    fn input_reopened(&mut self, opened: &Opened, same: bool) -> Vec<Effect> {
        let (next, window) = (opened.next_input_offset, opened.input_window);
        let mut effects = Vec::new();
        if let Some(next) = next.filter(|_| same) {
            match self.input.resumed(next, window) {
                Ok(()) => return effects,
                Err(fault) => effects.extend(self.check(|_| Err(fault))),
            }
        }
        self.refused_to = 0;
        let lost = self.input.anew(next.unwrap_or(0), window);
        if lost != Undelivered::default() {
            effects.push(Effect::Notice(notices::undelivered(lost)));
            if self.typing == Typing::Pipe {
                effects.push(Effect::Leave(Exit::Broken));
            }
        }
        effects
    }

    /// Who held the lease throughout goes on; who lost it in between is told, also where it is
    /// theirs again: somebody else may have typed since.
    fn lease_reopened(&mut self, opened: &Opened, same: bool) -> Vec<Effect> {
        let wrote = std::mem::replace(&mut self.you_write, writes(opened));
        let kept = !same || opened.write_epoch == self.epoch;
        self.epoch = opened.write_epoch;
        self.asked = None;
        self.ping = false;
        self.deaf_told = false;
        self.writer = opened.console.as_ref().and_then(|c| c.writer.clone());
        match (wrote, self.you_write) {
            (true, true) if kept => Vec::new(),
            (true, true) => {
                let text = "you lost the writer's lease meanwhile, and hold it again";
                let mut effects = vec![Effect::Notice(text.to_owned())];
                effects.extend(self.lost_the_lease());
                effects
            }
            (true, false) => {
                let text = notices::lease_lost_meanwhile(self.writer.as_ref());
                let mut effects = vec![Effect::Notice(text)];
                effects.extend(self.lost_the_lease());
                effects
            }
            (false, true) => vec![Effect::Notice(notices::YOU_WRITE.to_owned())],
            (false, false) => Vec::new(),
        }
    }
}
