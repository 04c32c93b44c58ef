//! Our types as messages.

pub(super) mod relay;

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use vmconsole_proto::v1;

use crate::console::{
    Availability, ConsoleState, Participant, Roster, SideEffect, SideEffectKind, Status,
    WriterChange, stamp_to_time,
};
use crate::core::id::SessionId;
use crate::core::output::{Gap, GapReason};
use crate::core::position::{Generation, Position};
use crate::core::reason::Reason;
use crate::endpoint::EndpointKind;
use crate::hypervisor::{ConsoleKind, VmState};
use crate::session::{Closed, Event, Opened};
use v1::stream_console_response::Message;

pub(super) fn time(time: SystemTime) -> Option<Timestamp> {
    Some(Timestamp::from(time))
}

/// A duration that the wire can carry: all of ours.
fn duration(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

pub(super) const fn position(position: Position) -> v1::Position {
    v1::Position {
        generation: position.generation.get(),
        offset: position.offset,
    }
}

/// A position as a client names it; `None` if it is of generation 0, which no output has.
pub(super) fn known_position(position: v1::Position) -> Option<Position> {
    let generation = Generation::new(position.generation.try_into().ok()?);
    Some(Position {
        generation,
        offset: position.offset,
    })
}

pub(super) fn reason(reason: Reason) -> v1::Reason {
    let name = format!("REASON_{}", reason.name());
    // A test holds the two lists against each other.
    v1::Reason::from_str_name(&name).unwrap_or(v1::Reason::Internal)
}

pub(super) const fn availability(availability: Availability) -> v1::Availability {
    match availability {
        Availability::Attached => v1::Availability::Attached,
        Availability::Ready => v1::Availability::Ready,
        Availability::Waiting => v1::Availability::Waiting,
        Availability::HeldByOther => v1::Availability::HeldByOther,
        Availability::Denied => v1::Availability::Denied,
        Availability::Unsupported => v1::Availability::Unsupported,
        Availability::Lost => v1::Availability::Lost,
    }
}

pub(super) const fn kind(kind: ConsoleKind) -> v1::ConsoleKind {
    match kind {
        ConsoleKind::Serial => v1::ConsoleKind::Serial,
        ConsoleKind::Virtio => v1::ConsoleKind::Virtio,
        ConsoleKind::Channel => v1::ConsoleKind::Channel,
        ConsoleKind::Vnc => v1::ConsoleKind::Vnc,
    }
}

const fn endpoint(kind: Option<EndpointKind>) -> v1::EndpointKind {
    match kind {
        None => v1::EndpointKind::Unspecified,
        Some(EndpointKind::LibvirtStream) => v1::EndpointKind::LibvirtStream,
        Some(EndpointKind::Pty) => v1::EndpointKind::Pty,
        Some(EndpointKind::UnixSocket) => v1::EndpointKind::UnixSocket,
        Some(EndpointKind::TcpSocket) => v1::EndpointKind::TcpSocket,
        Some(EndpointKind::GraphicsFd) => v1::EndpointKind::GraphicsFd,
    }
}

const fn vm_state(state: VmState) -> v1::VmState {
    match state {
        VmState::Unknown => v1::VmState::Unspecified,
        VmState::Running => v1::VmState::Running,
        VmState::Paused => v1::VmState::Paused,
        VmState::Off => v1::VmState::Off,
        VmState::Crashed => v1::VmState::Crashed,
        VmState::Stopping => v1::VmState::Stopping,
        VmState::Moved => v1::VmState::Moved,
    }
}

fn participant(who: &Participant, writer: bool) -> v1::Participant {
    v1::Participant {
        session_id: who.session.to_string(),
        proxy: who.proxy.to_string(),
        subject: String::new(),
        writer,
        since: time(who.since),
        away_since: who.away.and_then(time),
    }
}

fn state(state: &ConsoleState) -> v1::ConsoleState {
    v1::ConsoleState {
        availability: availability(state.availability).into(),
        since: time(state.since),
        checked: state.checked.and_then(time),
        vm_state: vm_state(state.vm_state).into(),
        detail: state.detail.clone(),
        next_try: state.next_try.and_then(time),
        holder: state
            .holder
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        silent_since: state.silent_since.and_then(time),
        wedged_since: state.wedged_since.and_then(time),
        generation: state.generation.map_or(0, |generation| generation.get()),
        booted: state.booted.and_then(time),
    }
}

pub(super) fn console(status: &Status) -> v1::Console {
    v1::Console {
        vm_uuid: status.id.vm.to_string(),
        vm_name: status.vm_name.to_string(),
        alias: status.id.alias.to_string(),
        kind: kind(status.device.kind).into(),
        endpoint: endpoint(status.device.endpoint()).into(),
        state: Some(state(&status.state)),
        viewers: u32::try_from(status.viewers).unwrap_or(u32::MAX),
        writer: status
            .writer
            .as_ref()
            .map(|writer| participant(writer, true)),
        oldest: status.oldest.map(position),
        head: status.head.map(position),
        last_output: status.last_output.and_then(time),
        last_input: status.last_input.and_then(time),
    }
}

fn roster(roster: &Roster) -> v1::Roster {
    let is_writer = |session: SessionId| roster.writer == Some(session);
    v1::Roster {
        participants: roster
            .participants
            .iter()
            .map(|who| participant(who, is_writer(who.session)))
            .collect(),
        total: u32::try_from(roster.total).unwrap_or(u32::MAX),
    }
}

pub(super) fn opened(opened: &Opened, mode: v1::Mode) -> v1::StreamConsoleResponse {
    let opened = v1::Opened {
        session_id: opened.session.to_string(),
        console: Some(console(&opened.console.status())),
        mode: if opened.writes { mode } else { v1::Mode::View }.into(),
        write_epoch: opened.epoch.0,
        position: Some(position(opened.position)),
        oldest: Some(position(opened.oldest)),
        next_input_offset: Some(opened.next_input),
        input_window: opened.input_window,
        expires: opened.expires.and_then(time),
        heartbeat: opened.heartbeat.and_then(duration),
        roster: Some(roster(&opened.roster)),
        resume_token: opened.token.as_bytes().to_vec(),
    };
    let message = Some(Message::Opened(opened));
    v1::StreamConsoleResponse { message }
}

fn gap(gap: &Gap) -> v1::Gap {
    let reason = match gap.reason {
        GapReason::Overrun => v1::GapReason::Overrun,
        GapReason::NotAttached => v1::GapReason::NotAttached,
        GapReason::GenerationPassed => v1::GapReason::GenerationPassed,
    };
    v1::Gap {
        from: Some(position(gap.from)),
        to: Some(position(gap.to)),
        length_known: gap.length_known,
        reason: reason.into(),
    }
}

fn writer_changed(change: &WriterChange, you_write: bool) -> v1::WriterChanged {
    let why = change.reason.map_or(v1::Reason::Unspecified, reason);
    v1::WriterChanged {
        writer: change
            .writer
            .as_ref()
            .map(|writer| participant(writer, true)),
        write_epoch: change.epoch.0,
        reason: why.into(),
        takeover_reason: change.takeover_reason.clone(),
        you_write,
    }
}

fn side_effect(effect: &SideEffect) -> v1::SideEffect {
    let kind = match effect.kind {
        SideEffectKind::Break => v1::SideEffectKind::Break,
        SideEffectKind::Keys => v1::SideEffectKind::Keys,
        SideEffectKind::Nmi => v1::SideEffectKind::Nmi,
        SideEffectKind::Screenshot => v1::SideEffectKind::Screenshot,
    };
    // A call is not a session: it has no id, and no time of coming.
    let by = v1::Participant {
        proxy: effect.proxy.to_string(),
        ..v1::Participant::default()
    };
    v1::SideEffect {
        kind: kind.into(),
        by: Some(by),
        time: time(effect.time),
    }
}

fn closed(closed: &Closed) -> v1::Closed {
    v1::Closed {
        reason: reason(closed.reason).into(),
        retryable: closed.reason.retryable(),
        resume: Some(position(closed.resume)),
        detail: closed.detail.clone(),
    }
}

/// What a session tells, as a message.
pub(super) fn event(event: Event) -> v1::StreamConsoleResponse {
    let message = match event {
        Event::Output {
            position: at,
            bytes,
            time: stamp,
        } => Message::Output(v1::Output {
            position: Some(position(at)),
            data: bytes,
            time: time(stamp_to_time(stamp)),
        }),
        Event::Gap(told) => Message::Gap(gap(&told)),
        Event::GenerationStarted(at) => Message::GenerationStarted(v1::GenerationStarted {
            position: Some(position(at)),
            time: None,
        }),
        Event::InputAck { offset, window } => Message::InputAck(v1::InputAck { offset, window }),
        Event::InputRefused(refused) => Message::InputRefused(v1::InputRefused {
            from: refused.from,
            to: refused.to,
            reason: reason(refused.reason).into(),
        }),
        Event::Writer(change, you_write) => {
            Message::WriterChanged(writer_changed(&change, you_write))
        }
        Event::WriterRefused(holder, queue_place) => Message::WriterRefused(v1::WriterRefused {
            reason: v1::Reason::LeaseHeld.into(),
            holder: holder.as_ref().map(|holder| participant(holder, true)),
            queue_place,
        }),
        Event::Roster(who) => Message::Roster(roster(&who)),
        Event::State(now) => Message::ConsoleState(state(&now)),
        Event::SideEffect(effect) => Message::SideEffect(side_effect(&effect)),
        Event::Expiring(why, left) => Message::Expiring(v1::Expiring {
            r#in: duration(left),
            reason: reason(why).into(),
        }),
        Event::Moved(host) => Message::Moved(v1::Moved {
            host: host.as_deref().unwrap_or_default().to_owned(),
        }),
        Event::Pong(nonce) => Message::Pong(v1::Pong { nonce }),
        Event::Closed(last) => Message::Closed(closed(&last)),
    };
    v1::StreamConsoleResponse {
        message: Some(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::PeerIdentity;

    #[test]
    fn a_side_effect_says_what_who_and_when() {
        for (kind, expected) in [
            (SideEffectKind::Break, v1::SideEffectKind::Break),
            (SideEffectKind::Keys, v1::SideEffectKind::Keys),
            (SideEffectKind::Nmi, v1::SideEffectKind::Nmi),
            (SideEffectKind::Screenshot, v1::SideEffectKind::Screenshot),
        ] {
            let message = event(Event::SideEffect(SideEffect {
                kind,
                proxy: PeerIdentity::new("spiffe://test/operator"),
                time: SystemTime::UNIX_EPOCH + Duration::from_secs(7),
            }));
            let Some(Message::SideEffect(told)) = message.message else {
                panic!("{message:?}")
            };
            assert_eq!(told.kind(), expected);
            assert_eq!(told.time.unwrap().seconds, 7);
            let by = told.by.unwrap();
            assert_eq!(by.proxy, "spiffe://test/operator");
            assert_eq!((by.session_id.as_str(), by.since), ("", None));
        }
    }
}
