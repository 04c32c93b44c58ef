//! The direction to the client: what to tell next, as fast as the client takes it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Line;
use super::last_heard::LastHeard;
use super::ledger::Ledger;
use crate::console::{
    ConsoleState, Item, Participant, Roster, SideEffect, Viewer, WriterAnswer, WriterChange,
};
use crate::core::input::{INPUT_WINDOW, Refused};
use crate::core::output::{Gap, Next};
use crate::core::position::Position;
use crate::core::reason::Reason;
use crate::core::stamps::Stamp;
use crate::core::window::{OutputWindow, Room};

/// Something to tell a client.
#[derive(Clone, Debug)]
pub enum Event {
    /// Output of the guest.
    Output {
        /// Where it begins.
        position: Position,
        /// 1 to 65536 bytes.
        bytes: bytes::Bytes,
        /// About when the newest of them was read.
        time: Stamp,
    },
    /// Output that is missing.
    Gap(Gap),
    /// A new generation.
    GenerationStarted(Position),
    /// How far input got, and how much more may be sent.
    InputAck {
        /// Every byte below was written or refused.
        offset: u64,
        /// Bytes beyond it that may be sent.
        window: u64,
    },
    /// Input that was not written.
    InputRefused(Refused),
    /// Who writes, and whether that is this session.
    Writer(WriterChange, bool),
    /// A request for the lease was not granted, or not yet: who holds it, and the place in its
    /// queue, 0 for none.
    WriterRefused(Option<Participant>, u32),
    /// Who is attached.
    Roster(Roster),
    /// The console's state.
    State(ConsoleState),
    /// What was done to the console or its VM.
    SideEffect(SideEffect),
    /// The session will end for this reason, in so long.
    Expiring(Reason, Duration),
    /// The VM goes on at another host: which, if it was announced.
    Moved(Option<Arc<str>>),
    /// The answer to a ping.
    Pong(u64),
    /// The last word.
    Closed(Closed),
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why.
    pub reason: Reason,
    /// The next byte that would have been sent.
    pub resume: Position,
    /// One sentence for a person, or nothing.
    pub detail: String,
}

/// About what one message of state weighs in bytes, beside names and sentences.
const STATE_BYTES: u64 = 192;

/// About what a participant weighs in bytes.
fn weight(participant: &Participant) -> u64 {
    80 + participant.proxy.as_str().len() as u64
}

/// Counts what the client is about to be told against its window.
fn note_sent(window: &mut OutputWindow, item: &Item) {
    match item {
        Item::Output(Next::Output {
            position, bytes, ..
        }) => window.sent(*position, bytes.len() as u64),
        Item::Output(Next::Gap(Gap { to, .. }) | Next::GenerationStarted(to)) => window.moved(*to),
        Item::Writer(change) => {
            let writer = change.writer.as_ref().map_or(0, weight);
            window.state_sent(STATE_BYTES + writer + change.takeover_reason.len() as u64);
        }
        Item::Queued(_, holder) => {
            window.state_sent(STATE_BYTES + holder.as_ref().map_or(0, weight));
        }
        Item::State(state) => window.state_sent(STATE_BYTES + state.detail.len() as u64),
        Item::Moved(host) => {
            window.state_sent(STATE_BYTES + host.as_ref().map_or(0, |host| host.len() as u64));
        }
        Item::Effect(effect) => {
            window.state_sent(STATE_BYTES + effect.proxy.as_str().len() as u64);
        }
        Item::Roster(roster) => {
            window.state_sent(STATE_BYTES + roster.participants.iter().map(weight).sum::<u64>());
        }
        // Answers to what the client sent are bounded by that.
        Item::Output(Next::Idle) | Item::InputRefused(_) | Item::InputDone(_) | Item::Ended(_) => {}
    }
}

const fn answers_input(item: &Item) -> bool {
    matches!(item, Item::InputRefused(_) | Item::InputDone(_))
}

/// The running stream of a session. Dropping it before its last event loses the stream: the
/// session may be taken up again.
#[derive(Debug)]
pub struct Session {
    /// `None` once the last event is out.
    viewer: Option<Viewer>,
    line: Arc<Line>,
    ledger: Arc<Ledger>,
    heard: LastHeard,
    draining: CancellationToken,
    /// Whether it ends with the next gap.
    ends_at_gaps: bool,
    /// Whether the first gap is that of the place where it began, with which it does not end.
    begins_interrupted: bool,
}

impl Session {
    pub(super) fn new(
        viewer: Viewer,
        line: Arc<Line>,
        ledger: Arc<Ledger>,
        heard: LastHeard,
        draining: CancellationToken,
        ends_at_gaps: bool,
    ) -> Self {
        let begins_interrupted = ends_at_gaps && viewer.begins_interrupted();
        Self {
            viewer: Some(viewer),
            line,
            ledger,
            heard,
            draining,
            ends_at_gaps,
            begins_interrupted,
        }
    }

    /// How many bytes beside its own output its client may be sent now.
    pub(super) fn room(&self) -> u64 {
        self.line.mailbox.lock().window.room().output
    }

    /// Its client is sent so many bytes, of a place that has no output of its own.
    pub(super) fn relayed(&self, offset: u64, bytes: u64) {
        if let Some(viewer) = &self.viewer {
            let position = Position {
                offset,
                ..viewer.position()
            };
            self.line.mailbox.lock().window.sent(position, bytes);
        }
    }

    /// Ends it, unless it is ending already.
    pub(super) fn close(&self, reason: Reason, detail: &str) {
        self.line.close(reason, detail);
    }

    /// What to tell next; `None` after [`Event::Closed`].
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.poll()? {
                return Some(event);
            }
            let (Some(viewer), line) = (self.viewer.as_mut(), &self.line) else {
                return None;
            };
            tokio::select! {
                () = self.draining.cancelled() => {
                    line.close(Reason::AgentDraining, "the agent is stopping");
                }
                () = line.news.notified() => {}
                () = viewer.changed() => {}
            }
        }
    }

    /// What there is to tell now. The outer `None`: the session is over.
    fn poll(&mut self) -> Option<Option<Event>> {
        let viewer = self.viewer.as_mut()?;
        let mut mailbox = self.line.mailbox.lock();
        if let Some(nonce) = mailbox.pong.take() {
            return Some(Some(Event::Pong(nonce)));
        }
        match mailbox.writer_answer.take() {
            // All viewers are told, with this one.
            None | Some(WriterAnswer::Told | WriterAnswer::Gone) => {}
            Some(WriterAnswer::Already) => {
                let (change, writes) = (viewer.writer().clone(), viewer.writes());
                return Some(Some(Event::Writer(change, writes)));
            }
            Some(WriterAnswer::Held(holder)) => {
                return Some(Some(Event::WriterRefused(holder, 0)));
            }
        }
        if let Some((reason, left)) = self.line.timers.warning() {
            return Some(Some(Event::Expiring(reason, left)));
        }
        let closing = mailbox.closing.is_some();
        // An end waits for what became of the input, and for nothing else.
        let room = if closing {
            Room::NONE
        } else {
            mailbox.window.room()
        };
        let item = match viewer.poll(room) {
            Some(item) if !closing || answers_input(&item) => item,
            _ => {
                let Some((reason, detail)) = mailbox.closing.take() else {
                    return Some(None);
                };
                drop(mailbox);
                return self.last_words(reason, detail).map(Some);
            }
        };
        note_sent(&mut mailbox.window, &item);
        drop(mailbox);
        Some(self.event(item))
    }

    fn event(&mut self, item: Item) -> Option<Event> {
        Some(match item {
            Item::Output(Next::Output {
                position,
                bytes,
                time,
            }) => Event::Output {
                position,
                bytes,
                time,
            },
            Item::Output(Next::Gap(gap)) => {
                self.missed(&gap);
                Event::Gap(gap)
            }
            Item::Output(Next::GenerationStarted(position)) => Event::GenerationStarted(position),
            Item::Output(Next::Idle) => return None,
            Item::InputRefused(refused) => Event::InputRefused(refused),
            Item::InputDone(offset) => Event::InputAck {
                offset,
                window: INPUT_WINDOW,
            },
            Item::Writer(change) => {
                Event::Writer(change, self.viewer.as_ref().is_some_and(Viewer::writes))
            }
            Item::Queued(place, holder) => Event::WriterRefused(holder, place),
            Item::Roster(roster) => Event::Roster(roster),
            Item::State(state) => Event::State(state),
            Item::Moved(host) => Event::Moved(host),
            Item::Effect(effect) => Event::SideEffect(effect),
            Item::Ended(reason) => {
                let detail = match reason {
                    Reason::VmStopped => "the VM stopped".to_owned(),
                    Reason::Moved => self.moved(),
                    _ => "the console is no longer known to this host".to_owned(),
                };
                return self.last_words(reason, detail);
            }
        })
    }

    /// Where the VM went, for a person.
    fn moved(&self) -> String {
        let viewer = self.viewer.as_ref();
        let host = viewer.and_then(|viewer| viewer.console().moved_to());
        host.map_or_else(
            || "the VM went on to another host".to_owned(),
            |host| format!("the VM went on to {host}"),
        )
    }

    /// Output is missing, as the client is told next. Ends the session after that, if it asked
    /// for it.
    fn missed(&mut self, gap: &Gap) {
        let again = std::mem::take(&mut self.begins_interrupted) && gap.from == gap.to;
        if self.ends_at_gaps && !again {
            let detail = "output is missing, and on_gap is CLOSE: resume to go on after it";
            self.line.close(Reason::Gap, detail);
        }
    }

    /// Ends the session: its lease is free from here on, whether the client hears or not.
    fn last_words(&mut self, reason: Reason, detail: String) -> Option<Event> {
        let viewer = self.viewer.take()?;
        let resume = viewer.position();
        self.end(viewer, reason);
        Some(Event::Closed(Closed {
            reason,
            resume,
            detail,
        }))
    }

    fn end(&self, viewer: Viewer, reason: Reason) {
        if reason == Reason::TransportLost && self.line.returns {
            self.ledger.lost(viewer, &self.heard);
        } else {
            let stream = viewer.stream();
            viewer.leave(reason);
            self.ledger.end(stream, reason);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(viewer) = self.viewer.take() {
            let closing = self.line.mailbox.lock().closing.take();
            let reason = closing.map_or(Reason::TransportLost, |(reason, _)| reason);
            self.end(viewer, reason);
        }
    }
}
