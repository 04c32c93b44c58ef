//! A console that is a unix socket, as the agent itself opens it.

use std::path::PathBuf;
use std::sync::Arc;

use vmconsole_agent::endpoint::{
    Attachment, Claim, Direct, DirectEndpoints, Endpoint, EndpointError, Holder, OutputSink,
};

/// The way to a console that is a unix socket.
#[derive(Debug)]
pub struct SocketEndpoint {
    socket: Direct,
    endpoints: Arc<DirectEndpoints>,
}

impl SocketEndpoint {
    /// The console behind `path`, which `endpoints` opens.
    pub const fn new(path: PathBuf, endpoints: Arc<DirectEndpoints>) -> Self {
        let socket = Direct::Unix(path);
        Self { socket, endpoints }
    }
}

#[async_trait::async_trait]
impl Endpoint for SocketEndpoint {
    async fn attach(
        &self,
        sink: Arc<dyn OutputSink>,
        _claim: Claim,
    ) -> Result<Box<dyn Attachment>, EndpointError> {
        self.endpoints.attach(&self.socket, sink).await
    }

    async fn holder(&self) -> Option<Holder> {
        self.endpoints.holder(&self.socket).await
    }
}
