//! Connections to one agent, as often as one is wanted.
//!
//! Refuses to keep what was read: certificates may have been renewed since the last time.

use tonic::transport::Channel;

use super::{AgentAddress, ConnectError, CredentialPaths, Credentials, Places, connect};

/// Whom to reach, and as whom.
#[derive(Debug)]
pub(crate) struct Connector {
    /// The agent's address.
    pub(crate) agent: AgentAddress,
    /// The name that its certificate must bear, if not the address's host.
    pub(crate) server_name: Option<String>,
    /// The files that the caller named.
    pub(crate) paths: CredentialPaths,
    /// Where the others are.
    pub(crate) places: Places,
}

impl Connector {
    /// Reads the files and connects.
    ///
    /// # Errors
    /// As [`Credentials::load`] and [`connect`].
    ///
    /// # Cancel safety
    /// Dropping the future drops the attempt.
    pub(crate) async fn connect(&self) -> Result<Channel, ConnectError> {
        let credentials = Credentials::load(&self.paths, &self.places)?;
        connect(&self.agent, self.server_name.as_deref(), credentials).await
    }
}
