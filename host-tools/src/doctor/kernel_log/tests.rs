//! Records in the forms that Debian, Ubuntu and RHEL write them.

use proptest::prelude::*;

use super::*;

const APPARMOR_AGENT: &str = r#"[ 1234.567890] audit: type=1400 audit(1699999999.123:45): apparmor="DENIED" operation="connect" class="file" profile="vmconsole-agent" name="/run/libvirt/qemu/web.sock" pid=812 comm="vmconsole-agent" requested_mask="wr" denied_mask="wr" fsuid=998 ouid=64055"#;
const APPARMOR_QEMU: &str = r#"6,1201,88123456,-;audit: type=1400 audit(1699999999.200:46): apparmor="DENIED" operation="mknod" profile="libvirt-6f1f7f32-0000-4000-8000-000000000001" name="/run/vmconsole/web.sock" pid=901 comm="qemu-system-x86" requested_mask="c" denied_mask="c" fsuid=64055 ouid=64055"#;
const APPARMOR_OTHER: &str = r#"audit: type=1400 audit(1.1:1): apparmor="DENIED" operation="open" profile="/usr/sbin/cupsd" name="/etc/x" pid=1 comm="cupsd" requested_mask="r" denied_mask="r" fsuid=0 ouid=0"#;
const APPARMOR_HEX: &str = r#"type=AVC msg=audit(1699999999.3:47): apparmor="DENIED" operation="open" profile="libvirt-1" name=2F72756E2F6C6962766972742F612062 pid=1 comm="qemu-system-x86" requested_mask="r" denied_mask="r""#;
const APPARMOR_COMPLAIN: &str = r#"audit: type=1400 audit(1.1:1): apparmor="ALLOWED" operation="open" profile="vmconsole-agent" name="/etc/vmconsole-agent/config.toml" pid=1 comm="vmconsole-agent" requested_mask="r" denied_mask="r""#;
const APPARMOR_CAPABILITY: &str = r#"audit: type=1400 audit(1.1:1): apparmor="DENIED" operation="capable" class="cap" profile="libvirtd" pid=1 comm="rpc-libvirtd" capability=17  capname="sys_rawio""#;
const SELINUX_AGENT: &str = "type=AVC msg=audit(1699999999.123:456): avc:  denied  { connectto } for  pid=812 comm=\"vmconsole-agent\" path=\"/run/libvirt/qemu/web.sock\" scontext=system_u:system_r:init_t:s0 tcontext=system_u:system_r:svirt_t:s0:c1,c2 tclass=unix_stream_socket permissive=0";
const SELINUX_KERNEL: &str = "[  99.1] audit: type=1400 audit(1699999999.123:457): avc:  denied  { read write } for  pid=812 comm=\"libvirt-console\" name=\"3\" dev=\"devpts\" ino=6 scontext=system_u:system_r:vmconsole_t:s0 tcontext=system_u:object_r:svirt_devpts_t:s0:c1 tclass=chr_file permissive=0";
const SELINUX_PERMISSIVE: &str = "type=AVC msg=audit(1.1:1): avc:  denied  { open } for  pid=1 comm=\"vmconsole-agent\" path=\"/x\" scontext=a:b:init_t:s0 tcontext=a:b:c_t:s0 tclass=file permissive=1";
const SELINUX_OTHER: &str = "type=AVC msg=audit(1.1:1): avc:  denied  { open } for  pid=1 comm=\"httpd\" path=\"/x\" scontext=a:b:httpd_t:s0 tcontext=a:b:c_t:s0 tclass=file permissive=0";

fn found(lines: &[impl AsRef<str>]) -> Vec<Finding> {
    findings(lines.iter().map(AsRef::as_ref))
}

fn one(line: &str) -> Finding {
    let mut found = found(&[line]);
    assert_eq!(found.len(), 1, "{line}");
    found.remove(0)
}

#[test]
fn the_agents_own_denials_are_problems() {
    let apparmor = one(APPARMOR_AGENT);
    assert_eq!(apparmor.severity, Severity::Problem);
    assert_eq!(
        apparmor.summary,
        "AppArmor denied vmconsole-agent: connect on /run/libvirt/qemu/web.sock"
    );
    let rule = "\"/run/libvirt/qemu/web.sock\" wr,";
    assert!(apparmor.next_step.contains(rule), "{apparmor:?}");
    assert!(apparmor.next_step.contains("aa-complain vmconsole-agent"));

    let selinux = one(SELINUX_AGENT);
    assert_eq!(selinux.severity, Severity::Problem);
    assert_eq!(
        selinux.summary,
        "SELinux denied vmconsole-agent: connectto (unix_stream_socket) on /run/libvirt/qemu/web.sock"
    );
    assert!(
        selinux
            .next_step
            .contains("restorecon -nv /run/libvirt/qemu/web.sock")
    );
    assert!(selinux.next_step.contains("audit2why"));
    // A thread of the agent.
    let thread = one(SELINUX_KERNEL);
    assert_eq!(thread.severity, Severity::Problem);
    assert!(
        thread.summary.contains("read write (chr_file) on 3"),
        "{thread:?}"
    );
}

#[test]
fn those_of_qemu_matter_where_they_are_about_consoles() {
    let socket = one(APPARMOR_QEMU);
    assert_eq!(socket.severity, Severity::Warning);
    let place = "/etc/apparmor.d/local/abstractions/libvirt-qemu";
    assert!(socket.next_step.contains(place), "{socket:?}");
    let hex = one(APPARMOR_HEX);
    assert!(hex.summary.ends_with("open on /run/libvirt/a b"), "{hex:?}");
    let capability = one(APPARMOR_CAPABILITY);
    assert_eq!(capability.severity, Severity::Note);
    assert!(
        capability.summary.ends_with("capable sys_rawio"),
        "{capability:?}"
    );
}

#[test]
fn what_was_only_noted_is_a_note() {
    for line in [APPARMOR_COMPLAIN, SELINUX_PERMISSIVE] {
        let finding = one(line);
        assert_eq!(finding.severity, Severity::Note);
        assert!(finding.summary.contains("would have denied"), "{finding:?}");
    }
}

#[test]
fn other_programs_and_other_lines_are_passed_over() {
    let lines = [
        APPARMOR_OTHER,
        SELINUX_OTHER,
        "",
        "avc: granted { x } for comm=\"vmconsole-agent\"",
        "audit: apparmor=\"STATUS\" operation=\"profile_load\" name=\"vmconsole-agent\"",
        "[    0.000000] Linux version 6.1",
    ];
    assert_eq!(found(&lines), []);
    let long = format!("{APPARMOR_AGENT}{}", " ".repeat(10_000));
    assert_eq!(found(&[long]), []);
}

#[test]
fn a_denial_that_is_repeated_is_told_once_and_many_are_bounded() {
    let again = SELINUX_AGENT
        .replace("pid=812", "pid=999")
        .replace(":456", ":999");
    let findings = found(&[SELINUX_AGENT, again.as_str(), SELINUX_AGENT]);
    assert_eq!(findings.len(), 1);
    assert!(findings[0].evidence.starts_with("3 times"), "{findings:?}");

    let findings = found(&many(APPARMOR_AGENT, 100));
    assert_eq!(findings.len(), MAX_DENIALS + 1);
    assert!(findings[MAX_DENIALS].summary.contains("68 further"));
}

/// As many denials like this one, each of a socket of its own and a second after the other.
fn many(like: &str, number: u32) -> Vec<String> {
    let nth = |n: u32| {
        let at = (1_700_000_000 + n).to_string();
        let line = like.replace("web.sock", &format!("{n}.sock"));
        line.replace("1699999999", &at)
    };
    (0..number).map(nth).collect()
}

#[test]
fn of_many_the_worst_are_told_and_then_the_newest() {
    let mut lines = many(APPARMOR_QEMU, 100);
    // Older than all of them, and worse.
    lines.push(SELINUX_AGENT.to_owned());
    let findings = found(&lines);
    assert_eq!(findings.len(), MAX_DENIALS + 1);
    assert_eq!(findings[0].severity, Severity::Problem);
    assert!(findings[1].summary.ends_with("/99.sock"), "{findings:?}");
    let last = &findings[MAX_DENIALS - 1];
    assert!(last.summary.ends_with("/69.sock"), "{last:?}");
    assert!(findings[MAX_DENIALS].summary.contains("69 further"));

    // One that goes on counts by its last time, and one that has no time by its place.
    lines.push(APPARMOR_QEMU.replace("1699999999", "1800000000"));
    assert!(found(&lines)[1].summary.ends_with("/web.sock"));
    let untimed: Vec<_> = many(APPARMOR_QEMU, 100)
        .iter()
        .map(|line| line.replace("audit(", "("))
        .collect();
    let findings = found(&untimed);
    assert!(findings[0].summary.ends_with("/99.sock"), "{findings:?}");
    assert_eq!(findings[0].since, None);
}

#[test]
fn a_denial_is_told_with_its_time() {
    let second = SELINUX_AGENT.replace("1699999999.123", "1700000060.000");
    let third = SELINUX_AGENT.replace("1699999999.123", "1700000000.500");
    let finding = found(&[SELINUX_AGENT, second.as_str(), third.as_str()]).remove(0);
    let since = finding.since.expect("a time");
    assert_eq!((since.seconds, since.nanos), (1_699_999_999, 123_000_000));
    let evidence = "3 times, the last at 2023-11-14T22:14:20Z; domain";
    assert!(finding.evidence.starts_with(evidence), "{finding:?}");
    for line in [APPARMOR_AGENT, APPARMOR_QEMU, APPARMOR_HEX, SELINUX_KERNEL] {
        assert!(one(line).since.is_some(), "{line}");
    }
    // What a program's name says is no time, nor is a number that no clock shows.
    let named = APPARMOR_AGENT.replace("audit(", "(");
    let named = named.replace(
        "comm=\"vmconsole-agent\"",
        "comm=\"vmconsole audit(1.0:1)\"",
    );
    assert_eq!(one(&named).since, None);
    for odd in [
        "",
        "1",
        "x.1",
        "1.x",
        "-1.0",
        "99999999999999999999.0",
        "999999999999.000",
    ] {
        let line = APPARMOR_AGENT.replace("1699999999.123", odd);
        assert_eq!(one(&line).since, None, "{odd}");
    }
}

proptest! {
    #[test]
    fn no_line_makes_it_panic(line in "\\PC{0,300}") {
        findings(std::iter::once(line.as_str()));
    }

    #[test]
    fn no_damaged_record_makes_it_panic(
        at in any::<prop::sample::Index>(), with in "\\PC{0,3}", which in 0usize..4,
    ) {
        let record = [APPARMOR_AGENT, APPARMOR_HEX, SELINUX_AGENT, SELINUX_KERNEL][which];
        let at = at.index(record.len());
        let damaged = format!("{}{with}{}", &record[..at], &record[at + 1..]);
        prop_assert!(findings(std::iter::once(damaged.as_str())).len() <= 1);
    }
}
