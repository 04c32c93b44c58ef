//! What a relay tells, as messages.

use vmconsole_proto::v1;
use vmconsole_proto::v1::relay_graphics_response::Message;
use vmconsole_proto::v1::stream_console_response::Message as Streamed;

use super::{console, duration, roster, time};
use crate::core::rfb::rules::Rules;
use crate::session::relay::{RELAY_WINDOW, RelayEvent, RelayOpened};

fn rules(rules: &Rules) -> v1::GraphicsRules {
    v1::GraphicsRules {
        view_only: rules.view_only,
        refuse_clipboard_to_guest: rules.refuse_clipboard_to_guest,
        refuse_clipboard_from_guest: rules.refuse_clipboard_from_guest,
        refused_keys: rules.refused_keys.iter().map(ToString::to_string).collect(),
    }
}

/// The first message.
pub(in crate::api) fn opened(opened: &RelayOpened, mode: v1::Mode) -> v1::RelayGraphicsResponse {
    let (width, height) = opened.size;
    let opened = v1::RelayOpened {
        session_id: opened.session.to_string(),
        console: Some(console(&opened.console.status())),
        mode: if opened.writes { mode } else { v1::Mode::View }.into(),
        rules: Some(rules(&opened.rules)),
        width: width.into(),
        height: height.into(),
        input_window: RELAY_WINDOW,
        expires: opened.expires.and_then(time),
        heartbeat: opened.heartbeat.and_then(duration),
        roster: Some(roster(&opened.roster)),
    };
    let message = Some(Message::Opened(opened));
    v1::RelayGraphicsResponse { message }
}

/// Any other. A client passes over one that says nothing, as a stream's alone would.
pub(in crate::api) fn event(event: RelayEvent) -> v1::RelayGraphicsResponse {
    let message = match event {
        RelayEvent::Data { offset, bytes } => Some(Message::Data(v1::RelayData {
            offset,
            data: bytes,
        })),
        RelayEvent::Ack { offset, window } => {
            Some(Message::InputAck(v1::InputAck { offset, window }))
        }
        RelayEvent::Session(event) => super::event(event).message.and_then(of_session),
    };
    v1::RelayGraphicsResponse { message }
}

fn of_session(message: Streamed) -> Option<Message> {
    Some(match message {
        Streamed::WriterChanged(told) => Message::WriterChanged(told),
        Streamed::WriterRefused(told) => Message::WriterRefused(told),
        Streamed::Roster(told) => Message::Roster(told),
        Streamed::ConsoleState(told) => Message::ConsoleState(told),
        Streamed::SideEffect(told) => Message::SideEffect(told),
        Streamed::Expiring(told) => Message::Expiring(told),
        Streamed::Moved(told) => Message::Moved(told),
        Streamed::Pong(told) => Message::Pong(told),
        // A relay is not resumed, and tells no position.
        Streamed::Closed(told) => Message::Closed(v1::Closed {
            resume: None,
            ..told
        }),
        Streamed::Opened(_)
        | Streamed::Output(_)
        | Streamed::Gap(_)
        | Streamed::GenerationStarted(_)
        | Streamed::InputAck(_)
        | Streamed::InputRefused(_) => return None,
    })
}
