//! A private CA and the two certificates that mutual TLS between one agent and one proxy
//! needs.
//!
//! Refuses to touch the disk, and to sign anything but these two.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::connect::is_dns_name;

/// How long a certificate is valid unless told otherwise: development certificates that
/// are forgotten should stop working.
pub(crate) const DEFAULT_DAYS: u16 = 30;

/// The longest validity that may be asked for, in days. Some TLS stacks refuse more.
pub(crate) const MAX_DAYS: u16 = 825;

/// How long before now a certificate begins to be valid: clocks differ.
const BACKDATED: Duration = Duration::minutes(5);

/// The identity that the proxy's certificate bears unless told otherwise.
pub(crate) const DEFAULT_PROXY: &str = "spiffe://vmconsole.local/proxy/dev";

/// The names that the agent's certificate always bears.
fn local_names() -> [SubjectName; 3] {
    [
        SubjectName::Dns("localhost".to_owned()),
        SubjectName::Ip(Ipv4Addr::LOCALHOST.into()),
        SubjectName::Ip(Ipv6Addr::LOCALHOST.into()),
    ]
}

/// A name for a certificate: a subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SubjectName {
    /// A DNS name.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
    /// A URI, a SPIFFE id for instance.
    Uri(String),
}

impl SubjectName {
    /// The name of an agent: a DNS name or an IP address.
    ///
    /// # Errors
    /// One sentence for anything else.
    pub(crate) fn for_agent(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(address) => Ok(Self::Ip(address)),
            Err(_) if is_dns_name(text) => Ok(Self::Dns(text.to_owned())),
            Err(_) => Err("give a DNS name or an IP address, without a port".to_owned()),
        }
    }

    /// The name of a proxy: a URI or a DNS name.
    ///
    /// # Errors
    /// One sentence for anything else.
    pub(crate) fn for_proxy(text: &str) -> Result<Self, String> {
        let scheme = |scheme: &str| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        };
        match text.split_once("://") {
            Some((before, after)) if scheme(before) => {
                let plain = !after.is_empty() && after.bytes().all(|b| b.is_ascii_graphic());
                plain
                    .then(|| Self::Uri(text.to_owned()))
                    .ok_or("a URI has no spaces in it")
            }
            _ if is_dns_name(text) => Ok(Self::Dns(text.to_owned())),
            _ => Err("give a URI, such as spiffe://example.org/proxy, or a DNS name"),
        }
        .map_err(str::to_owned)
    }

    /// The name as rcgen takes it.
    fn san(&self) -> Result<SanType, rcgen::Error> {
        Ok(match self {
            Self::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            Self::Ip(address) => SanType::IpAddress(*address),
            Self::Uri(uri) => SanType::URI(uri.as_str().try_into()?),
        })
    }
}

/// What to make.
pub(crate) struct Plan {
    /// Names of the agent, beside those of the local host.
    pub(crate) agent_names: Vec<SubjectName>,
    /// Identities of the proxy; at least one.
    pub(crate) proxy_names: Vec<SubjectName>,
    /// Validity from now, in days: 1 to [`MAX_DAYS`].
    pub(crate) days: u16,
    /// What time it is.
    pub(crate) now: OffsetDateTime,
}

/// A certificate and its key, in PEM form.
pub(crate) struct Pair {
    /// The certificate.
    pub(crate) certificate: String,
    /// The private key (PKCS #8). Never logged.
    pub(crate) key: String,
}

/// All that [`Plan::make`] makes.
pub(crate) struct Pki {
    /// The CA.
    pub(crate) ca: Pair,
    /// The agent's, for serving.
    pub(crate) agent: Pair,
    /// The proxy's, for calling.
    pub(crate) proxy: Pair,
}

impl Plan {
    /// Makes the CA and signs both certificates. All keys are new and on the curve P-256,
    /// which every TLS stack takes (Ed25519 is refused by several).
    ///
    /// # Errors
    /// As the crypto library fails, or takes no such name.
    pub(crate) fn make(&self) -> Result<Pki, rcgen::Error> {
        let ca_key = KeyPair::generate()?;
        let ca_key_pem = ca_key.serialize_pem();
        let ca = CertifiedIssuer::self_signed(self.ca_params(), ca_key)?;
        let mut agent_names: Vec<SubjectName> = Vec::new();
        for name in self.agent_names.iter().cloned().chain(local_names()) {
            if !agent_names.contains(&name) {
                agent_names.push(name);
            }
        }
        let agent = self.leaf(
            "vmconsole agent",
            &agent_names,
            ExtendedKeyUsagePurpose::ServerAuth,
            &ca,
        )?;
        let proxy = self.leaf(
            "vmconsole proxy",
            &self.proxy_names,
            ExtendedKeyUsagePurpose::ClientAuth,
            &ca,
        )?;
        Ok(Pki {
            ca: Pair {
                certificate: ca.pem(),
                key: ca_key_pem,
            },
            agent,
            proxy,
        })
    }

    /// What a CA's certificate and a leaf have in common.
    fn params(&self, common_name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.not_before = self.now - BACKDATED;
        params.not_after = self.now + Duration::days(self.days.into());
        params.serial_number = Some(SerialNumber::from_slice(uuid::Uuid::new_v4().as_bytes()));
        params
    }

    /// A CA that may sign leaves and revocation lists, and no further CA.
    fn ca_params(&self) -> CertificateParams {
        // Two CAs of one name make a TLS stack complain of a bad signature where the issuer
        // is another one.
        let id = uuid::Uuid::new_v4().simple().to_string();
        let short = id.get(..8).unwrap_or(&id);
        let mut params = self.params(&format!("vmconsole development CA {short}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    /// One certificate for one use.
    fn leaf(
        &self,
        common_name: &str,
        names: &[SubjectName],
        usage: ExtendedKeyUsagePurpose,
        ca: &CertifiedIssuer<'_, KeyPair>,
    ) -> Result<Pair, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = self.params(common_name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.subject_alt_names = names
            .iter()
            .map(SubjectName::san)
            .collect::<Result<Vec<_>, _>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, ca)?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

#[cfg(test)]
mod tests;
