//! From three PEM files to a rustls configuration.
//!
//! TLS 1.3 alone, a client certificate required, HTTP/2 required, and no resumption: a
//! resumed session would not ask the verifier again, and so let a client in whose
//! certificate was revoked or removed meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{InconsistentKeys, ServerConfig};

use crate::pem::{self, PemError};

/// The application protocol, as ALPN names it (RFC 7301): gRPC is HTTP/2.
const ALPN_HTTP2: &[u8] = b"h2";

/// Why the certificates and the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file does not hold what it should.
    #[error(transparent)]
    File(#[from] PemError),
    /// The private key is another certificate's.
    #[error("{}: not the private key of the certificate in {}; the first certificate there must be the agent's own", private_key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        private_key: PathBuf,
    },
    /// The certificate or the key is of a kind that is not supported.
    #[error("{}: its certificate or its key cannot be used; issue an ECDSA P-256 or Ed25519 pair anew", certificate.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// No way to check clients could be built. A fault in the agent.
    #[error("the client certificate check could not be set up (this is a fault in the agent)")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// TLS 1.3 is not available. A fault in the build.
    #[error("TLS 1.3 could not be set up (this is a fault in the build)")]
    Provider(#[source] rustls::Error),
}

/// Reads the agent's certificate chain, its private key and the CAs of its clients, all
/// PEM, and makes of them what [`super::Handshakes`] needs. Blocks on the disk.
///
/// # Errors
/// [`TlsError`] for the first thing that is wrong; nothing was changed anywhere.
pub fn server_config(
    certificate: &Path,
    private_key: &Path,
    client_ca: &Path,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = pem::certificates(certificate)?;
    let key = pem::private_key(private_key)?;
    let verifier = client_verifier(client_ca, Arc::clone(&provider))?;

    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Provider)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|source| match source {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch {
                certificate: certificate.into(),
                private_key: private_key.into(),
            },
            source => TlsError::Unusable {
                certificate: certificate.into(),
                source,
            },
        })?;
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

fn client_verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = pem::authorities(path)?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(TlsError::Verifier)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use rustls::ProtocolVersion;

    use super::super::testing::{Authority, Files};
    use super::*;

    fn load(files: &Files) -> Result<Arc<ServerConfig>, TlsError> {
        server_config(&files.certificate, &files.private_key, &files.client_ca)
    }

    fn refusal(files: &Files) -> String {
        let error = load(files).map(|_| ()).expect_err("it is wrong");
        if let Some(source) = error.source() {
            assert!(
                !error.to_string().contains(&source.to_string()),
                "said once"
            );
        }
        error.to_string()
    }

    #[test]
    fn a_good_set_gives_tls13_with_http2_and_without_resumption() {
        let config = load(&Files::new()).expect("all is well");
        assert!(
            config
                .crypto_provider()
                .cipher_suites
                .iter()
                .any(|suite| { suite.version().version == ProtocolVersion::TLSv1_3 })
        );
        assert_eq!(config.alpn_protocols, [b"h2".to_vec()]);
        assert_eq!(config.send_tls13_tickets, 0);
        assert_eq!(config.max_early_data_size, 0);
        assert!(!config.session_storage.can_cache());
        assert!(!config.ticketer.enabled());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let files = Files::new();
        for mode in [0o644, 0o660, 0o602, 0o777] {
            files.set_key_mode(mode);
            let message = refusal(&files);
            assert!(
                message.contains(&format!("(mode {mode:04o}); run: chmod 0640 /")),
                "{message}"
            );
        }
        for mode in [0o600, 0o640, 0o400, 0o440] {
            files.set_key_mode(mode);
            load(&files).expect("only the owner and the group read it");
        }
    }

    #[test]
    fn another_certificates_key_is_refused() {
        let files = Files::new();
        let other = Authority::new("other").issue(&["DNS:agent.example.org"]);
        files.write_key(&other.key_pem);
        let message = refusal(&files);
        assert!(
            message.contains("not the private key of the certificate in"),
            "{message}"
        );
    }

    #[test]
    fn files_that_hold_something_else_are_named() {
        let files = Files::new();
        std::fs::write(&files.client_ca, "no PEM here").expect("writes");
        assert!(refusal(&files).ends_with("-----END\""));
        assert!(refusal(&files).starts_with(&files.client_ca.display().to_string()));

        let files = Files::new();
        std::fs::copy(&files.certificate, &files.private_key).expect("copies");
        files.set_key_mode(0o600);
        assert!(refusal(&files).contains("has no usable private key"));

        let files = Files::new();
        std::fs::remove_file(&files.certificate).expect("removes");
        assert!(refusal(&files).starts_with(&files.certificate.display().to_string()));

        let files = Files::new();
        let long = vec![b'#'; pem::MAX_FILE_BYTES as usize + 1];
        std::fs::write(&files.certificate, long).expect("writes");
        assert!(refusal(&files).contains("longer than 1048576 bytes"));

        let files = Files::new();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&files.client_ca, broken).expect("writes");
        assert!(refusal(&files).contains("certificate 1 in it cannot be a CA"));

        let files = Files::new();
        std::fs::write(&files.certificate, broken).expect("writes");
        assert!(refusal(&files).contains("its certificate or its key cannot be used"));
    }
}
