//! Denials by AppArmor and SELinux in the kernel's log, and what to do about them.
//!
//! Pure: lines in, findings out. The lines are untrusted text: names in them are chosen by
//! whoever runs a program. Where they come from, `source` knows.

mod record;
mod source;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use prost_types::Timestamp;

use self::record::{Denial, Module, Record, parse};
use super::finding::{Finding, Severity};

pub(crate) use self::source::LogSource;
pub(super) use self::source::read;

/// The most denials that are told; they are told once each, with how often.
const MAX_DENIALS: usize = 32;

/// Directories of the agent and of what it looks at.
const PATHS: [&str; 7] = [
    "/run/vmconsole",
    "/run/vmconsole-agent",
    "/var/lib/vmconsole-agent",
    "/etc/vmconsole-agent",
    "/run/libvirt",
    "/var/run/libvirt",
    "/var/lib/libvirt/qemu",
];

/// Beginnings of the names of processes (and of threads) that carry a console.
const COMMANDS: [&str; 7] = [
    "vmconsole",
    "libvirt-",
    "libvirtd",
    "virtqemud",
    "virtlogd",
    "qemu-",
    "virt-aa-helper",
];

/// Parts of AppArmor's profiles and SELinux's contexts of such processes.
const DOMAINS: [&str; 8] = [
    "vmconsole",
    "libvirt",
    "virt-aa-helper",
    "svirt",
    "virtd_t",
    "virtqemud_t",
    "virtlogd_t",
    "qemu_t",
];

/// How often a denial was seen, and when.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    count: usize,
    first: Option<Duration>,
    last: Option<Duration>,
    /// The number of the last line.
    line: usize,
}

impl Times {
    fn add(&mut self, at: Option<Duration>, line: usize) {
        self.count += 1;
        self.first = self.first.into_iter().chain(at).min();
        self.last = self.last.max(at);
        self.line = line;
    }
}

/// What is found in these lines, which `read` has bounded: each denial that may concern a
/// console, the worst first and then the newest, at most [`MAX_DENIALS`].
pub(super) fn findings<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Finding> {
    let mut seen: BTreeMap<Denial, Times> = BTreeMap::new();
    for (line, text) in lines.enumerate() {
        if let Some(Record { denial, at }) = parse(text)
            && concerns_us(&denial)
        {
            seen.entry(denial).or_default().add(at, line);
        }
    }
    let mut seen: Vec<_> = seen.into_iter().collect();
    // Where two logs were read one after the other, the lines' order says less than the time.
    seen.sort_by_key(|(denial, times)| Reverse((severity(denial), times.last, times.line)));
    let (kept, left_out) = seen.split_at(seen.len().min(MAX_DENIALS));
    let mut findings: Vec<_> = kept.iter().map(told).collect();
    if !left_out.is_empty() {
        let number: usize = left_out.iter().map(|(_, times)| times.count).sum();
        let summary = format!("the kernel's log has {number} further denials");
        let finding = Finding::note("mac_denial", summary);
        findings.push(
            finding.next("see them with: ausearch -m avc, or journalctl -k | grep -i denied"),
        );
    }
    findings
}

fn concerns_us(denial: &Denial) -> bool {
    by_the_agent(denial)
        || at_our_path(denial)
        || COMMANDS.iter().any(|name| denial.command.starts_with(name))
        || DOMAINS
            .iter()
            .any(|part| denial.domain.contains(part) || denial.target_domain.contains(part))
}

/// The names of the agent's threads are those of its process, or begin with `libvirt-`.
fn by_the_agent(denial: &Denial) -> bool {
    let named = denial.command.starts_with("vmconsole") || denial.command.starts_with("libvirt-");
    named || denial.domain.contains("vmconsole")
}

fn at_our_path(denial: &Denial) -> bool {
    let below = |directory: &&str| {
        let rest = denial.target.strip_prefix(*directory);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    PATHS.iter().any(below) || denial.target.starts_with("/dev/pts/")
}

fn severity(denial: &Denial) -> Severity {
    if !denial.enforced {
        Severity::Note
    } else if by_the_agent(denial) {
        Severity::Problem
    } else if at_our_path(denial) {
        Severity::Warning
    } else {
        Severity::Note
    }
}

fn told((denial, times): &(Denial, Times)) -> Finding {
    let who = if denial.command.is_empty() {
        "a process"
    } else {
        &denial.command
    };
    let (module, next) = match denial.module {
        Module::AppArmor => ("AppArmor", apparmor_step(denial)),
        Module::SeLinux => ("SELinux", selinux_step(denial)),
    };
    let what = if denial.target.is_empty() {
        denial.what.clone()
    } else {
        format!("{} on {}", denial.what, denial.target)
    };
    let verb = if denial.enforced {
        "denied"
    } else {
        "would have denied"
    };
    let summary = format!("{module} {verb} {who}: {what}");
    let mut finding = Finding::new(severity(denial), "mac_denial", summary)
        .evidence(evidence(denial, times))
        .next(next);
    finding.since = times.first.map(timestamp);
    finding
}

fn evidence(denial: &Denial, times: &Times) -> String {
    let last = times.last.map(timestamp);
    let last = last.map(|last| format!(", the last at {last}"));
    let mut evidence = format!(
        "{} times{}; domain {}",
        times.count,
        last.unwrap_or_default(),
        denial.domain
    );
    if !denial.target_domain.is_empty() {
        evidence = format!("{evidence}, target {}", denial.target_domain);
    }
    evidence
}

fn timestamp(since_1970: Duration) -> Timestamp {
    Timestamp {
        // What a record's time can be fits.
        seconds: i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX),
        nanos: since_1970.subsec_nanos().cast_signed(),
    }
}

fn apparmor_step(denial: &Denial) -> String {
    let rights = if denial.rights.is_empty() {
        "rw"
    } else {
        &denial.rights
    };
    let rule = if denial.target.is_empty() {
        denial.what.clone()
    } else {
        format!("\"{}\" {rights},", denial.target)
    };
    // libvirt makes a profile for each VM, and includes this in all of them.
    if denial.domain.starts_with("libvirt-") {
        return format!(
            "if it is meant to be allowed, add {rule} to /etc/apparmor.d/local/abstractions/libvirt-qemu, and start the VM anew"
        );
    }
    format!(
        "if it is meant to be allowed, add {rule} to the profile's file in /etc/apparmor.d/local and load it: \
         apparmor_parser -r /etc/apparmor.d/PROFILE; to see whether it is the cause: aa-complain {}",
        denial.domain
    )
}

fn selinux_step(denial: &Denial) -> String {
    let labels = if denial.target.starts_with('/') {
        format!(
            "first see whether the labels are right: restorecon -nv {}; ",
            denial.target
        )
    } else {
        String::new()
    };
    format!(
        "{labels}what would allow it (a boolean for setsebool -P, or a rule) is told by: ausearch -m avc -ts recent | audit2why"
    )
}

#[cfg(test)]
mod tests;
