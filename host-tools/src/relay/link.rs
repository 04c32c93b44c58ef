//! The stream of one local connection, on a connection to the agent of its own.
//!
//! Refuses to share one: a client that stops then stops nobody else, and certificates that
//! were renewed are read anew.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::wire::{Asked, Event, Opening, Wire};
use crate::attach::LinkError;
use crate::attach::heartbeat::Heartbeat;
use crate::attach::link::OPEN_TIMEOUT;
use crate::connect::Connector;
use crate::refusal::Refusal;

/// How many messages wait for the connection; more stay with the session.
const REQUEST_QUEUE: usize = 16;

/// The agent's end of a stream that is open.
pub(super) struct Stream<W: Wire> {
    /// To the agent; none once our side has ended.
    pub(super) requests: Option<mpsc::Sender<W::Request>>,
    /// From the agent.
    pub(super) inbound: Streaming<W::Response>,
    /// Signs of life, if the agent wants them.
    pub(super) heartbeat: Option<Heartbeat>,
}

/// Connects, and opens a stream.
///
/// # Errors
/// [`LinkError`].
///
/// # Cancel safety
/// If dropped, what was opened is reset.
pub(super) async fn open<W: Wire>(
    connector: &Connector,
    asked: &Asked,
) -> Result<(Opening, Stream<W>), LinkError> {
    let channel = connector.connect().await?;
    let (requests, outbound) = mpsc::channel(REQUEST_QUEUE);
    // The queue is new and has room.
    let _ = requests.try_send(W::open(asked));
    let opening = async {
        let refused = |status: Status| LinkError::Refused(Refusal::new(&status));
        let outbound = ReceiverStream::new(outbound);
        let mut inbound = W::call(channel, outbound).await.map_err(refused)?;
        match inbound.message().await.map_err(refused)?.map(W::event) {
            Some(Event::Opened(opening)) => Ok((opening, inbound)),
            _ => Err(LinkError::NotOpened),
        }
    };
    let opened = tokio::time::timeout(OPEN_TIMEOUT, opening).await;
    let (opening, inbound) = opened.unwrap_or(Err(LinkError::Timeout))?;
    let interval: Option<Duration> = opening.heartbeat;
    let stream = Stream {
        requests: Some(requests),
        inbound,
        heartbeat: interval.map(|interval| Heartbeat::new(interval, Instant::now())),
    };
    Ok((opening, stream))
}
