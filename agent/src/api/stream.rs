//! `StreamConsole`: two directions that share nothing but the session's mailbox.

use futures_util::stream::{self, Stream};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, Streaming};
use vmconsole_proto::v1;
use vmconsole_proto::v1::stream_console_request::Message as Request;
use vmconsole_proto::v1::stream_console_response::Message as Response;

use super::convert;
use super::ending::{broken_stream, final_status};
use super::open;
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
            Err(broken) => {
                return match broken_stream(&broken) {
                    (Reason::TransportLost, detail) => inbound.lost(&detail),
                    (reason, detail) => inbound.close(reason, &detail),
                };
            }
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
        Some(Request::RequestWriter(request)) => match open::writer_request(&request) {
            Ok((claim, reason)) => inbound.request_writer(claim, reason),
            Err(wrong) => inbound.close(Reason::BadRequest, &wrong),
        },
        Some(Request::ReleaseWriter(_)) => inbound.release_writer(),
        Some(Request::Reauthenticate(_)) => {
            inbound.close(
                Reason::Unsupported,
                "this version of the agent takes no grants",
            );
        }
        Some(Request::Open(_)) => inbound.close(Reason::BadRequest, "a second Open came"),
        None => inbound.close(Reason::BadRequest, "an empty or unknown message came"),
    }
}

enum Phase {
    Opened(Box<v1::Opened>),
    Running,
    Ended(Status),
}

/// What the client hears: `Opened`, what the session tells, and at last the status.
pub(super) fn responses(
    opened: v1::Opened,
    session: Session,
    inbound: AbortOnDropHandle<()>,
) -> impl Stream<Item = Result<v1::StreamConsoleResponse, Status>> + Send {
    let start = (Phase::Opened(Box::new(opened)), session, inbound);
    stream::unfold(start, |(phase, mut session, inbound)| async move {
        let (item, phase) = match phase {
            Phase::Opened(opened) => {
                let message = Some(Response::Opened(*opened));
                (Ok(v1::StreamConsoleResponse { message }), Phase::Running)
            }
            Phase::Running => match session.next().await? {
                Event::Closed(closed) => {
                    let status = final_status(&closed);
                    (
                        Ok(convert::event(Event::Closed(closed))),
                        Phase::Ended(status),
                    )
                }
                event => (Ok(convert::event(event)), Phase::Running),
            },
            Phase::Ended(status) if status.code() == Code::Ok => return None,
            // The session is over: after this item `next` returns None.
            Phase::Ended(status) => (Err(status), Phase::Running),
        };
        Some((item, (phase, session, inbound)))
    })
}
