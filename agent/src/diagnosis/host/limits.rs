//! How near the agent is to its limits.

use std::time::SystemTime;

use nix::sys::resource::{Resource, getrlimit};

use super::super::finding::{Code, Finding};
use super::HostConfig;

/// From this part on, in percent, a limit is nearly reached.
const NEARLY: u64 = 80;

/// How much of something is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The configuration's key of the limit.
    pub key: &'static str,
    /// How many there are.
    pub used: usize,
    /// How many there may be.
    pub limit: usize,
}

/// What is to be said of a limit, if it is nearly reached.
pub(super) fn usage(usage: &Usage) -> Option<Finding> {
    let Usage { key, used, limit } = *usage;
    let next =
        format!("end some of them, or raise {key} in the agent's configuration and restart it");
    near(used as u64, limit as u64, key).map(|finding| finding.next(next))
}

/// Looks at the agent's open files.
pub(super) fn look(config: &HostConfig, _now: SystemTime) -> Vec<Finding> {
    const WHAT: &str = "open files (LimitNOFILE)";
    let open = std::fs::read_dir(config.root.join("proc/self/fd")).map(Iterator::count);
    let limit = getrlimit(Resource::RLIMIT_NOFILE);
    let (Ok(open), Ok((soft, _))) = (open, limit) else {
        let summary = "how many files the agent has open cannot be told";
        return vec![Finding::note(Code::Limit, summary)];
    };
    let next = "raise LimitNOFILE of the service (systemctl edit vmconsole-agent) and restart it";
    let good = || {
        let summary = "the agent may open as many files as it needs";
        Finding::good(Code::Limit, summary).evidence(format!("{open} of {soft} {WHAT}"))
    };
    let near = near(open as u64, soft, WHAT).map(|finding| finding.next(next));
    vec![near.unwrap_or_else(good)]
}

fn near(used: u64, limit: u64, what: &str) -> Option<Finding> {
    let evidence = format!("{used} of {limit}");
    if used >= limit {
        let summary = format!("a limit is reached: {what}");
        Some(Finding::problem(Code::Limit, summary).evidence(evidence))
    } else if used.saturating_mul(100) >= limit.saturating_mul(NEARLY) {
        let summary = format!("a limit is nearly reached: {what}");
        Some(Finding::warning(Code::Limit, summary).evidence(evidence))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity;
    use super::*;

    #[test]
    fn a_limit_is_told_when_it_is_near_or_reached() {
        let severity = |used| {
            let of = Usage {
                key: "limits.sessions",
                used,
                limit: 10,
            };
            usage(&of).map(|finding| finding.severity)
        };
        assert_eq!(severity(7), None);
        assert_eq!(severity(8), Some(Severity::Warning));
        assert_eq!(severity(10), Some(Severity::Problem));
    }
}
