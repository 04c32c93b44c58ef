//! What streams have in common, whatever they carry: how they begin, what the end of a client's
//! messages means, and how their own messages end with a status.

use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, Streaming};
use tracing::info;
use vmconsole_proto::v1;

use super::open::{Refusal, refuse, writer_request};
use super::refusal::{code, status};
use crate::core::id::PeerIdentity;
use crate::core::reason::Reason;
use crate::session::{Closed, Inbound, Sessions};

/// Why a stream ends that brings what it may not.
pub(super) const SECOND_OPEN: &str = "a second Open came";
pub(super) const UNKNOWN_MESSAGE: &str = "an empty or unknown message came";
pub(super) const NO_GRANTS: &str = "this version of the agent takes no grants";

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

/// Notes that `proxy` was refused before it had a session. Returns the status that says so.
pub(super) fn note_refusal(
    sessions: &Sessions,
    proxy: &PeerIdentity,
    (reason, refusal): Refusal,
) -> Status {
    info!(%reason, peer.name = %proxy, message = refusal.message(), "refused");
    sessions.count_refusal(reason);
    refusal
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

/// Ends a session whose client's messages ended by an error.
pub(super) fn end_broken(inbound: &Inbound, broken: &Status) {
    match broken_stream(broken) {
        (Reason::TransportLost, detail) => inbound.lost(&detail),
        (reason, detail) => inbound.close(reason, &detail),
    }
}

/// Asks for the lease, as a client wants it.
pub(super) fn request_writer(inbound: &Inbound, request: &v1::RequestWriter) {
    match writer_request(request) {
        Ok((claim, reason)) => inbound.request_writer(claim, reason),
        Err(wrong) => inbound.close(Reason::BadRequest, &wrong),
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

/// The direction to a client, of whichever stream.
pub(super) trait Told: Send {
    /// A message of the stream.
    type Message: Send;

    /// What the client is told next, and with the last of it the status that follows; `None`
    /// after that.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    fn tell(&mut self) -> impl Future<Output = Option<(Self::Message, Option<Status>)>> + Send;
}

enum Phase<M> {
    Opened(Box<M>),
    Running,
    Ended(Status),
}

/// What a client hears: `opened`, what it is told, and at last the status. Dropping it ends
/// both directions, of which `reader` is the other.
pub(super) fn responses<T: Told>(
    opened: T::Message,
    told: T,
    reader: AbortOnDropHandle<()>,
) -> impl Stream<Item = Result<T::Message, Status>> + Send {
    let start = (Phase::Opened(Box::new(opened)), told, reader);
    stream::unfold(start, |(phase, mut told, reader)| async move {
        let (item, phase) = match phase {
            Phase::Opened(opened) => (Ok(*opened), Phase::Running),
            Phase::Running => match told.tell().await? {
                (last, Some(status)) => (Ok(last), Phase::Ended(status)),
                (message, None) => (Ok(message), Phase::Running),
            },
            Phase::Ended(status) if status.code() == Code::Ok => return None,
            // After this item nothing is told.
            Phase::Ended(status) => (Err(status), Phase::Running),
        };
        Some((item, (phase, told, reader)))
    })
}
