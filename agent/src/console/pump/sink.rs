//! Takes one attachment's output to its console, and its end to the pump. Holds nothing back.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::console::live::Console;
use crate::endpoint::{EndpointEnd, OutputSink};

/// Where one attachment's output goes.
pub(super) struct Sink {
    console: Arc<Console>,
    attachment: u64,
    ended: Mutex<Option<oneshot::Sender<EndpointEnd>>>,
}

impl Sink {
    /// The sink of the console's attachment of this number, and where its end is told.
    pub(super) fn new(
        console: Arc<Console>,
        attachment: u64,
    ) -> (Arc<Self>, oneshot::Receiver<EndpointEnd>) {
        let (tell, ended) = oneshot::channel();
        let sink = Self {
            console,
            attachment,
            ended: Mutex::new(Some(tell)),
        };
        (Arc::new(sink), ended)
    }
}

impl OutputSink for Sink {
    fn output(&self, bytes: &[u8]) {
        self.console.output(self.attachment, bytes);
    }

    fn ended(&self, end: EndpointEnd) {
        if let Some(tell) = self.ended.lock().take() {
            // The pump may have let go already.
            let _ = tell.send(end);
        }
    }
}
