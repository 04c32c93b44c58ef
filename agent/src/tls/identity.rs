//! Who a client is, read from its verified certificate, and whether it may call.
//!
//! Identities are subject alternative names alone: URIs (SPIFFE) and DNS names. The
//! common name is not looked at. Nothing here verifies anything: the certificate must
//! have passed the TLS handshake.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::core::id::PeerIdentity;

/// The most names that a client's certificate may bear.
pub const MAX_IDENTITIES: usize = 32;
/// The longest name that counts as an identity, in bytes.
const MAX_NAME_BYTES: usize = 1024;
/// What tells a URI from a DNS name, here and in the configuration.
const URI_MARK: &str = "://";

/// Why no identities can be read from a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It cannot be parsed.
    #[error("the certificate cannot be parsed; issue it anew")]
    Malformed,
    /// It bears more than [`MAX_IDENTITIES`] names.
    #[error("the certificate bears more than {MAX_IDENTITIES} names; issue it with fewer")]
    TooMany,
}

/// What a client's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) identities: Vec<PeerIdentity>,
    pub(super) expires: SystemTime,
}

/// The URI and DNS names of a verified certificate, in its order.
///
/// Names that could be taken for one of the other kind are left out: a URI without `://`,
/// and a DNS name with a character that none has.
///
/// # Errors
/// [`IdentityError`]; a certificate without names is not one: it gives an empty list.
pub fn identities(certificate: &CertificateDer<'_>) -> Result<Vec<PeerIdentity>, IdentityError> {
    claims(certificate).map(|claims| claims.identities)
}

pub(super) fn claims(certificate: &CertificateDer<'_>) -> Result<Claims, IdentityError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| IdentityError::Malformed)?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| IdentityError::Malformed)?;
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    if names.len() > MAX_IDENTITIES {
        return Err(IdentityError::TooMany);
    }
    let identities = names.iter().filter_map(identity).collect();
    // A certificate that ended before 1970 does not pass a handshake.
    let expires = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(expires);
    Ok(Claims {
        identities,
        expires,
    })
}

fn identity(name: &GeneralName<'_>) -> Option<PeerIdentity> {
    let fits = |name: &str, is_allowed: fn(u8) -> bool| {
        (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_allowed)
    };
    match name {
        GeneralName::URI(uri) => {
            let fits = fits(uri, |b| b.is_ascii_graphic()) && uri.contains(URI_MARK);
            fits.then(|| PeerIdentity::new(uri))
        }
        GeneralName::DNSName(name) => {
            let fits = fits(name, |b| b.is_ascii_alphanumeric() || b"-_.*".contains(&b));
            fits.then(|| PeerIdentity::new(name))
        }
        _ => None,
    }
}

/// The SHA-256 of a certificate, by which logs and permissions tell one from another
/// (RFC 8705 calls it `x5t#S256`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of `certificate`.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Which clients may call, by name.
#[derive(Clone, Debug)]
pub struct AllowList {
    uris: HashSet<String>,
    /// In lower case.
    dns_names: HashSet<String>,
}

impl AllowList {
    /// A list of names: one with `://` is a URI, any other a DNS name.
    pub fn new(names: &[String]) -> Self {
        let (uris, dns_names): (Vec<&String>, Vec<&String>) =
            names.iter().partition(|name| name.contains(URI_MARK));
        Self {
            uris: uris.into_iter().cloned().collect(),
            dns_names: dns_names
                .into_iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
        }
    }

    /// The first of a client's identities that is on the list: URIs are compared exactly,
    /// DNS names without regard to case, wildcards not at all.
    pub fn admit(&self, identities: &[PeerIdentity]) -> Option<PeerIdentity> {
        let listed = |identity: &&PeerIdentity| {
            let name = identity.as_str();
            if name.contains(URI_MARK) {
                self.uris.contains(name)
            } else {
                self.dns_names.contains(&name.to_ascii_lowercase())
            }
        };
        identities.iter().find(listed).cloned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::Authority;
    use super::*;

    fn names(sans: &[&str]) -> Result<Vec<String>, IdentityError> {
        let leaf = Authority::new("ca").issue(sans);
        let found = identities(&leaf.certificate)?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn uri_and_dns_names_count_and_nothing_else_does() {
        let found = names(&[
            "URI:spiffe://example.org/proxy",
            "IP:192.0.2.1",
            "DNS:Proxy.example.org",
            "EMAIL:proxy@example.org",
        ]);
        let expected = ["spiffe://example.org/proxy", "Proxy.example.org"];
        assert_eq!(found.expect("two names"), expected);
        assert_eq!(names(&[]).expect("none, but a common name"), [""; 0]);
    }

    #[test]
    fn names_that_could_pass_for_the_other_kind_are_left_out() {
        let found = names(&[
            "DNS:spiffe://example.org/proxy",
            "URI:proxy.example.org",
            "URI:urn:x:y",
            "DNS:a b",
            "URI:x://a\nb",
            "DNS:ok.example.org",
        ]);
        assert_eq!(found.expect("one name"), ["ok.example.org"]);
    }

    #[test]
    fn too_many_names_are_refused_and_not_cut_off() {
        let many: Vec<String> = (0..=MAX_IDENTITIES)
            .map(|n| format!("DNS:n{n}.example"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(
            names(&many[1..]).expect("as many as may be").len(),
            MAX_IDENTITIES
        );
        assert_eq!(names(&many), Err(IdentityError::TooMany));
    }

    #[test]
    fn expiry_and_fingerprint_are_the_certificates() {
        let leaf = Authority::new("ca").issue_until(&["DNS:a.example"], 2030);
        let claims = claims(&leaf.certificate).expect("parses");
        let since_1970 = claims
            .expires
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("after");
        assert_eq!(
            since_1970.as_secs(),
            1_893_456_000,
            "2030-01-01 00:00:00 UTC"
        );

        // The SHA-256 of nothing (FIPS 180-4's well-known value).
        let empty = Fingerprint::of(&CertificateDer::from(Vec::new())).to_string();
        assert_eq!(
            empty,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn the_list_admits_uris_exactly_and_dns_names_in_any_case() {
        let list = AllowList::new(&["spiffe://Example.org/a".into(), "Proxy.Example.org".into()]);
        let admit = |names: &[&str]| {
            let identities: Vec<_> = names.iter().map(|name| PeerIdentity::new(name)).collect();
            list.admit(&identities).map(|identity| identity.to_string())
        };
        assert_eq!(
            admit(&["spiffe://Example.org/a"]).as_deref(),
            Some("spiffe://Example.org/a")
        );
        assert_eq!(
            admit(&["x.example", "proxy.example.ORG"]).as_deref(),
            Some("proxy.example.ORG")
        );
        for refused in [
            "spiffe://example.org/a",
            "spiffe://Example.org/a/",
            "example.org",
            "*.example.org",
            "",
        ] {
            assert_eq!(admit(&[refused]), None, "{refused}");
        }
        assert_eq!(admit(&[]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = identities(&CertificateDer::from(bytes));
        }

        #[test]
        fn no_damaged_certificate_makes_it_panic(at in any::<prop::sample::Index>(), to: u8) {
            let leaf = Authority::new("ca").issue(&["URI:spiffe://a/b", "DNS:a.example"]);
            let mut der = leaf.certificate.to_vec();
            let at = at.index(der.len());
            der[at] = to;
            if let Ok(found) = identities(&CertificateDer::from(der)) {
                prop_assert!(found.len() <= 2);
            }
        }
    }
}
