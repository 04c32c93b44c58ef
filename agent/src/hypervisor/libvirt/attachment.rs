//! What the agent holds of an attached console. Dropping it lets the console go, on the
//! console's own thread.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use super::line::Line;
use crate::endpoint::{Abandoned, Attachment, EndpointError};

/// A console that is attached, or being attached.
pub(super) struct StreamAttachment {
    line: Arc<Line>,
    /// The console's turn: nobody here opens it while this is held.
    turn: Option<OwnedSemaphorePermit>,
    released: bool,
}

impl StreamAttachment {
    pub(super) fn new(line: Arc<Line>, turn: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            line,
            turn,
            released: false,
        }
    }

    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// Begins to let the console go; `told` is dropped when it is free.
    fn release(&mut self, told: Option<oneshot::Sender<()>>) {
        if std::mem::replace(&mut self.released, true) {
            return;
        }
        self.line.close("the console was let go");
        let (line, turn) = (Arc::clone(&self.line), self.turn.take());
        let queued = self.line.run(move || {
            line.release();
            drop((turn, told));
        });
        if let Err(error) = queued {
            // What the job held was dropped with it, which closes the connection.
            tracing::error!(%error, "a console is let go in the background");
        }
    }
}

impl Drop for StreamAttachment {
    fn drop(&mut self) {
        self.release(None);
    }
}

#[async_trait::async_trait]
impl Attachment for StreamAttachment {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, EndpointError> {
        self.line.write(bytes).await
    }

    fn abandon(&mut self) -> Abandoned {
        self.line.abandon()
    }

    async fn settle(&mut self) -> Result<usize, EndpointError> {
        self.line.settle().await
    }

    async fn detach(mut self: Box<Self>) {
        let (told, free) = oneshot::channel();
        self.release(Some(told));
        // Ends when the sender is gone, with or without a message.
        if timeout(self.line.patience(), free).await.is_err() {
            tracing::warn!("libvirt takes its time to let a console go; not waiting any longer");
        }
    }
}
