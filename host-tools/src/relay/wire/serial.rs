//! StreamConsole: the bytes of a serial or virtio console, or of a channel, from now on.
//!
//! Refuses to resume: the client of the local connection comes again if it wants to.

use bytes::Bytes;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use vmconsole_proto::v1::console_service_client::ConsoleServiceClient;
use vmconsole_proto::v1::stream_console_request::Message as Request;
use vmconsole_proto::v1::stream_console_response::Message as Response;
use vmconsole_proto::v1::{
    Detach, Input, Open, Opened, OutputAck, Ping, Position, StreamConsoleRequest,
    StreamConsoleResponse,
};

use super::{Asked, Event, Kind, OUTPUT_WINDOW, Opening, Wire, interval, writes};
use crate::attach::link::heartbeat;

/// The call.
pub(in crate::relay) struct Serial;

impl Wire for Serial {
    type Request = StreamConsoleRequest;
    type Response = StreamConsoleResponse;
    const KIND: Kind = Kind::Serial;

    fn open(asked: &Asked) -> StreamConsoleRequest {
        let (mode, takeover_reason) = asked.mode();
        said(Request::Open(Open {
            console: Some(asked.console.clone()),
            mode: mode.into(),
            takeover_reason,
            view_otherwise: asked.view_otherwise,
            heartbeat: heartbeat(),
            output_window: OUTPUT_WINDOW,
            ..Default::default()
        }))
    }

    fn data(offset: u64, write_epoch: u64, data: Bytes) -> StreamConsoleRequest {
        said(Request::Input(Input {
            offset,
            write_epoch,
            data,
        }))
    }

    fn ack(position: Position) -> StreamConsoleRequest {
        let position = Some(position);
        said(Request::OutputAck(OutputAck { position }))
    }

    fn ping() -> StreamConsoleRequest {
        said(Request::Ping(Ping::default()))
    }

    fn detach() -> StreamConsoleRequest {
        said(Request::Detach(Detach {}))
    }

    fn event(response: StreamConsoleResponse) -> Event {
        match response.message {
            Some(Response::Opened(opened)) => Event::Opened(opening(opened)),
            Some(Response::Output(output)) => Event::Data(output.position, output.data),
            Some(Response::Gap(gap)) => Event::Gap(gap),
            Some(Response::GenerationStarted(start)) => Event::Generation(start.position),
            Some(Response::InputAck(ack)) => Event::InputAck(ack),
            Some(Response::InputRefused(refused)) => Event::InputRefused(refused),
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
        requests: ReceiverStream<StreamConsoleRequest>,
    ) -> Result<Streaming<StreamConsoleResponse>, Status> {
        let mut client = ConsoleServiceClient::new(channel);
        Ok(client.stream_console(requests).await?.into_inner())
    }
}

const fn said(message: Request) -> StreamConsoleRequest {
    StreamConsoleRequest {
        message: Some(message),
    }
}

fn opening(opened: Opened) -> Opening {
    Opening {
        writes: writes(opened.mode()),
        session: opened.session_id,
        detail: String::new(),
        console: opened.console.unwrap_or_default(),
        epoch: opened.write_epoch,
        position: opened.position.unwrap_or_default(),
        // A session that is not resumed counts its input from 0 by definition.
        next_input: opened.next_input_offset.unwrap_or(0),
        input_window: opened.input_window,
        heartbeat: interval(opened.heartbeat),
    }
}
