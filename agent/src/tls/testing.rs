//! Certificates for this module's tests.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(super) struct Leaf {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) pem: String,
    pub(super) key_pem: String,
    key: Vec<u8>,
}

impl Leaf {
    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).expect("rcgen wrote it")
    }
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("signs itself"),
        }
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate that is valid until 2040. Names are written `DNS:…`, `URI:…`,
    /// `IP:…`, `EMAIL:…`.
    pub(super) fn issue(&self, sans: &[&str]) -> Leaf {
        self.issue_until(sans, 2040)
    }

    /// The same, valid until the year `until` begins.
    pub(super) fn issue_until(&self, sans: &[&str], until: i32) -> Leaf {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "common.example.org");
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.subject_alt_names = sans.iter().map(|san| subject_alt_name(san)).collect();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        Leaf {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key: key.serialize_der(),
        }
    }
}

fn subject_alt_name(text: &str) -> SanType {
    let (kind, name) = text.split_once(':').expect("kind and name");
    let ia5 = || name.try_into().expect("ASCII");
    match kind {
        "DNS" => SanType::DnsName(ia5()),
        "URI" => SanType::URI(ia5()),
        "EMAIL" => SanType::Rfc822Name(ia5()),
        "IP" => SanType::IpAddress(name.parse().expect("an address")),
        _ => panic!("unknown kind {kind}"),
    }
}

/// A good set of files in a directory of their own.
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) private_key: PathBuf,
    pub(super) client_ca: PathBuf,
    pub(super) authority: Authority,
    _dir: tempfile::TempDir,
}

impl Files {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::new("ca");
        let leaf = authority.issue(&["DNS:agent.example.org"]);
        let files = Self {
            certificate: dir.path().join("agent.crt"),
            private_key: dir.path().join("agent.key"),
            client_ca: dir.path().join("ca.crt"),
            authority,
            _dir: dir,
        };
        std::fs::write(&files.certificate, &leaf.pem).expect("writes");
        std::fs::write(&files.client_ca, files.authority.pem()).expect("writes");
        files.write_key(&leaf.key_pem);
        files
    }

    pub(super) fn write_key(&self, pem: &str) {
        std::fs::write(&self.private_key, pem).expect("writes");
        self.set_key_mode(0o600);
    }

    pub(super) fn set_key_mode(&self, mode: u32) {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&self.private_key, permissions).expect("changes the mode");
    }
}
