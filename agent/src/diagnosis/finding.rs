//! What a diagnosis finds, and how it is put. Values, without rules.

use std::time::{Duration, SystemTime};

/// The most bytes of one text of a finding.
const MAX_TEXT: usize = 1024;

/// How much a finding matters, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it ought to be.
    Good,
    /// Worth knowing; it stops nothing.
    Note,
    /// It will stop something, or may be what does.
    Warning,
    /// It stops something.
    Problem,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// Nothing stands between the guest and its viewers, as far as can be seen.
    ConsoleWorks,
    /// The VM has no console device at all.
    NoConsoleDevice,
    /// The VM has no console of this alias.
    NoSuchConsole,
    /// The agent cannot serve a console of this type.
    TypeUnsupported,
    /// The VM is off.
    VmOff,
    /// The VM is paused.
    VmPaused,
    /// The agent may not open the console.
    Permission,
    /// What the console's path leads to is not safe to open.
    UnsafePath,
    /// Another process holds the console.
    HeldByOther,
    /// The way to the console is broken.
    EndpointLost,
    /// Nothing was seen of the guest since its console was attached.
    GuestSilent,
    /// Nobody views the console, so nothing was read of it.
    NotCaptured,
    /// The firmware or boot loader wrote, and nothing since.
    FirmwareOnly,
    /// The kernel wrote, and nothing asks for a login or answers.
    NoLogin,
    /// The guest's kernel died.
    GuestPanic,
    /// Input is taken by nobody.
    InputWedged,
    /// A hypervisor can be asked.
    HypervisorConnected,
    /// A hypervisor cannot be asked.
    HypervisorLost,
    /// A hypervisor allows the agent less than it needs.
    HypervisorRights,
    /// Two QEMUs claim one identity.
    IdentityConflict,
    /// A certificate has expired, is not valid yet, or cannot be read.
    CertificateInvalid,
    /// A certificate expires soon.
    CertificateExpires,
    /// Certificates are valid.
    CertificateGood,
    /// How the host's clock is kept.
    Clock,
    /// A file system is full, or nearly.
    Disk,
    /// A limit is reached, or nearly.
    Limit,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence: what is so.
    pub summary: String,
    /// What shows it. May be empty.
    pub evidence: String,
    /// One sentence: what to do. Empty if nothing is to be done.
    pub next_step: String,
    /// Since when, where that is known.
    pub since: Option<SystemTime>,
}

impl Finding {
    /// A finding of this severity.
    pub(super) fn new(severity: Severity, code: Code, summary: impl AsRef<str>) -> Self {
        Self {
            code,
            severity,
            summary: shown(summary.as_ref()),
            evidence: String::new(),
            next_step: String::new(),
            since: None,
        }
    }

    pub(super) fn good(code: Code, summary: impl AsRef<str>) -> Self {
        Self::new(Severity::Good, code, summary)
    }

    pub(super) fn note(code: Code, summary: impl AsRef<str>) -> Self {
        Self::new(Severity::Note, code, summary)
    }

    pub(super) fn warning(code: Code, summary: impl AsRef<str>) -> Self {
        Self::new(Severity::Warning, code, summary)
    }

    pub(super) fn problem(code: Code, summary: impl AsRef<str>) -> Self {
        Self::new(Severity::Problem, code, summary)
    }

    pub(super) fn evidence(mut self, evidence: impl AsRef<str>) -> Self {
        self.evidence = shown(evidence.as_ref());
        self
    }

    pub(super) fn next(mut self, next_step: impl AsRef<str>) -> Self {
        self.next_step = shown(next_step.as_ref());
        self
    }

    pub(super) fn since(mut self, since: Option<SystemTime>) -> Self {
        self.since = since;
        self
    }
}

/// Puts the most severe first; among equals the order stays.
pub(super) fn order(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
}

/// Text as it may be shown: in one line, cut at [`MAX_TEXT`].
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        let character = if character.is_control() {
            ' '
        } else {
            character
        };
        if shown.len() + character.len_utf8() > MAX_TEXT {
            break;
        }
        shown.push(character);
    }
    shown
}

/// A length of time as people say it: in its largest unit.
pub(super) fn length(time: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "days"), (3600, "h"), (60, "min")];
    let seconds = time.as_secs();
    // Twice a unit and more: "90 min" says more than "1 h".
    let unit = UNITS.iter().find(|(unit, _)| seconds >= 2 * unit);
    match unit {
        Some((unit, name)) => format!("{} {name}", seconds / unit),
        None => format!("{seconds} s"),
    }
}

/// How long ago `then` is; nothing if the clock was set back meanwhile.
pub(super) fn age(now: SystemTime, then: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_one_line_and_bounded() {
        let finding = Finding::note(Code::Disk, "a\nb\u{1b}[2J").evidence("ä".repeat(5000));
        assert_eq!(finding.summary, "a b [2J");
        assert_eq!(finding.evidence.len(), MAX_TEXT);
    }

    #[test]
    fn lengths_are_told_in_their_largest_unit() {
        let told: Vec<_> = [0, 119, 120, 7199, 7200, 172_800]
            .map(|seconds| length(Duration::from_secs(seconds)))
            .into();
        assert_eq!(told, ["0 s", "119 s", "2 min", "119 min", "2 h", "2 days"]);
    }

    #[test]
    fn the_most_severe_comes_first_and_equals_keep_their_order() {
        let mut findings = vec![
            Finding::good(Code::Disk, "1"),
            Finding::warning(Code::Disk, "2"),
            Finding::problem(Code::Disk, "3"),
            Finding::warning(Code::Disk, "4"),
        ];
        order(&mut findings);
        let order: Vec<_> = findings.iter().map(|f| f.summary.as_str()).collect();
        assert_eq!(order, ["3", "2", "4", "1"]);
    }
}
