//! `StreamConsole`: two directions that share nothing but the session's mailbox.

use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, Streaming};
use vmconsole_proto::v1;
use vmconsole_proto::v1::stream_console_request::Message as Request;
use vmconsole_proto::v1::stream_console_response::Message as Response;

use super::convert;
use super::open::{self, Refusal};
use super::refusal::{code, status};
use crate::core::lease::Epoch;
use crate::core::reason::Reason;
use crate::session::{Closed, Event, Inbound, Session};

/// The first message, which is to be `Open`, within `deadline`.
///
/// # Errors
/// What came instead, or that nothing did.
pub(super) async fn first_message(
    messages: &mut Streaming<v1::StreamConsoleRequest>,
    deadline: Duration,
    draining: &CancellationToken,
) -> Result<v1::Open, Refusal> {
    let refuse = |reason, message: String| (reason, status(reason, message));
    let first = tokio::select! {
        biased; // a stop waits for nobody
        () = draining.cancelled() => {
            return Err(refuse(Reason::AgentDraining, "the agent is stopping".to_owned()));
        }
        first = tokio::time::timeout(deadline, messages.message()) => first,
    };
    let first = match first {
        Err(_) => {
            let seconds = deadline.as_secs();
            let message = format!("no first message came within {seconds} s: send Open");
            return Err(refuse(Reason::BadRequest, message));
        }
        Ok(Err(broken)) => {
            let (reason, detail) = broken_stream(&broken);
            return Err(refuse(reason, detail));
        }
        Ok(Ok(first)) => first,
    };
    match first.and_then(|first| first.message) {
        Some(Request::Open(open)) => Ok(open),
        _ => {
            let message = "the first message of a stream is to be Open".to_owned();
            Err(refuse(Reason::BadRequest, message))
        }
    }
}

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

/// What the end of a client's messages by an error means.
fn broken_stream(broken: &Status) -> (Reason, String) {
    match broken.code() {
        // tonic's words for a message over the limit, and for one that does not decode.
        Code::OutOfRange | Code::Internal | Code::InvalidArgument | Code::Unimplemented => (
            Reason::BadRequest,
            format!("a message could not be read: {}", broken.message()),
        ),
        _ => (
            Reason::TransportLost,
            "the client's stream broke".to_owned(),
        ),
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

fn final_status(closed: &Closed) -> Status {
    if code(closed.reason) == Code::Ok {
        return Status::ok("");
    }
    let detail = if closed.detail.is_empty() {
        closed.reason.name()
    } else {
        &closed.detail
    };
    status(closed.reason, detail)
}
