//! RelayGraphics: the RFB bytes of a VNC display.
//!
//! Refuses to look into them.

use bytes::Bytes;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use vmconsole_proto::v1::graphics_service_client::GraphicsServiceClient;
use vmconsole_proto::v1::relay_graphics_request::Message as Request;
use vmconsole_proto::v1::relay_graphics_response::Message as Response;
use vmconsole_proto::v1::{
    Detach, GraphicsRules, Ping, Position, RelayAck, RelayData, RelayGraphicsRequest,
    RelayGraphicsResponse, RelayOpen, RelayOpened,
};

use super::{Asked, Event, Kind, OUTPUT_WINDOW, Opening, Wire, interval, writes};
use crate::attach::link::heartbeat;
use crate::output::printable;

/// How many refused keys are told.
const MAX_KEYS_TOLD: usize = 32;

/// The call.
pub(in crate::relay) struct Display;

impl Wire for Display {
    type Request = RelayGraphicsRequest;
    type Response = RelayGraphicsResponse;
    const KIND: Kind = Kind::Display;

    fn open(asked: &Asked) -> RelayGraphicsRequest {
        let (mode, takeover_reason) = asked.mode();
        said(Request::Open(RelayOpen {
            console: Some(asked.console.clone()),
            mode: mode.into(),
            takeover_reason,
            view_otherwise: asked.view_otherwise,
            exclusive: asked.exclusive,
            rules: Some(asked.rules.clone()),
            heartbeat: heartbeat(),
            output_window: OUTPUT_WINDOW,
        }))
    }

    fn data(offset: u64, _: u64, data: Bytes) -> RelayGraphicsRequest {
        said(Request::Data(RelayData { offset, data }))
    }

    fn ack(position: Position) -> RelayGraphicsRequest {
        let offset = position.offset;
        said(Request::Ack(RelayAck { offset }))
    }

    fn ping() -> RelayGraphicsRequest {
        said(Request::Ping(Ping::default()))
    }

    fn detach() -> RelayGraphicsRequest {
        said(Request::Detach(Detach {}))
    }

    fn event(response: RelayGraphicsResponse) -> Event {
        match response.message {
            Some(Response::Opened(opened)) => Event::Opened(opening(opened)),
            Some(Response::Data(RelayData { offset, data })) => Event::Data(at(offset), data),
            Some(Response::InputAck(ack)) => Event::InputAck(ack),
            Some(Response::WriterChanged(change)) => Event::Writer(change),
            Some(Response::WriterRefused(refused)) => Event::WriterRefused(refused),
            Some(Response::Roster(roster)) => Event::Roster(roster.participants.len()),
            Some(Response::ConsoleState(state)) => Event::State(state),
            Some(Response::SideEffect(effect)) => Event::SideEffect(effect),
            Some(Response::Expiring(expiring)) => Event::Expiring(expiring),
            Some(Response::Moved(moved)) => Event::Moved(moved),
            Some(Response::Closed(closed)) => Event::Closed(closed),
            Some(Response::Pong(_)) | None => Event::Nothing,
        }
    }

    async fn call(
        channel: Channel,
        requests: ReceiverStream<RelayGraphicsRequest>,
    ) -> Result<Streaming<RelayGraphicsResponse>, Status> {
        let mut client = GraphicsServiceClient::new(channel);
        Ok(client.relay_graphics(requests).await?.into_inner())
    }
}

const fn said(message: Request) -> RelayGraphicsRequest {
    RelayGraphicsRequest {
        message: Some(message),
    }
}

/// A display's bytes have one generation, which has no number.
const fn at(offset: u64) -> Option<Position> {
    Some(Position {
        generation: 0,
        offset,
    })
}

fn opening(opened: RelayOpened) -> Opening {
    let size = format!("{} x {} pixels", opened.width, opened.height);
    let rules = opened.rules.as_ref().map(kept_back).unwrap_or_default();
    Opening {
        writes: writes(opened.mode()),
        session: opened.session_id,
        detail: [vec![size], rules].concat().join(", "),
        console: opened.console.unwrap_or_default(),
        epoch: 0,
        position: Position::default(),
        next_input: 0,
        input_window: opened.input_window,
        heartbeat: interval(opened.heartbeat),
    }
}

/// The rules that hold, for a person.
fn kept_back(rules: &GraphicsRules) -> Vec<String> {
    let mut told = Vec::new();
    if rules.view_only {
        told.push("view only".to_owned());
    }
    if rules.refuse_clipboard_to_guest {
        told.push("no clipboard to the guest".to_owned());
    }
    if rules.refuse_clipboard_from_guest {
        told.push("no clipboard from the guest".to_owned());
    }
    if !rules.refused_keys.is_empty() {
        let keys = rules.refused_keys.iter().take(MAX_KEYS_TOLD);
        let keys = keys.map(|key| printable(key)).collect::<Vec<_>>();
        told.push(format!("without {}", keys.join(" ")));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_that_hold_are_told_with_the_size() {
        let rules = GraphicsRules {
            view_only: true,
            refuse_clipboard_to_guest: true,
            refuse_clipboard_from_guest: true,
            refused_keys: vec!["sysrq".into(), "ctrl-alt-delete".into()],
        };
        let opened = RelayOpened {
            width: 800,
            height: 600,
            rules: Some(rules),
            ..Default::default()
        };
        assert_eq!(
            opening(opened).detail,
            "800 x 600 pixels, view only, no clipboard to the guest, \
             no clipboard from the guest, without sysrq ctrl-alt-delete"
        );
        let plain = RelayOpened {
            rules: Some(GraphicsRules::default()),
            ..Default::default()
        };
        assert_eq!(opening(plain).detail, "0 x 0 pixels");
    }
}
