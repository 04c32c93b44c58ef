//! TLS towards displays, for VeNCrypt: our authorities, our certificate if there is one, and the
//! name that the display's must bear. It resumes no session, so that the certificate is checked
//! each time.

mod verifier;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, InconsistentKeys};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::HandshakeError;
use super::halves::IntoHalves;
use crate::core::rfb::display::Awaited;
use crate::pem::{self, PemError};
use verifier::DisplayVerifier;

/// Where the certificates are, and what is expected of a display's.
#[derive(Clone, Copy, Debug)]
pub struct DisplayTlsOptions<'a> {
    /// The authorities that issue displays' certificates, PEM.
    pub ca: &'a Path,
    /// Our certificate and its key, PEM, for displays that ask for one.
    pub client: Option<(&'a Path, &'a Path)>,
    /// The name or address that every display's certificate bears. `None`: the host that the
    /// display is connected to by.
    pub expected_name: Option<&'a str>,
    /// A certificate without subjectAltName bears its common name. For old ones: what they are
    /// checked for is less strict, and nothing else is.
    pub allow_common_name: bool,
}

/// Why there can be no TLS towards displays.
#[derive(Debug, thiserror::Error)]
pub enum DisplayTlsError {
    /// A file does not hold what it should.
    #[error(transparent)]
    File(#[from] PemError),
    /// The expected name is none.
    #[error(
        "\"{name}\" is neither a host name nor an address; expect the name that displays' certificates bear"
    )]
    BadName {
        /// What was configured.
        name: String,
        /// What is wrong with it.
        source: InvalidDnsNameError,
    },
    /// The private key is another certificate's.
    #[error("{}: not the private key of the certificate in {}; the first certificate there must be the agent's own", private_key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        private_key: PathBuf,
    },
    /// Our certificate or its key is of a kind that is not supported.
    #[error("{}: its certificate or its key cannot be used; issue an ECDSA P-256 or RSA pair anew", certificate.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// TLS is not available. A fault in the build.
    #[error("TLS could not be set up (this is a fault in the build)")]
    Provider(#[source] rustls::Error),
}

/// TLS towards displays.
#[derive(Clone)]
pub struct DisplayTls {
    config: Arc<ClientConfig>,
    expected_name: Option<ServerName<'static>>,
}

impl DisplayTls {
    /// Reads the files. Blocks on the disk.
    ///
    /// # Errors
    /// [`DisplayTlsError`] for the first thing that is wrong.
    pub fn load(options: &DisplayTlsOptions<'_>) -> Result<Self, DisplayTlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = DisplayVerifier::new(
            pem::authorities(options.ca)?,
            provider.signature_verification_algorithms,
            options.allow_common_name,
        );
        // TLS 1.2 too: QEMUs of the age of those certificates know no other.
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(DisplayTlsError::Provider)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match options.client {
            None => builder.with_no_client_auth(),
            Some((certificate, private_key)) => builder
                .with_client_auth_cert(
                    pem::certificates(certificate)?,
                    pem::private_key(private_key)?,
                )
                .map_err(|source| unusable(certificate, private_key, source))?,
        };
        config.resumption = Resumption::disabled();
        let expected_name = options.expected_name.map(server_name).transpose()?;
        Ok(Self {
            config: Arc::new(config),
            expected_name,
        })
    }

    /// Begins TLS with a display that was connected to by `host`, and verifies its certificate.
    ///
    /// # Cancel safety
    /// If dropped, the connection is closed.
    pub(super) async fn connect<S: IntoHalves>(
        &self,
        stream: S,
        host: Option<&str>,
    ) -> Result<TlsStream<S>, HandshakeError> {
        let name = match (&self.expected_name, host) {
            (Some(name), _) => name.clone(),
            (None, Some(host)) => server_name(host).map_err(|_| HandshakeError::NoName)?,
            (None, None) => return Err(HandshakeError::NoName),
        };
        TlsConnector::from(Arc::clone(&self.config))
            .connect(name, stream)
            .await
            .map_err(|error| HandshakeError::of_io(error, Awaited::Tls))
    }
}

impl fmt::Debug for DisplayTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DisplayTls")
            .field("expected_name", &self.expected_name)
            .finish_non_exhaustive()
    }
}

/// Of a host name, or of an address, in brackets or not.
fn server_name(name: &str) -> Result<ServerName<'static>, DisplayTlsError> {
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    ServerName::try_from(bare.to_owned()).map_err(|source| DisplayTlsError::BadName {
        name: name.to_owned(),
        source,
    })
}

fn unusable(certificate: &Path, private_key: &Path, source: rustls::Error) -> DisplayTlsError {
    match source {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            DisplayTlsError::Mismatch {
                certificate: certificate.into(),
                private_key: private_key.into(),
            }
        }
        source => DisplayTlsError::Unusable {
            certificate: certificate.into(),
            source,
        },
    }
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
