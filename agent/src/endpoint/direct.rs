//! Endpoints that the agent opens itself: terminals, unix sockets, TCP ports.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Attachment, Direct, EndpointError, Holder, OutputSink};
use crate::shutdown::Tasks;

/// What may be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectRules {
    /// Below which directories sockets and terminals may lie, beside terminals in `/dev/pts`.
    pub directories: Vec<PathBuf>,
    /// The ids of the users whom they, and the processes behind them, may belong to.
    pub owners: Vec<u32>,
    /// Which TCP addresses are connected to.
    pub tcp: TcpRule,
}

/// Which TCP addresses are connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpRule {
    /// None.
    Off,
    /// Those of this host's loopback.
    Loopback,
    /// All.
    Any,
}

/// Opens endpoints by these rules, and drains what is attached among its tasks.
#[derive(Debug)]
pub struct DirectEndpoints {
    rules: DirectRules,
    tasks: Tasks,
}

impl DirectEndpoints {
    /// Opens by `rules`; what reads runs among `tasks`.
    pub fn new(rules: DirectRules, tasks: Tasks) -> Arc<Self> {
        Arc::new(Self { rules, tasks })
    }

    /// Attaches, as [`super::Endpoint::attach`] does. Nobody can be displaced from these.
    ///
    /// # Errors
    /// [`EndpointError`]; [`EndpointError::Denied`] for what the rules do not allow.
    ///
    /// # Cancel safety
    /// If dropped, nothing stays attached.
    pub async fn attach(
        &self,
        direct: &Direct,
        _sink: Arc<dyn OutputSink>,
    ) -> Result<Box<dyn Attachment>, EndpointError> {
        let _ = (&self.rules, &self.tasks);
        Err(EndpointError::Unsupported(direct.to_string()))
    }

    /// Who else holds it, as far as that can be found out.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn holder(&self, _direct: &Direct) -> Option<Holder> {
        None
    }
}
