//! The way to a console that libvirt gives a stream for: a serial port or a virtio console
//! whose backend is a PTY, or a channel. It takes a console from somebody else only if it is
//! told to.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};

use super::Shared;
use super::attachment::StreamAttachment;
use super::line::Line;
use crate::core::id::ConsoleId;
use crate::endpoint::{Attachment, Claim, EndpointError, OutputSink};

/// One console by way of libvirt.
pub(super) struct StreamEndpoint {
    shared: Arc<Shared>,
    console: ConsoleId,
}

impl StreamEndpoint {
    pub(super) fn new(shared: Arc<Shared>, console: ConsoleId) -> Self {
        Self { shared, console }
    }

    /// Waits for a place among those that connect and has the console opened on its own
    /// thread. Dropping the future drops the attachment, which undoes it.
    async fn open(
        &self,
        sink: Arc<dyn OutputSink>,
        claim: Claim,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<StreamAttachment, EndpointError> {
        let connecting = Arc::clone(&self.shared.connecting).acquire_owned().await;
        let line = Line::new(Arc::clone(&self.shared), self.console.clone());
        let attachment = StreamAttachment::new(Arc::clone(&line), turn);
        let (tell, told) = oneshot::channel();
        let opening = move || {
            let _unheard = tell.send(line.open(sink, claim, connecting));
        };
        let unreachable =
            |error: &dyn std::error::Error| EndpointError::Unreachable(error.to_string());
        attachment
            .line()
            .run(opening)
            .map_err(|error| unreachable(&error))?;
        told.await.map_err(|error| unreachable(&error))??;
        Ok(attachment)
    }

    /// As [`Endpoint::attach`](crate::endpoint::Endpoint::attach).
    ///
    /// # Cancel safety
    /// If dropped, nothing stays attached.
    pub(super) async fn attach(
        &self,
        sink: Arc<dyn OutputSink>,
        claim: Claim,
    ) -> Result<Box<dyn Attachment>, EndpointError> {
        let limit = self.shared.config.call_timeout;
        let deadline = Instant::now() + limit;
        let Ok(turn) = timeout_at(deadline, self.shared.consoles.enter(&self.console)).await else {
            return Err(EndpointError::Unreachable(format!(
                "an earlier attachment of this agent was not let go within {limit:?}"
            )));
        };
        match timeout_at(deadline, self.open(sink, claim, turn)).await {
            Ok(Ok(attachment)) => Ok(Box::new(attachment)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(EndpointError::Unreachable(format!(
                "libvirt did not open the console within {limit:?}: see if libvirtd hangs"
            ))),
        }
    }
}
