//! `StreamConsole`: two directions that share nothing but the session's mailbox.

use tonic::{Status, Streaming};
use vmconsole_proto::v1;
use vmconsole_proto::v1::stream_console_request::Message as Request;

use super::convert;
use super::streams::{
    NO_GRANTS, SECOND_OPEN, Told, UNKNOWN_MESSAGE, end_broken, final_status, request_writer,
};
use crate::core::lease::Epoch;
use crate::core::reason::Reason;
use crate::session::{Event, Inbound, Session};

/// Takes what the client sends until it sends no more, at once and whether or not it reads.
pub(super) async fn take_messages(
    mut messages: Streaming<v1::StreamConsoleRequest>,
    inbound: Inbound,
) {
    // Once the session is ending, what the client sends stays with HTTP/2.
    while !inbound.is_closed() {
        let message = tokio::select! {
            biased; // what a stream that is fenced off still says is not looked at
            () = inbound.over() => return,
            () = inbound.expired() => return,
            message = messages.message() => message,
        };
        match message {
            Ok(Some(request)) => {
                inbound.answered();
                take(request, &inbound);
            }
            // A client that has said all that it will may still want to hear.
            Ok(None) => {
                drop(messages);
                tokio::select! {
                    () = inbound.over() => {}
                    () = inbound.expired() => {}
                }
                return;
            }
            Err(broken) => return end_broken(&inbound, &broken),
        }
    }
}

fn take(request: v1::StreamConsoleRequest, inbound: &Inbound) {
    let active = matches!(
        request.message,
        Some(Request::Input(_) | Request::RequestWriter(_))
    );
    inbound.heard(active);
    match request.message {
        Some(Request::Input(input)) => {
            inbound.input(input.offset, Epoch(input.write_epoch), &input.data);
        }
        Some(Request::OutputAck(ack)) => match ack.position.and_then(convert::known_position) {
            Some(position) => inbound.acknowledge(position),
            None => inbound.close(Reason::BadRequest, "an OutputAck without a position came"),
        },
        Some(Request::Ping(ping)) => inbound.ping(ping.nonce),
        Some(Request::Detach(_)) => inbound.close(Reason::ClientDetached, ""),
        Some(Request::RequestWriter(request)) => request_writer(inbound, &request),
        Some(Request::ReleaseWriter(_)) => inbound.release_writer(),
        Some(Request::Reauthenticate(_)) => inbound.close(Reason::Unsupported, NO_GRANTS),
        Some(Request::Open(_)) => inbound.close(Reason::BadRequest, SECOND_OPEN),
        None => inbound.close(Reason::BadRequest, UNKNOWN_MESSAGE),
    }
}

impl Told for Session {
    type Message = v1::StreamConsoleResponse;

    async fn tell(&mut self) -> Option<(Self::Message, Option<Status>)> {
        let event = self.next().await?;
        let status = match &event {
            Event::Closed(closed) => Some(final_status(closed)),
            _ => None,
        };
        Some((convert::event(event), status))
    }
}
