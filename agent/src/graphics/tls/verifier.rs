//! Whether a display's certificate is its own: the chain, the time, the usage, and the name. The
//! name is looked for in subjectAltName; where that is allowed, a certificate that has none may
//! bear it as its common name, as the old ones do that nova's documentation has made. Nothing
//! else is less strict for these.

use rustls::RootCertStore;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Verifies displays' certificates.
#[derive(Debug)]
pub(super) struct DisplayVerifier {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
    allow_common_name: bool,
}

impl DisplayVerifier {
    pub(super) const fn new(
        roots: RootCertStore,
        algorithms: WebPkiSupportedAlgorithms,
        allow_common_name: bool,
    ) -> Self {
        Self {
            roots,
            algorithms,
            allow_common_name,
        }
    }

    fn verify_name(
        &self,
        der: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        expected: &ServerName<'_>,
    ) -> Result<(), Error> {
        let refused = match verify_server_name(parsed, expected) {
            Err(
                error @ Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                ),
            ) => error,
            other => return other,
        };
        if self.allow_common_name && bears_common_name(der, expected) {
            return Ok(());
        }
        Err(refused)
    }
}

/// Whether a certificate without subjectAltName has one common name, and that is the expected
/// one. No wildcard is taken.
fn bears_common_name(der: &CertificateDer<'_>, expected: &ServerName<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return false;
    };
    // More than one counts as an error, and is not none.
    if !matches!(certificate.subject_alternative_name(), Ok(None)) {
        return false;
    }
    let mut names = certificate.subject().iter_common_name();
    let (Some(name), None) = (names.next(), names.next()) else {
        return false;
    };
    let name = name.as_str().ok().map(ServerName::try_from);
    matches!(name, Some(Ok(name)) if name == *expected)
}

impl ServerCertVerifier for DisplayVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        self.verify_name(end_entity, &parsed, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
