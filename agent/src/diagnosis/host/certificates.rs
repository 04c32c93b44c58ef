//! Whether the agent's certificate and its clients' CA are valid, and for how long.
//!
//! It judges the files as they are now: what the agent serves with, it read when it started.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::super::finding::{Code, Finding, Severity, length};
use super::HostConfig;

/// The longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The most certificates of one file that are looked at.
const MAX_CERTIFICATES: usize = 64;
/// How long ahead the end of a certificate is told: less than the 30 days that those of
/// `vmconsolectl pki init` are valid for. `vmconsolectl doctor` has the same.
const AHEAD: Duration = Duration::from_secs(14 * 86_400);

/// One certificate's time.
struct Validity {
    from: SystemTime,
    /// The first moment at which it is not valid any more: its last second belongs to it
    /// (RFC 5280, 4.1.2.5).
    until: SystemTime,
    /// The end, for people.
    until_text: String,
}

/// Looks at both files.
pub(super) fn look(config: &HostConfig, now: SystemTime) -> Vec<Finding> {
    vec![
        file(
            "the agent's certificate",
            "grpc.certificate",
            &config.certificate,
            true,
            now,
        ),
        file(
            "the CA of the clients",
            "grpc.client_ca",
            &config.client_ca,
            false,
            now,
        ),
    ]
}

/// What is to be said of one file. A chain needs every certificate of it; of several CAs, one
/// that has ended shuts out its own clients alone.
fn file(what: &str, key: &str, path: &Path, all: bool, now: SystemTime) -> Finding {
    let place = format!("{key} = \"{}\"", path.display());
    let validities = match read(path) {
        Ok(validities) => validities,
        Err(error) => {
            let summary = format!("{what} cannot be read");
            let finding = Finding::problem(Code::CertificateInvalid, summary);
            return finding
                .evidence(format!("{place}: {error}"))
                .next("correct the path, or write the file anew in PEM; vmconsole-agent check-config says when it is right");
        }
    };
    let valid = |one: &&Validity| one.from <= now && now < one.until;
    let good = validities.iter().filter(valid).count();
    let bad = validities.iter().find(|one| !valid(one));
    if let Some(bad) = bad {
        let stops = all || good == 0;
        return invalid(what, bad, stops, now).evidence(&place);
    }
    let Some(first) = validities.iter().min_by_key(|one| one.until) else {
        return Finding::problem(
            Code::CertificateInvalid,
            format!("{what} has no certificate in it"),
        )
        .evidence(place)
        .next("write the file anew in PEM");
    };
    let left = first.until.duration_since(now).unwrap_or_default();
    let evidence = format!("{place}: valid until {}", first.until_text);
    if left < AHEAD {
        Finding::warning(
            Code::CertificateExpires,
            format!("{what} ends in {}", length(left)),
        )
        .evidence(evidence)
        .next("issue it anew, replace the file, and restart the agent")
    } else {
        Finding::good(
            Code::CertificateGood,
            format!("{what} is valid for {}", length(left)),
        )
        .evidence(evidence)
    }
}

fn invalid(what: &str, one: &Validity, stops: bool, now: SystemTime) -> Finding {
    let severity = if stops {
        Severity::Problem
    } else {
        Severity::Warning
    };
    let (summary, next) = if now < one.from {
        let wait = one.from.duration_since(now).unwrap_or_default();
        (
            format!("{what} is valid only in {}", length(wait)),
            "see whether the host's clock is right; if it is, issue the certificate anew",
        )
    } else {
        let ago = now.duration_since(one.until).unwrap_or_default();
        (
            format!("{what} ended {} ago", length(ago)),
            "issue it anew, replace the file, and restart the agent; see that the host's clock is right",
        )
    };
    Finding::new(severity, Code::CertificateInvalid, summary).next(next)
}

fn read(path: &Path) -> io::Result<Vec<Validity>> {
    let mut pem = Vec::new();
    File::open(path)?
        .take(MAX_FILE_BYTES)
        .read_to_end(&mut pem)?;
    let broken = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let certificates = CertificateDer::pem_slice_iter(&pem).take(MAX_CERTIFICATES);
    certificates
        .map(|certificate| {
            let certificate = certificate.map_err(|_| broken("it is not PEM"))?;
            validity(&certificate).ok_or_else(|| broken("it has something that is no certificate"))
        })
        .collect()
}

fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    let time = |seconds: i64| {
        // What lies before 1970 is past, however far.
        UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    };
    Some(Validity {
        from: time(validity.not_before.timestamp())?,
        until: time(validity.not_after.timestamp().saturating_add(1))?,
        until_text: validity.not_after.to_string(),
    })
}
