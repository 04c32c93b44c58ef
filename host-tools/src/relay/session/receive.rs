//! What the agent says, turned into bytes to be written and things to do.

use bytes::Bytes;
use vmconsole_proto::v1::{
    Closed, ConsoleState, InputAck, Position, Reason, WriterChanged, WriterRefused,
};

use super::{Effect, Session};
use crate::attach::notices;
use crate::attach::window::Fault;
use crate::exit::Exit;
use crate::relay::wire::{Event, Kind, Wire};

/// How many breaks of the interface are told; a display's relay ends with the first.
const MAX_FAULTS_TOLD: u32 = 5;

/// The most bytes of text that a message of state of the usual size carries.
const STATE_TEXT_BYTES: usize = 256;

/// How many messages of state of the usual size one weighs; 0 if it is none.
fn weight(event: &Event) -> u64 {
    let weight = match event {
        Event::Writer(_) | Event::SideEffect(_) => 1,
        Event::State(state) => 1 + state.detail.len() / STATE_TEXT_BYTES,
        Event::Roster(participants) => 1 + participants,
        _ => 0,
    };
    weight as u64
}

impl<W: Wire> Session<W> {
    /// Takes a message of the agent. Of output nothing is returned: it waits in
    /// [`Session::pending`].
    pub(in crate::relay) fn receive(&mut self, event: Event) -> Vec<Effect> {
        self.output.state(weight(&event));
        match event {
            Event::Data(position, data) => self.data(position, data),
            Event::Gap(gap) => {
                let fault = self.output.gap(&gap).err();
                let mut effects = self.faulty(fault);
                effects.push(Effect::Notice(notices::gap(&gap)));
                effects
            }
            Event::Generation(position) => {
                let fault = self.output.generation(position).err();
                let mut effects = self.faulty(fault);
                let text = "the VM was started: output is of its new run";
                effects.push(Effect::Notice(text.to_owned()));
                effects
            }
            Event::InputAck(ack) => self.input_ack(ack),
            Event::InputRefused(refused) => vec![Effect::Notice(notices::input_refused(&refused))],
            Event::Writer(change) => self.writer_changed(&change),
            Event::WriterRefused(refused) => self.writer_refused(&refused),
            Event::State(state) => self.console_state(state),
            Event::SideEffect(effect) => vec![Effect::Notice(notices::side_effect(&effect))],
            Event::Expiring(expiring) => vec![Effect::Notice(notices::expiring(&expiring))],
            Event::Moved(moved) => vec![Effect::Notice(notices::moved(&moved))],
            Event::Closed(closed) => closed_by_agent(&closed),
            // Who is there, is told by lists; a second Opened changes nothing.
            Event::Roster(_) | Event::Opened(_) | Event::Nothing => Vec::new(),
        }
    }

    fn data(&mut self, position: Option<Position>, data: Bytes) -> Vec<Effect> {
        let fault = self.output.output(position, data.len()).err();
        match fault {
            Some(fault @ Fault::Overrun { .. }) => return fatal(&fault),
            Some(fault) if W::KIND == Kind::Display => return fatal(&fault),
            _ => self.pending.push(data, self.output.expected()),
        }
        self.faulty(fault)
    }

    fn input_ack(&mut self, ack: InputAck) -> Vec<Effect> {
        let fault = self.input.acked(ack.offset, ack.window).err();
        self.faulty(fault)
    }

    fn writer_changed(&mut self, change: &WriterChanged) -> Vec<Effect> {
        let wrote = std::mem::replace(&mut self.you_write, change.you_write);
        self.epoch = change.write_epoch;
        self.queued &= !self.you_write;
        self.deaf_told &= !self.you_write;
        let text = notices::writer_changed(change, wrote);
        let mut effects: Vec<_> = text.map(Effect::Notice).into_iter().collect();
        if wrote && !self.you_write {
            effects.extend(self.drop_unsent());
            effects.extend(self.without_the_lease());
        }
        effects
    }

    fn writer_refused(&mut self, refused: &WriterRefused) -> Vec<Effect> {
        let mut effects = vec![Effect::Notice(notices::writer_refused(refused))];
        if refused.queue_place == 0 {
            self.queued = false;
            effects.extend(self.drop_unsent());
            effects.extend(self.without_the_lease());
        }
        effects
    }

    /// What was read for a console that another writes to now. A display's goes on: the agent
    /// keeps back of it what is not for a viewer.
    fn drop_unsent(&mut self) -> Option<Effect> {
        if W::KIND == Kind::Display || self.unsent.is_empty() {
            return None;
        }
        let dropped = std::mem::take(&mut self.unsent).len();
        let text = format!("{dropped} bytes that waited to be sent are dropped");
        Some(Effect::Notice(text))
    }

    fn console_state(&mut self, state: ConsoleState) -> Vec<Effect> {
        let same =
            state.availability == self.state.availability && state.vm_state == self.state.vm_state;
        self.state = state;
        match same {
            true => Vec::new(),
            false => vec![Effect::Notice(notices::state(&self.state))],
        }
    }

    /// The agent broke the interface, perhaps. RFB does not outlast a byte that is wrong.
    fn faulty(&mut self, fault: Option<Fault>) -> Vec<Effect> {
        let Some(fault) = fault else {
            return Vec::new();
        };
        if W::KIND == Kind::Display {
            return fatal(&fault);
        }
        self.faults += 1;
        match self.faults {
            0..=MAX_FAULTS_TOLD => vec![Effect::Notice(notices::fault(&fault))],
            _ => Vec::new(),
        }
    }
}

/// Nothing more can come of it.
fn fatal(fault: &Fault) -> Vec<Effect> {
    vec![
        Effect::Notice(notices::fault(fault)),
        Effect::Leave(Exit::Failed),
    ]
}

fn closed_by_agent(closed: &Closed) -> Vec<Effect> {
    let reason = Reason::try_from(closed.reason).unwrap_or(Reason::Unspecified);
    let mut effects = Vec::new();
    if reason != Reason::ClientDetached {
        effects.push(Effect::Notice(notices::closed(closed)));
    }
    effects.push(Effect::End(Exit::for_reason(reason)));
    effects
}
