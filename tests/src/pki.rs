//! A private CA in a directory of the test's own: the agent's certificate, proxies'
//! certificates, and those that the agent is to refuse.
//!
//! It makes keys for tests only: they lie beside the certificates, in the open.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType, date_time_ymd,
};
use time::OffsetDateTime;

/// The name that the agent's certificate bears, beside `localhost` and the loopback addresses.
pub const AGENT_NAME: &str = "agent.test";

/// The name of the proxy that [`Pki::proxy`] issues a certificate to.
pub const PROXY_NAME: &str = "spiffe://test/proxy";

/// The year in which what does not expire before ends.
const LAST_YEAR: i32 = 2049;

/// Only the owner reads a private key.
const KEY_MODE: u32 = 0o600;

/// Who signs a client's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Issuer {
    /// The CA that the agent trusts.
    #[default]
    Trusted,
    /// Another CA, of the same name, that the agent knows nothing of.
    Stranger,
}

/// What a client's certificate is to say.
#[derive(Clone, Copy, Debug)]
pub struct ClientCert<'a> {
    /// Its subject alternative names: a URI where there is `://`, else a DNS name.
    pub names: &'a [&'a str],
    /// Whether its time was over years ago.
    pub expired: bool,
    /// Who signs it.
    pub issuer: Issuer,
}

impl<'a> ClientCert<'a> {
    /// A good one that bears `names`.
    pub const fn named(names: &'a [&'a str]) -> Self {
        Self {
            names,
            expired: false,
            issuer: Issuer::Trusted,
        }
    }
}

/// A certificate and its private key, PEM.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Credentials {
    /// Writes both to `dir`, and returns where: `NAME.crt` and `NAME.key`, the latter for
    /// its owner alone.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let certificate = dir.join(format!("{name}.crt"));
        let key = dir.join(format!("{name}.key"));
        std::fs::write(&certificate, &self.certificate).expect("the directory takes files");
        std::fs::write(&key, &self.key).expect("the directory takes files");
        let mode = std::fs::Permissions::from_mode(KEY_MODE);
        std::fs::set_permissions(&key, mode).expect("the file is ours");
        (certificate, key)
    }
}

/// A CA, with what it issued to the agent lying in a directory.
pub struct Pki {
    trusted: CertifiedIssuer<'static, KeyPair>,
    stranger: CertifiedIssuer<'static, KeyPair>,
    ca: PathBuf,
    agent: (PathBuf, PathBuf),
}

impl Pki {
    /// Makes a CA and the agent's certificate, and writes `ca.crt`, `agent.crt` and
    /// `agent.key` to `dir`.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn new(dir: &Path) -> Self {
        let (trusted, stranger) = (authority(), authority());
        let ca = dir.join("ca.crt");
        std::fs::write(&ca, trusted.pem()).expect("the directory takes files");
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let agent = leaf(
            &trusted,
            agent_names(),
            date_time_ymd(LAST_YEAR, 1, 1),
            usage,
        );
        Self {
            agent: agent.write(dir, "agent"),
            trusted,
            stranger,
            ca,
        }
    }

    /// The CA's certificate, PEM: what agent and clients trust.
    pub fn ca_pem(&self) -> String {
        self.trusted.pem()
    }

    /// The CA's certificate's file.
    pub fn ca_file(&self) -> &Path {
        &self.ca
    }

    /// The files of the agent's certificate and of its key.
    pub fn agent_files(&self) -> (&Path, &Path) {
        (&self.agent.0, &self.agent.1)
    }

    /// Issues the agent's certificate and key anew, in place of those that lie in the
    /// directory: valid for so long from now on, to the second.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn reissue_agent(&self, valid: Duration) {
        let until = OffsetDateTime::now_utc() + valid;
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let issued = leaf(&self.trusted, agent_names(), until, usage);
        let dir = self.agent.0.parent().expect("a file lies in a directory");
        issued.write(dir, "agent");
    }

    /// Issues a client's certificate.
    pub fn issue(&self, wanted: ClientCert<'_>) -> Credentials {
        let issuer = match wanted.issuer {
            Issuer::Trusted => &self.trusted,
            Issuer::Stranger => &self.stranger,
        };
        let names = wanted.names.iter().map(|name| alternative_name(name));
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let year = if wanted.expired { 2020 } else { LAST_YEAR };
        leaf(issuer, names.collect(), date_time_ymd(year, 1, 1), usage)
    }

    /// A good proxy's certificate, named [`PROXY_NAME`].
    pub fn proxy(&self) -> Credentials {
        self.issue(ClientCert::named(&[PROXY_NAME]))
    }

    /// The `[grpc]` and `[access]` tables of an agent's configuration: it listens on a free
    /// port of the loopback address, and admits [`PROXY_NAME`].
    pub fn config_tables(&self) -> String {
        format!(
            "[grpc]\nlisten = [\"127.0.0.1:0\"]\ncertificate = {:?}\nprivate_key = {:?}\n\
             client_ca = {:?}\ndrain_seconds = 5\n\n[access]\nallowed_clients = [{PROXY_NAME:?}]\n",
            self.agent.0, self.agent.1, self.ca,
        )
    }
}

fn agent_names() -> Vec<SanType> {
    let dns = |name: &str| SanType::DnsName(name.try_into().expect("ASCII"));
    vec![
        dns(AGENT_NAME),
        dns("localhost"),
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ]
}

fn alternative_name(name: &str) -> SanType {
    let text = name.try_into().expect("names are ASCII");
    if name.contains("://") {
        SanType::URI(text)
    } else {
        SanType::DnsName(text)
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key can be made");
    CertifiedIssuer::self_signed(params, key).expect("a CA signs itself")
}

fn leaf(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    names: Vec<SanType>,
    until: OffsetDateTime,
    usage: ExtendedKeyUsagePurpose,
) -> Credentials {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = until;
    params.subject_alt_names = names;
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().expect("a key can be made");
    let certificate = params.signed_by(&key, issuer).expect("a CA signs");
    Credentials {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}
