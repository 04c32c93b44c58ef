//! Whether the agent's certificates are valid, and whether its user can read them and its key.
//!
//! Refuses to read the key: who may is all that is looked at.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::SystemTime;

use x509_parser::pem::Pem;

use super::access::{AGENT_USER, Person, READ, described};
use super::config::Settings;
use super::finding::{Finding, Severity};

/// The longest file that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// The most certificates of one file that are looked at.
const MAX_CERTIFICATES: usize = 64;

/// How many days ahead the end of a certificate is told. `pki init` makes certificates of 30
/// days: those are not to be warned of as soon as they are made. The agent has the same.
const DAYS_AHEAD: i64 = 14;

const DAY: i64 = 86_400;

/// Rights to a key's file that the agent refuses: see its `grpc.private_key`.
const EXPOSED: u32 = 0o026;

const INVALID: &str = "certificate_invalid";
const GOOD: &str = "certificate_good";
const KEY: &str = "private_key";

/// Seconds since 1970: the first in which a certificate is valid, and the first in which it is
/// not any more (its last one belongs to it: RFC 5280, 4.1.2.5); and its end as text.
struct Validity {
    from: i64,
    until: i64,
    until_text: String,
}

/// What is to be said of the three files.
pub(super) fn look(settings: &Settings, agent: Option<&Person>, now: SystemTime) -> Vec<Finding> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    });
    let mut findings = Vec::new();
    if let Some(path) = &settings.certificate {
        findings.push(certificate("the agent's certificate", path, true, now));
        findings.extend(unreadable(path, agent));
    }
    if let Some(path) = &settings.client_ca {
        findings.push(certificate("the CA of the clients", path, false, now));
        findings.extend(unreadable(path, agent));
    }
    if let Some(path) = &settings.private_key {
        findings.push(key(path));
        findings.extend(unreadable(path, agent));
    }
    findings
}

fn certificate(what: &str, path: &Path, all: bool, now: i64) -> Finding {
    let place = path.display();
    let validities = match read(path) {
        Ok(validities) => validities,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Finding::note(INVALID, format!("{what} may not be read by you"))
                .evidence(place.to_string())
                .next("run doctor as root");
        }
        Err(error) => {
            return Finding::problem(INVALID, format!("{what} cannot be read"))
                .evidence(format!("{place}: {error}"))
                .next("correct the path, or write the file anew in PEM");
        }
    };
    let valid = |one: &&Validity| one.from <= now && now < one.until;
    let stops = all || !validities.iter().any(|one| valid(&one));
    if let Some(bad) = validities.iter().find(|one| !valid(one)) {
        return invalid(what, bad, stops, now).evidence(place.to_string());
    }
    let Some(first) = validities.iter().min_by_key(|one| one.until) else {
        return Finding::problem(INVALID, format!("{what} has no certificate in it"))
            .evidence(place.to_string())
            .next("write the file anew in PEM");
    };
    let days = (first.until - now) / DAY;
    let evidence = format!("{place}: valid until {}", first.until_text);
    if days < DAYS_AHEAD {
        Finding::warning("certificate_expires", format!("{what} ends in {days} days"))
            .evidence(evidence)
            .next("issue it anew, replace the file, and restart the agent")
    } else {
        Finding::ok(GOOD, format!("{what} is valid for {days} days")).evidence(evidence)
    }
}

fn invalid(what: &str, one: &Validity, stops: bool, now: i64) -> Finding {
    let severity = if stops {
        Severity::Problem
    } else {
        Severity::Warning
    };
    if now < one.from {
        let days = (one.from - now) / DAY;
        Finding::new(
            severity,
            INVALID,
            format!("{what} is valid only in {days} days"),
        )
        .next("see whether the host's clock is right; if it is, issue the certificate anew")
    } else {
        let days = (now - one.until) / DAY;
        Finding::new(severity, INVALID, format!("{what} ended {days} days ago"))
            .next("issue it anew, replace the file, and restart the agent")
    }
}

fn read(path: &Path) -> io::Result<Vec<Validity>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let broken = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let blocks = Pem::iter_from_buffer(&bytes).take(MAX_CERTIFICATES);
    let blocks = blocks.collect::<Result<Vec<_>, _>>();
    let blocks = blocks.map_err(|_| broken("it is not PEM"))?;
    let certificates = blocks.iter().filter(|block| block.label == "CERTIFICATE");
    certificates
        .map(|block| {
            let parsed = block
                .parse_x509()
                .map_err(|_| broken("it has something that is no certificate"))?;
            let validity = parsed.validity();
            Ok(Validity {
                from: validity.not_before.timestamp(),
                until: validity.not_after.timestamp().saturating_add(1),
                until_text: validity.not_after.to_string(),
            })
        })
        .collect()
}

fn key(path: &Path) -> Finding {
    let place = path.display();
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Finding::note(KEY, "the agent's key may not be looked at by you")
                .evidence(place.to_string())
                .next("run doctor as root");
        }
        Err(error) => {
            return Finding::problem(KEY, "the agent's key is not there")
                .evidence(format!("{place}: {error}"))
                .next("correct grpc.private_key, or put the key there");
        }
    };
    let evidence = described(path, &metadata);
    if metadata.permissions().mode() & EXPOSED != 0 {
        return Finding::problem(KEY, "others than the agent may read or write its key")
            .evidence(evidence)
            .next(format!("chmod 0640 {place}"));
    }
    Finding::ok(KEY, "the agent's key is for its owner and group alone").evidence(evidence)
}

/// Whether the agent's user is kept from a file that is there.
fn unreadable(path: &Path, agent: Option<&Person>) -> Option<Finding> {
    let agent = agent?;
    let at = agent.barred(path, READ).ok()??;
    let metadata = at.metadata().ok()?;
    let summary = format!("user {AGENT_USER} may not read {}", path.display());
    let finding = Finding::problem("file_access", summary).evidence(described(&at, &metadata));
    Some(finding.next(format!(
        "give it to the agent's group: chgrp {AGENT_USER} {0}, and chmod g+{1} {0}",
        at.display(),
        if metadata.is_dir() { "x" } else { "r" },
    )))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// 2026-01-01.
    const NOW: u64 = 1_767_225_600;

    fn pem(until: (i32, u8, u8)) -> String {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    }

    fn told(findings: &[Finding]) -> Vec<(&str, Severity)> {
        findings
            .iter()
            .map(|f| (f.code.as_str(), f.severity))
            .collect()
    }

    #[test]
    fn certificates_and_key_are_judged_by_time_and_mode() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(root.path().join(name));
        let settings = Settings {
            listen: Vec::new(),
            certificate: path("agent.crt"),
            private_key: path("agent.key"),
            client_ca: path("ca.crt"),
            libvirt: None,
        };
        let look = |days: u64| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + days * 86_400);
            super::look(&settings, None, now)
        };
        let problem = Severity::Problem;
        assert_eq!(
            told(&look(0)),
            [(INVALID, problem), (INVALID, problem), (KEY, problem)]
        );

        let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
        let mode = |mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(root.path().join("agent.key"), permissions).unwrap();
        };
        let (long, short) = (pem((2030, 1, 1)), pem((2026, 1, 20)));
        write("agent.crt", &short);
        write("ca.crt", &format!("{long}{short}"));
        write("agent.key", "secret");
        mode(0o640);
        let warning = Severity::Warning;
        let soon = ("certificate_expires", warning);
        let good = (GOOD, Severity::Ok);
        // 14 days ahead, and not a day before.
        assert_eq!(told(&look(5)), [good, good, (KEY, Severity::Ok)]);
        assert_eq!(told(&look(6)), [soon, soon, (KEY, Severity::Ok)]);
        assert_eq!(
            look(6)[0].summary,
            "the agent's certificate ends in 13 days"
        );
        // Its last second is good, as TLS sees it too.
        assert_eq!(told(&look(19))[0], soon);
        assert_eq!(
            told(&look(20)),
            [(INVALID, problem), (INVALID, warning), (KEY, Severity::Ok)]
        );
        write("agent.crt", &long);
        write("ca.crt", "no PEM");
        mode(0o644);
        assert_eq!(
            told(&look(0)),
            [(GOOD, Severity::Ok), (INVALID, problem), (KEY, problem)]
        );
    }

    #[test]
    fn what_the_agents_user_may_not_read_is_told() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().canonicalize().unwrap().join("agent.key");
        std::fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(root.path(), 0o755);
        mode(&file, 0o600);
        let agent = Person {
            name: "vmconsole".into(),
            user: 4_000_000,
            groups: Vec::new(),
        };
        let finding = unreadable(&file, Some(&agent)).unwrap();
        let next = format!("chmod g+r {}", file.display());
        assert!(finding.next_step.ends_with(&next), "{finding:?}");
        mode(&file, 0o644);
        assert_eq!(unreadable(&file, Some(&agent)), None);
        assert_eq!(unreadable(&file, None), None);
    }
}
