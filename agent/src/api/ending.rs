//! How streams begin and end, whatever they carry: the first message in its time, what the end of
//! a client's messages means, and the status after the last message.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::open::{Refusal, refuse};
use super::refusal::{code, status};
use crate::core::reason::Reason;
use crate::session::Closed;

/// The first message, within `deadline`.
///
/// # Errors
/// What came instead, or that nothing did.
pub(super) async fn first_message<T>(
    messages: &mut Streaming<T>,
    deadline: Duration,
    draining: &CancellationToken,
) -> Result<T, Refusal> {
    let first = tokio::select! {
        biased; // a stop waits for nobody
        () = draining.cancelled() => {
            return Err(refuse(Reason::AgentDraining, "the agent is stopping"));
        }
        first = tokio::time::timeout(deadline, messages.message()) => first,
    };
    match first {
        Err(_) => {
            let seconds = deadline.as_secs();
            let message = format!("no first message came within {seconds} s: send Open");
            Err(refuse(Reason::BadRequest, message))
        }
        Ok(Err(broken)) => {
            let (reason, detail) = broken_stream(&broken);
            Err(refuse(reason, detail))
        }
        Ok(Ok(None)) => Err(not_open()),
        Ok(Ok(Some(first))) => Ok(first),
    }
}

/// The first message was another one, or none.
pub(super) fn not_open() -> Refusal {
    refuse(
        Reason::BadRequest,
        "the first message of a stream is to be Open",
    )
}

/// What the end of a client's messages by an error means.
pub(super) fn broken_stream(broken: &Status) -> (Reason, String) {
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

/// The status that follows upon the last message.
pub(super) fn final_status(closed: &Closed) -> Status {
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
