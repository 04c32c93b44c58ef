//! One connection to one agent over mutual TLS.
//!
//! Refuses to retry and to talk without TLS: which agent, and as whom, is decided before
//! the first byte.

mod address;
mod connector;
mod credentials;

use std::path::PathBuf;
use std::time::Duration;

use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

pub(crate) use self::address::{AgentAddress, is_dns_name};
pub(crate) use self::connector::Connector;
pub(crate) use self::credentials::{CredentialPaths, Credentials, Places};

/// How long name resolution, TCP, TLS and HTTP/2 may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// HTTP/2 receive window of one stream, in bytes: not below the output window that
/// `attach` asks for.
const STREAM_WINDOW: u32 = 1 << 20;

/// HTTP/2 receive window of the connection, in bytes.
const CONNECTION_WINDOW: u32 = 4 << 20;

/// How often a silent connection is asked for a sign of life, and how long the answer may
/// take: an agent that vanished is noticed within the sum.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// No directory has the files.
    #[error(
        "found none of {files} in {places}: make them with `vmconsolectl pki init DIR` and set \
         VMCONSOLE_PKI=DIR, or name the files with --certificate, --key and --ca"
    )]
    NoCredentials {
        /// The files that were wanted.
        files: String,
        /// Where they were looked for.
        places: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{} holds no {kind} in PEM form", path.display())]
    NotPem {
        /// Which.
        path: PathBuf,
        /// What should be in it.
        kind: String,
    },
    /// Certificate, key and CA do not make a TLS configuration.
    #[error("cannot set up TLS: check that certificate, key and CA belong together")]
    Tls(#[source] tonic::transport::Error),
    /// The agent cannot be reached, or its certificate was not accepted.
    #[error("cannot connect to the agent at {agent}")]
    Unreachable {
        /// Its address.
        agent: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// It took too long.
    #[error("the agent at {agent} did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout {
        /// Its address.
        agent: String,
    },
}

/// Connects to the agent. `server_name` is the name that its certificate must bear, by
/// default the host of the address.
///
/// # Errors
/// [`ConnectError::Tls`] before anything is sent, [`ConnectError::Unreachable`] and
/// [`ConnectError::Timeout`] after.
///
/// # Cancel safety
/// Dropping the future drops the attempt.
pub(crate) async fn connect(
    agent: &AgentAddress,
    server_name: Option<&str>,
    credentials: Credentials,
) -> Result<Channel, ConnectError> {
    let tls = ClientTlsConfig::new()
        .domain_name(server_name.unwrap_or(agent.host()))
        .ca_certificate(credentials.ca)
        .identity(credentials.identity);
    let endpoint = Endpoint::from_shared(agent.uri())
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(ConnectError::Tls)?
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE);
    match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(source)) => Err(ConnectError::Unreachable {
            agent: agent.to_string(),
            source,
        }),
        Err(_) => Err(ConnectError::Timeout {
            agent: agent.to_string(),
        }),
    }
}
