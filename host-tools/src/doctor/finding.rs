//! One thing that doctor found, whoever found it.
//!
//! Refuses to be shown as it is: texts come from guests, the agent and the kernel.

use prost_types::Timestamp;
use vmconsole_proto::v1::{self as wire, FindingCode};

/// How much a finding matters, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// As it ought to be.
    Ok,
    /// Worth knowing.
    Note,
    /// It will stop something, or may be what does.
    Warning,
    /// It stops something.
    Problem,
}

impl Severity {
    /// Its word, in both forms of the report.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// Who found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// doctor, on the host that it runs on.
    Host,
    /// The agent, of its host.
    Agent,
    /// The agent, of a console: VM and alias.
    Console(String, String),
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Who found it.
    pub(super) origin: Origin,
    /// What it is about, as a word for programs.
    pub(super) code: String,
    /// How much it matters.
    pub(super) severity: Severity,
    /// One sentence: what is so.
    pub(super) summary: String,
    /// What shows it. May be empty.
    pub(super) evidence: String,
    /// What to do. May be empty.
    pub(super) next_step: String,
    /// Since when, where known.
    pub(super) since: Option<Timestamp>,
}

impl Finding {
    /// One of the host's.
    pub(super) fn new(severity: Severity, code: &str, summary: impl Into<String>) -> Self {
        Self {
            origin: Origin::Host,
            code: code.to_owned(),
            severity,
            summary: summary.into(),
            evidence: String::new(),
            next_step: String::new(),
            since: None,
        }
    }

    pub(super) fn ok(code: &str, summary: impl Into<String>) -> Self {
        Self::new(Severity::Ok, code, summary)
    }

    pub(super) fn note(code: &str, summary: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, summary)
    }

    pub(super) fn warning(code: &str, summary: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, summary)
    }

    pub(super) fn problem(code: &str, summary: impl Into<String>) -> Self {
        Self::new(Severity::Problem, code, summary)
    }

    pub(super) fn evidence(mut self, evidence: impl Into<String>) -> Self {
        self.evidence = evidence.into();
        self
    }

    pub(super) fn next(mut self, next_step: impl Into<String>) -> Self {
        self.next_step = next_step.into();
        self
    }

    /// One of the agent's. A severity that is newer than this program is taken as a warning.
    pub(super) fn of_agent(origin: Origin, finding: wire::Finding) -> Self {
        let severity = match finding.severity() {
            wire::Severity::Good => Severity::Ok,
            wire::Severity::Note => Severity::Note,
            wire::Severity::Unspecified | wire::Severity::Warning => Severity::Warning,
            wire::Severity::Problem => Severity::Problem,
        };
        let code = match finding.code() {
            FindingCode::Unspecified => "unknown".to_owned(),
            known => known
                .as_str_name()
                .trim_start_matches("FINDING_CODE_")
                .to_ascii_lowercase(),
        };
        Self {
            origin,
            code,
            severity,
            summary: finding.summary,
            evidence: finding.evidence,
            next_step: finding.next_step,
            since: finding.since,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_findings_keep_their_code_and_severity() {
        let mut sent = wire::Finding {
            code: FindingCode::VmOff.into(),
            severity: wire::Severity::Problem.into(),
            ..Default::default()
        };
        let taken = Finding::of_agent(Origin::Agent, sent.clone());
        assert_eq!(
            (taken.code.as_str(), taken.severity),
            ("vm_off", Severity::Problem)
        );
        (sent.code, sent.severity) = (9999, 9999);
        let newer = Finding::of_agent(Origin::Agent, sent);
        assert_eq!(
            (newer.code.as_str(), newer.severity),
            ("unknown", Severity::Warning)
        );
    }
}
