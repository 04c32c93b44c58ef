use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::super::finding::Severity;
use super::*;
use crate::hypervisor::{Conflict, Provider};

mod qemu;

/// 2026-01-01.
const NOW: u64 = 1_767_225_600;
const DAY: u64 = 86_400;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A certificate that is valid from the first year's to the second date.
fn pem(from: i32, until: (i32, u8, u8)) -> String {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    let key = KeyPair::generate().expect("a key");
    params.self_signed(&key).expect("signs").pem()
}

fn config(root: &Path) -> HostConfig {
    HostConfig {
        certificate: root.join("agent.crt"),
        client_ca: root.join("ca.crt"),
        directories: vec![root.to_owned()],
        root: root.to_owned(),
    }
}

fn provider(name: &'static str, connected: bool, trouble: &str) -> Provider {
    Provider {
        name,
        place: "qemu:///system".to_owned(),
        connected,
        trouble: trouble.to_owned(),
    }
}

fn told(findings: &[Finding]) -> Vec<(Code, Severity)> {
    findings.iter().map(|f| (f.code, f.severity)).collect()
}

#[test]
fn hypervisors_are_told_by_whether_they_answer_and_what_they_allow() {
    let inventory = Inventory {
        providers: vec![
            provider("libvirt", false, "refused"),
            provider("libvirt", true, "may not open consoles"),
            provider("qemu", true, ""),
        ],
        ..Inventory::default()
    };
    let findings = in_memory(&inventory, &[]);
    let expected = [
        (Code::HypervisorLost, Severity::Problem),
        (Code::HypervisorRights, Severity::Warning),
        (Code::HypervisorConnected, Severity::Good),
    ];
    assert_eq!(told(&findings), expected);
    assert_eq!(findings[0].evidence, "refused");
    assert!(findings[0].next_step.contains("systemctl status libvirtd"));
    assert!(findings[1].next_step.contains("unix_sock_group"));
    assert!(findings[0].next_step.contains("libvirt.enabled = false"));
    let why = "libvirt (qemu:///system): refused";
    assert_eq!(not_connected(&inventory).as_deref(), Some(why));
    let all = Inventory {
        providers: vec![provider("qemu", true, "x"), provider("libvirt", false, "")],
        ..Inventory::default()
    };
    assert_eq!(not_connected(&all), None);
    let never = in_memory(&Inventory::default(), &[]);
    assert_eq!(told(&never), [(Code::HypervisorLost, Severity::Problem)]);
}

#[test]
fn a_double_identity_and_a_limit_are_told() {
    let uuid = "6f1f7f32-0000-4000-8000-000000000001";
    let inventory = Inventory {
        connected: true,
        conflicts: vec![Conflict {
            uuid: uuid.parse().expect("a UUID"),
            claimant: "/run/vmconsole/qmp/b".to_owned(),
            holder: "libvirt".to_owned(),
        }],
        ..Inventory::default()
    };
    let full = Usage {
        key: "limits.sessions",
        used: 2,
        limit: 2,
    };
    let findings = in_memory(&inventory, &[full]);
    let expected = [
        (Code::IdentityConflict, Severity::Warning),
        (Code::Limit, Severity::Problem),
    ];
    assert_eq!(told(&findings), expected);
    assert!(findings[0].summary.contains(uuid));
    assert_eq!(
        findings[0].evidence,
        "libvirt has it; /run/vmconsole/qmp/b was refused"
    );
    assert!(findings[1].next_step.contains("limits.sessions"));
}

#[test]
fn certificates_are_told_by_their_time() {
    let root = tempfile::tempdir().expect("a directory");
    let config = config(root.path());
    let write = |path: &Path, pem: &str| std::fs::write(path, pem).expect("writes");
    let look = |at: u64| {
        let at = UNIX_EPOCH + Duration::from_secs(at);
        told(&certificates::look(&config, at))
    };
    let good = (Code::CertificateGood, Severity::Good);
    let invalid = |severity| (Code::CertificateInvalid, severity);

    let missing = certificates::look(&config, now());
    assert_eq!(told(&missing), [invalid(Severity::Problem); 2]);
    assert!(missing[0].evidence.contains("agent.crt"), "{missing:?}");

    let (long, short) = (pem(2020, (2030, 1, 1)), pem(2020, (2026, 1, 20)));
    write(&config.certificate, &short);
    write(&config.client_ca, &long);
    let ends = (Code::CertificateExpires, Severity::Warning);
    assert_eq!(look(NOW + 9 * DAY), [ends, good]);
    let later = UNIX_EPOCH + Duration::from_secs(NOW + 9 * DAY);
    let expires = &certificates::look(&config, later)[0];
    assert_eq!(expires.summary, "the agent's certificate ends in 10 days");
    assert!(expires.evidence.contains("2026"), "{expires:?}");
    // 14 days ahead, and not a day before.
    assert_eq!(look(NOW + 6 * DAY), [ends, good]);
    assert_eq!(look(NOW + 5 * DAY), [good, good]);
    // Its last second is good, as TLS sees it too.
    assert_eq!(look(NOW + 19 * DAY), [ends, good]);
    let after = look(NOW + 19 * DAY + 1);
    assert_eq!(after, [invalid(Severity::Problem), good]);
    assert_eq!(look(NOW + 20 * DAY), [invalid(Severity::Problem), good]);
    let before_all = look(1_500_000_000);
    assert_eq!(before_all, [invalid(Severity::Problem); 2]);

    // Of several CAs one may have ended; of a chain none.
    let both = format!("{short}{long}");
    write(&config.certificate, &both);
    write(&config.client_ca, &both);
    let expected = [invalid(Severity::Problem), invalid(Severity::Warning)];
    assert_eq!(look(NOW + 20 * DAY), expected);

    for broken in [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        write(&config.certificate, broken);
        let findings = certificates::look(&config, now());
        assert_eq!(told(&findings)[0], invalid(Severity::Problem), "{broken}");
        assert!(!findings[0].next_step.is_empty());
    }
}

#[test]
fn a_file_system_is_looked_at_once_and_open_files_are_counted() {
    let root = tempfile::tempdir().expect("a directory");
    let mut config = config(root.path());
    config.directories.push(root.path().to_owned());
    config.directories.push(root.path().join("missing"));
    assert_eq!(disk::look(&config, now()).len(), 1);
    symlink("/proc", root.path().join("proc")).expect("links");
    let findings = limits::look(&config, now());
    assert_eq!(told(&findings), [(Code::Limit, Severity::Good)]);
    assert!(findings[0].evidence.contains(" open files"), "{findings:?}");
}
