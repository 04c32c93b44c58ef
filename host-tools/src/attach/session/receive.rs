//! What the agent says, turned into things to do.

use vmconsole_proto::v1::stream_console_response::Message as Response;
use vmconsole_proto::v1::{Closed, ConsoleState, InputAck, InputRefused, Output, Reason};

use super::{Effect, Session, Typing};
use crate::attach::notices;
use crate::attach::reconnect::Trouble;
use crate::attach::window::{Fault, OutputWindow};
use crate::exit::Exit;

/// How many breaks of the interface are told; the rest is counted.
pub(super) const MAX_FAULTS_TOLD: u32 = 5;

/// The most bytes of text that a message of state of the usual size carries.
const STATE_TEXT_BYTES: u64 = 256;

/// How many messages of state of the usual size one weighs; 0 if it is none.
fn weight(message: &Response) -> u64 {
    match message {
        Response::WriterChanged(_) | Response::SideEffect(_) => 1,
        Response::ConsoleState(state) => 1 + state.detail.len() as u64 / STATE_TEXT_BYTES,
        Response::Roster(roster) => 1 + roster.participants.len() as u64,
        _ => 0,
    }
}

impl Session {
    /// Takes a message of the agent.
    pub(crate) fn receive(&mut self, message: Response) -> Vec<Effect> {
        self.output.state(weight(&message));
        let mut effects = self.received(message);
        effects.extend(self.at_the_end());
        effects
    }

    fn received(&mut self, message: Response) -> Vec<Effect> {
        match message {
            Response::Output(output) => self.output(output),
            Response::Gap(gap) => {
                let mut effects = self.check(|window| window.gap(&gap));
                effects.push(Effect::Notice(notices::gap(&gap)));
                effects
            }
            Response::GenerationStarted(start) => {
                let mut effects = self.check(|window| window.generation(start.position));
                effects.push(Effect::Notice(
                    "the VM was started: output is of its new run".to_owned(),
                ));
                effects
            }
            Response::InputAck(ack) => self.input_ack(ack),
            Response::InputRefused(refused) => self.input_refused(&refused),
            Response::WriterChanged(change) => self.writer_changed(change),
            Response::ConsoleState(state) => self.console_state(state),
            Response::Roster(roster) => self.roster(roster),
            Response::WriterRefused(refused) => self.writer_refused(&refused),
            Response::SideEffect(effect) => vec![Effect::Notice(notices::side_effect(&effect))],
            Response::Expiring(expiring) => vec![Effect::Notice(notices::expiring(&expiring))],
            Response::Moved(moved) => vec![Effect::Notice(notices::moved(&moved))],
            Response::Closed(closed) => self.closed(&closed),
            // That it came is all that counts, and a second Opened changes nothing.
            Response::Pong(_) | Response::Opened(_) => Vec::new(),
        }
    }

    fn output(&mut self, output: Output) -> Vec<Effect> {
        let checked = self.output.output(output.position, output.data.len());
        if let Err(fault @ Fault::Overrun { .. }) = checked {
            return vec![
                Effect::Notice(notices::fault(&fault)),
                Effect::Leave(Exit::Failed),
            ];
        }
        let mut effects = self.check(|_| checked);
        effects.push(Effect::Output(output.data, self.output.expected()));
        effects
    }

    fn input_ack(&mut self, ack: InputAck) -> Vec<Effect> {
        match self.input.acked(ack.offset, ack.window) {
            Ok(true) => vec![Effect::InputMoved],
            Ok(false) => Vec::new(),
            Err(fault) => self.check(|_| Err(fault)),
        }
    }

    fn input_refused(&mut self, refused: &InputRefused) -> Vec<Effect> {
        // After a break the newest are told again.
        if refused.to <= self.refused_to {
            return Vec::new();
        }
        self.refused_to = refused.to;
        let mut effects = vec![Effect::Notice(notices::input_refused(refused))];
        if self.typing == Typing::Pipe {
            let exit = Exit::for_reason(refused.reason());
            effects.push(Effect::Leave(if exit == Exit::Done {
                Exit::Undelivered
            } else {
                exit
            }));
        }
        effects
    }

    fn console_state(&mut self, state: ConsoleState) -> Vec<Effect> {
        let same =
            state.availability == self.state.availability && state.vm_state == self.state.vm_state;
        self.state = state;
        if same {
            Vec::new()
        } else {
            vec![Effect::Notice(notices::state(&self.state))]
        }
    }

    fn closed(&mut self, closed: &Closed) -> Vec<Effect> {
        let reason = Reason::try_from(closed.reason).unwrap_or(Reason::Unspecified);
        let exit = Exit::for_reason(reason);
        if Trouble::of_closed(closed) == Trouble::Passing {
            return vec![Effect::Broken(exit, notices::closed(closed))];
        }
        let mut effects = Vec::new();
        if reason != Reason::ClientDetached {
            effects.push(Effect::Notice(notices::closed(closed)));
        }
        effects.push(Effect::End(exit));
        effects
    }

    /// Runs a check on the output window and tells what it finds, a few times.
    pub(super) fn check(
        &mut self,
        check: impl FnOnce(&mut OutputWindow) -> Result<(), Fault>,
    ) -> Vec<Effect> {
        let Err(fault) = check(&mut self.output) else {
            return Vec::new();
        };
        self.faults += 1;
        if self.faults > MAX_FAULTS_TOLD {
            return Vec::new();
        }
        vec![Effect::Notice(notices::fault(&fault))]
    }
}
