//! `Enter ~ B`: a break on the console that is attached, by a call beside the stream.
//!
//! Refuses to queue: while one is under way, another is not begun.

use std::pin::Pin;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Request, Status};
use vmconsole_proto::v1::console_service_client::ConsoleServiceClient;
use vmconsole_proto::v1::{ConsoleRef, SendBreakRequest};

use crate::refusal::Refusal;

/// How long the agent may take.
const BREAK_TIMEOUT: Duration = Duration::from_secs(30);

/// What became of a break.
type Outcome = Result<(), Refusal>;

/// Sends breaks, one at a time.
pub(super) struct Breaks {
    channel: Channel,
    console: ConsoleRef,
    under_way: Option<Pin<Box<dyn Future<Output = Outcome>>>>,
}

impl Breaks {
    /// Breaks on this console.
    pub(super) const fn new(channel: Channel, console: ConsoleRef) -> Self {
        Self {
            channel,
            console,
            under_way: None,
        }
    }

    /// Breaks go by this connection from now on.
    pub(super) fn by(&mut self, channel: Channel) {
        self.channel = channel;
    }

    /// Begins to send one; false if one is under way.
    pub(super) fn begin(&mut self) -> bool {
        if self.under_way.is_some() {
            return false;
        }
        let mut client = ConsoleServiceClient::new(self.channel.clone());
        let mut request = Request::new(SendBreakRequest {
            console: Some(self.console.clone()),
            character: Vec::new(),
        });
        request.set_timeout(BREAK_TIMEOUT);
        self.under_way = Some(Box::pin(async move {
            let sent = tokio::time::timeout(BREAK_TIMEOUT, client.send_break(request)).await;
            let late = || Status::deadline_exceeded("the agent did not answer in time");
            match sent.unwrap_or_else(|_| Err(late())) {
                Ok(_) => Ok(()),
                Err(status) => Err(Refusal::new(&status)),
            }
        }));
        true
    }

    /// What became of the one under way; waits for ever if none is.
    ///
    /// # Cancel safety
    /// The break goes on, and is told by the next call.
    pub(super) async fn outcome(&mut self) -> Outcome {
        let Some(under_way) = &mut self.under_way else {
            return std::future::pending().await;
        };
        let outcome = under_way.await;
        self.under_way = None;
        outcome
    }
}
