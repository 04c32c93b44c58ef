//! Reads the certificates back with another library than the one that made them.

use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::*;

use super::*;

const NOW: i64 = 1_800_000_000;

fn plan() -> Plan {
    Plan {
        agent_names: vec![SubjectName::for_agent("host1.example.org").unwrap()],
        proxy_names: vec![
            SubjectName::for_proxy("spiffe://example.org/web").unwrap(),
            SubjectName::for_proxy("front.example.org").unwrap(),
        ],
        days: 30,
        now: OffsetDateTime::from_unix_timestamp(NOW).unwrap(),
    }
}

fn der(pem: &str) -> Vec<u8> {
    parse_x509_pem(pem.as_bytes()).unwrap().1.contents
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let san = certificate.subject_alternative_name().unwrap().unwrap();
    san.value
        .general_names
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn the_ca_may_sign_leaves_and_nothing_else() {
    let pki = plan().make().unwrap();
    let der = der(&pki.ca.certificate);
    let (_, ca) = parse_x509_certificate(&der).unwrap();
    let constraints = ca.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = ca.key_usage().unwrap().unwrap();
    assert!(usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature());
    ca.verify_signature(None).unwrap();
}

#[test]
fn the_agents_certificate_serves_under_its_names() {
    let pki = plan().make().unwrap();
    let (ca_der, der) = (der(&pki.ca.certificate), der(&pki.agent.certificate));
    let (_, ca) = parse_x509_certificate(&ca_der).unwrap();
    let (_, agent) = parse_x509_certificate(&der).unwrap();
    agent.verify_signature(Some(ca.public_key())).unwrap();
    assert_eq!(agent.issuer(), ca.subject());
    assert!(!agent.basic_constraints().unwrap().unwrap().value.ca);
    let extended = agent.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && !extended.client_auth);
    assert!(
        agent
            .key_usage()
            .unwrap()
            .unwrap()
            .value
            .digital_signature()
    );
    assert_eq!(
        names(&agent),
        [
            "DNSName(host1.example.org)",
            "DNSName(localhost)",
            "IPAddress(7f:00:00:01)",
            "IPAddress(00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:01)"
        ]
    );
}

#[test]
fn the_proxys_certificate_calls_under_its_identities() {
    let pki = plan().make().unwrap();
    let (ca_der, der) = (der(&pki.ca.certificate), der(&pki.proxy.certificate));
    let (_, ca) = parse_x509_certificate(&ca_der).unwrap();
    let (_, proxy) = parse_x509_certificate(&der).unwrap();
    proxy.verify_signature(Some(ca.public_key())).unwrap();
    let extended = proxy.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && !extended.server_auth);
    assert_eq!(
        names(&proxy),
        [
            "URI(spiffe://example.org/web)",
            "DNSName(front.example.org)"
        ]
    );
}

#[test]
fn validity_begins_a_little_before_now_and_lasts_as_long_as_asked() {
    let pki = plan().make().unwrap();
    for pem in [
        &pki.ca.certificate,
        &pki.agent.certificate,
        &pki.proxy.certificate,
    ] {
        let der = der(pem);
        let (_, certificate) = parse_x509_certificate(&der).unwrap();
        let validity = certificate.validity();
        assert_eq!(validity.not_before.timestamp(), NOW - 300);
        assert_eq!(validity.not_after.timestamp(), NOW + 30 * 86_400);
    }
}

#[test]
fn serial_numbers_and_keys_differ() {
    let pki = plan().make().unwrap();
    let ders = [&pki.ca, &pki.agent, &pki.proxy].map(|pair| der(&pair.certificate));
    let parsed: Vec<_> = ders
        .iter()
        .map(|der| parse_x509_certificate(der).unwrap().1)
        .collect();
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        assert_ne!(parsed[a].raw_serial(), parsed[b].raw_serial());
        assert_ne!(parsed[a].public_key().raw, parsed[b].public_key().raw);
    }
}

#[test]
fn no_two_authorities_have_one_name() {
    let subject = || {
        let der = der(&plan().make().unwrap().ca.certificate);
        parse_x509_certificate(&der)
            .unwrap()
            .1
            .subject()
            .to_string()
    };
    assert_ne!(subject(), subject());
}

#[test]
fn names_are_checked() {
    assert_eq!(
        SubjectName::for_agent("2001:db8::1"),
        Ok(SubjectName::Ip("2001:db8::1".parse().unwrap()))
    );
    for bad in ["", "host:2223", "a b", "spiffe://x/y"] {
        assert!(SubjectName::for_agent(bad).is_err(), "{bad}");
    }
    for bad in ["", "://x", "spiffe://", "spiffe://a b", "a/b"] {
        assert!(SubjectName::for_proxy(bad).is_err(), "{bad}");
    }
}
