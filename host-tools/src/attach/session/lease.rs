//! Who may type, and who is there.
//!
//! Refuses to take the lease from anybody by itself, and to wait for it again after somebody
//! took it over.

use vmconsole_proto::v1::stream_console_request::Message as Request;
use vmconsole_proto::v1::{
    Mode, Reason, ReleaseWriter, RequestWriter, Roster, WriterChanged, WriterRefused,
};

use super::{Effect, Session, Typing};
use crate::attach::notices;
use crate::exit::Exit;

/// How the lease is asked for when the session is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Not at all.
    View,
    /// If it is free.
    IfFree,
    /// As soon as it is free.
    Queue,
}

impl Claim {
    /// Its mode.
    pub(crate) const fn mode(self) -> Mode {
        match self {
            Self::View => Mode::View,
            Self::IfFree => Mode::WriteIfFree,
            Self::Queue => Mode::WriteQueue,
        }
    }
}

impl Session {
    /// Writing was asked for when the session was opened: tells that somebody else does, and
    /// ends a pipe's session; who waits in the queue is told by the agent.
    pub(crate) fn wanted_to_write(&mut self, claim: Claim) -> Vec<Effect> {
        self.claim = claim;
        if self.you_write || claim == Claim::Queue {
            return Vec::new();
        }
        let mut effects = vec![Effect::Notice(notices::somebody_else_writes(
            self.writer.as_ref(),
        ))];
        if self.typing == Typing::Pipe {
            effects.push(Effect::Leave(Exit::LeaseHeld));
        }
        effects
    }

    /// Asks for the lease, or for a place in its queue.
    pub(crate) fn ask(&mut self) -> Vec<Effect> {
        if self.you_write {
            return vec![Effect::Notice("you hold the writer's lease".to_owned())];
        }
        self.claim = Claim::Queue;
        self.asked = Some(Request::RequestWriter(RequestWriter {
            mode: Mode::WriteQueue.into(),
            takeover_reason: String::new(),
        }));
        Vec::new()
    }

    /// Gives the lease, or the place in its queue, back, once what was typed is on its way.
    pub(crate) fn release(&mut self) -> Vec<Effect> {
        if !self.you_write && self.claim != Claim::Queue {
            let text = "you neither hold the writer's lease nor wait for it";
            return vec![Effect::Notice(text.to_owned())];
        }
        self.claim = Claim::View;
        self.asked = Some(Request::ReleaseWriter(ReleaseWriter {}));
        Vec::new()
    }

    pub(super) fn writer_changed(&mut self, change: WriterChanged) -> Vec<Effect> {
        let wrote = std::mem::replace(&mut self.you_write, change.you_write);
        let mut effects: Vec<_> = notices::writer_changed(&change, wrote)
            .map(Effect::Notice)
            .into_iter()
            .collect();
        if wrote && !self.you_write && change.reason() == Reason::TakenOver {
            self.claim = Claim::View;
        }
        self.epoch = change.write_epoch;
        self.writer = change.writer;
        self.deaf_told = !self.you_write && wrote;
        if wrote && !self.you_write {
            effects.extend(self.lost_the_lease());
        }
        effects
    }

    /// What was typed and not sent is for nobody now.
    pub(super) fn lost_the_lease(&mut self) -> Vec<Effect> {
        let undelivered = !self.delivered();
        let mut effects = Vec::new();
        let dropped = self.input.drop_waiting();
        if dropped > 0 {
            let text = format!("{dropped} bytes that waited to be sent are dropped");
            effects.push(Effect::Notice(text));
        }
        // A pipe that is not at its end would be cut short as well.
        if self.typing == Typing::Pipe && (undelivered || !self.input_ended) {
            effects.push(Effect::Leave(Exit::LeaseHeld));
        }
        effects
    }

    pub(super) fn writer_refused(&mut self, refused: &WriterRefused) -> Vec<Effect> {
        if refused.queue_place == 0 {
            self.claim = Claim::View;
        }
        self.writer.clone_from(&refused.holder);
        vec![Effect::Notice(notices::writer_refused(refused))]
    }

    /// A writer that is away holds everybody up: it is told, and so is that it is back.
    pub(super) fn roster(&mut self, roster: Roster) -> Vec<Effect> {
        let before = std::mem::replace(&mut self.roster, roster);
        let writers = self.roster.participants.iter().filter(|who| who.writer);
        let others = writers.filter(|who| who.session_id != self.id);
        let changed = others.filter_map(|who| {
            let same = |other: &&_| same_session(other, who);
            let was = before.participants.iter().find(same)?;
            match (was.away_since.is_some(), who.away_since.is_some()) {
                (false, true) => Some(notices::writer_is_away(who)),
                (true, false) => Some(notices::writer_is_back(who)),
                _ => None,
            }
        });
        changed.map(Effect::Notice).collect()
    }
}

/// Whether both are of one session.
fn same_session(
    one: &vmconsole_proto::v1::Participant,
    other: &vmconsole_proto::v1::Participant,
) -> bool {
    one.session_id == other.session_id
}
