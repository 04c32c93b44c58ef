//! Whether the host's clock is kept.
//!
//! The kernel knows, and tells by `adjtimex`, which sandboxes of services forbid even for
//! reading. So this goes by what time services leave in `/run`: systemd-timesyncd says there
//! that it has synchronised; of others only that they run is to be seen.

use std::path::Path;
use std::time::SystemTime;

use super::super::finding::{Code, Finding};
use super::HostConfig;

/// What systemd-timesyncd makes when it has synchronised.
const TIMESYNC_DONE: &str = "run/systemd/timesync/synchronized";
/// What it has while it runs.
const TIMESYNC: &str = "run/systemd/timesync";
/// What other time services have while they run: name, path, and what asks them. chronyd's
/// directory is closed to all but its own user.
const OTHERS: [(&str, &str, &str); 4] = [
    ("chronyd", "run/chrony", "chronyc tracking"),
    ("chronyd", "run/chronyd.pid", "chronyc tracking"),
    ("ntpd", "run/ntpd.pid", "ntpq -p"),
    ("ptp4l", "run/ptp4l", "pmc -u -b 0 'GET CURRENT_DATA_SET'"),
];

/// Looks for a time service.
pub(super) fn look(config: &HostConfig, _now: SystemTime) -> Vec<Finding> {
    vec![judge(&config.root)]
}

fn judge(root: &Path) -> Finding {
    if root.join(TIMESYNC_DONE).exists() {
        let summary = "the clock is synchronised";
        return Finding::good(Code::Clock, summary).evidence("systemd-timesyncd says so");
    }
    if let Some((name, path, ask)) = OTHERS.iter().find(|(_, path, _)| root.join(path).exists()) {
        let summary = format!("the clock is kept by {name}, and how well only that can tell");
        return Finding::note(Code::Clock, summary)
            .evidence(format!("/{path} is there"))
            .next(format!("ask it: {ask}"));
    }
    let why = "certificates and permissions go by the clock";
    if root.join(TIMESYNC).exists() {
        return Finding::warning(
            Code::Clock,
            "systemd-timesyncd has not synchronised the clock",
        )
        .evidence(format!("/{TIMESYNC_DONE} is not there"))
        .next(format!(
            "see what it says (timedatectl timesync-status): {why}"
        ));
    }
    Finding::note(Code::Clock, "no time service is seen on this host").next(format!(
        "see that something keeps the clock right (timedatectl): {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity;
    use super::*;

    #[test]
    fn what_time_services_leave_is_read() {
        let root = tempfile::tempdir().expect("a directory");
        let severity = || judge(root.path()).severity;
        let make = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("not the root")).expect("makes");
            std::fs::write(path, "").expect("writes");
        };
        assert_eq!(severity(), Severity::Note);
        std::fs::create_dir_all(root.path().join(TIMESYNC)).expect("makes");
        assert_eq!(severity(), Severity::Warning);
        // Its directory is closed to all but chrony's own user.
        std::fs::create_dir_all(root.path().join("run/chrony")).expect("makes");
        let finding = judge(root.path());
        assert_eq!(finding.severity, Severity::Note);
        assert_eq!(finding.next_step, "ask it: chronyc tracking");
        make(TIMESYNC_DONE);
        assert_eq!(severity(), Severity::Good);
    }
}
