//! Certificates of displays for this module's tests, and a server that has one.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::*;

/// The host that most displays are on.
pub(in crate::graphics) const HOST: &str = "host1.example.org";

/// A certificate to be.
pub(in crate::graphics) struct Leaf<'a> {
    pub(in crate::graphics) common_names: &'a [&'a str],
    pub(in crate::graphics) sans: &'a [&'a str],
    pub(in crate::graphics) until: i32,
    pub(in crate::graphics) usage: ExtendedKeyUsagePurpose,
}

impl Default for Leaf<'_> {
    /// A display's on [`HOST`].
    fn default() -> Self {
        Self {
            common_names: &["display"],
            sans: &[HOST],
            until: 2040,
            usage: ExtendedKeyUsagePurpose::ServerAuth,
        }
    }
}

/// An authority, in files of its own.
pub(in crate::graphics) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(in crate::graphics) directory: tempfile::TempDir,
}

impl Authority {
    pub(in crate::graphics) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    pub(in crate::graphics) fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Issues a certificate; both of it are PEM.
    pub(in crate::graphics) fn issue(&self, leaf: &Leaf<'_>) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // rcgen keeps one value for each type: a second common name is given by its number.
        for (at, name) in leaf.common_names.iter().enumerate() {
            let common_name = match at {
                0 => DnType::CommonName,
                _ => DnType::CustomDnType(vec![2, 5, 4, 3]),
            };
            params.distinguished_name.push(common_name, *name);
        }
        let san = |name: &&str| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*name).try_into().unwrap()),
        };
        params.subject_alt_names = leaf.sans.iter().map(san).collect();
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(leaf.until, 1, 1);
        params.extended_key_usages = vec![leaf.usage.clone()];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A server with such a certificate, which demands one of its clients if `demanding`.
    pub(in crate::graphics) fn server(
        &self,
        leaf: &Leaf<'_>,
        version: &'static SupportedProtocolVersion,
        demanding: bool,
    ) -> Arc<ServerConfig> {
        let (certificate, key) = self.issue(leaf);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap();
        let builder = if demanding {
            let roots = Arc::new(pem::authorities(&self.ca()).unwrap());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = builder.with_single_cert(vec![certificate.der().clone()], key);
        Arc::new(config.unwrap())
    }

    /// Loads what trusts this authority.
    pub(in crate::graphics) fn trust(
        &self,
        expected_name: Option<&str>,
        allow_common_name: bool,
    ) -> DisplayTls {
        DisplayTls::load(&DisplayTlsOptions {
            ca: &self.ca(),
            client: None,
            expected_name,
            allow_common_name,
        })
        .unwrap()
    }
}
