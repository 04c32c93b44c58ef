//! The host itself: its clock, its file systems, and the agent's service.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;

use super::finding::Finding;
use super::program;

/// Directories whose file systems must have room: as the agent looks at them.
const DIRECTORIES: [&str; 4] = ["/", "/var/log", "/var/lib/vmconsole-agent", "/run"];

/// From this part on, in percent, a file system is nearly full.
const NEARLY_FULL: u64 = 90;

/// From this part on it is full.
const FULL: u64 = 98;

/// Fewer open files than this are few for an agent: a console and a connection take some each.
const FEW_FILES: u64 = 4096;

/// The most that is kept of what a program says.
const MAX_SAID: u64 = 4096;

/// The agent's service.
const UNIT: &str = "vmconsole-agent.service";

const CLOCK: &str = "clock";
const DISK: &str = "disk";
const SERVICE: &str = "service";

/// Whether the kernel's clock is synchronised, as systemd reads it.
///
/// # Cancel safety
/// If dropped, the program that is asked is killed.
pub(super) async fn clock() -> Finding {
    let arguments = ["show", "--property=NTPSynchronized", "--value"];
    let said = program::ask("timedatectl", arguments, MAX_SAID).await;
    let answer = said.as_ref().map(|said| said.output.trim());
    match answer {
        Ok("yes") => Finding::ok(CLOCK, "the clock is synchronised"),
        Ok("no") => Finding::warning(CLOCK, "the clock is not synchronised")
            .evidence("timedatectl says so")
            .next(
                "set up chrony or systemd-timesyncd: certificates and permissions go by the clock",
            ),
        _ => Finding::note(
            CLOCK,
            "whether the clock is synchronised cannot be told: timedatectl does not say",
        )
        .next("ask what keeps it: chronyc tracking, or ntpq -p"),
    }
}

/// Whether file systems have room: one finding for each.
pub(super) fn disks() -> Vec<Finding> {
    let mut seen = Vec::new();
    let mut findings = Vec::new();
    for directory in DIRECTORIES {
        match space(Path::new(directory)) {
            Ok(Some(space)) if !seen.contains(&space.id) => {
                seen.push(space.id);
                findings.push(disk(directory, &space));
            }
            Ok(_) => {}
            Err(error) => {
                let summary = format!("the file system of {directory} cannot be looked at");
                findings.push(Finding::note(DISK, summary).evidence(error.desc()));
            }
        }
    }
    findings
}

/// How full a file system is.
struct Space {
    /// What tells it from others.
    id: (u64, u64),
    /// In percent, as `df` counts: without what is kept for root.
    used: u64,
    /// Bytes that are free for others than root.
    free: u64,
}

/// Nothing for a directory that is not there, or a file system without blocks.
fn space(path: &Path) -> Result<Option<Space>, Errno> {
    let stat = match statvfs(path) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let used = stat.blocks().saturating_sub(stat.blocks_free());
    let usable = used.saturating_add(stat.blocks_available());
    let percent = used.saturating_mul(100).checked_div(usable);
    Ok(percent.map(|percent| Space {
        id: (stat.filesystem_id(), stat.blocks()),
        used: percent,
        free: stat.blocks_available().saturating_mul(stat.fragment_size()),
    }))
}

fn disk(directory: &str, &Space { used, free, .. }: &Space) -> Finding {
    let evidence = format!("{} MiB are free", free / (1024 * 1024));
    let next = format!("make room on it: what takes most is told by du -xh {directory} | sort -h");
    let full = format!("the file system of {directory} is {used} % full");
    match used {
        FULL.. => Finding::problem(DISK, full).evidence(evidence).next(next),
        NEARLY_FULL..FULL => Finding::warning(DISK, full).evidence(evidence).next(next),
        _ => {
            Finding::ok(DISK, format!("the file system of {directory} has room")).evidence(evidence)
        }
    }
}

/// How the agent's service fares, where systemd runs.
///
/// # Cancel safety
/// If dropped, the program that is asked is killed.
pub(super) async fn service(root: &Path) -> Vec<Finding> {
    if !root.join("run/systemd/system").is_dir() {
        return Vec::new();
    }
    let properties = "--property=LoadState,ActiveState,SubState,Result,NRestarts,LimitNOFILE";
    match program::ask("systemctl", ["show", UNIT, properties], MAX_SAID).await {
        Ok(said) => of_unit(&said.output),
        Err(error) => {
            let summary = "systemctl cannot be asked for the agent's service";
            vec![Finding::note(SERVICE, summary).evidence(error.to_string())]
        }
    }
}

fn of_unit(properties: &str) -> Vec<Finding> {
    let get = |name: &str| {
        let mut lines = properties.lines().filter_map(|line| line.split_once('='));
        lines
            .find(|(key, _)| *key == name)
            .map_or("", |(_, value)| value)
    };
    if get("LoadState") != "loaded" {
        return vec![Finding::note(SERVICE, format!("systemd knows no {UNIT}"))];
    }
    let (active, sub) = (get("ActiveState"), get("SubState"));
    let evidence = format!(
        "{active} ({sub}), result {}, restarts {}",
        get("Result"),
        get("NRestarts")
    );
    let state = match active {
        "active" => Finding::ok(SERVICE, format!("{UNIT} is active")),
        "activating" | "reloading" => Finding::warning(
            SERVICE,
            format!("{UNIT} is starting, or starts again and again"),
        )
        .next(format!("see why: journalctl -u {UNIT}")),
        _ => Finding::problem(SERVICE, format!("{UNIT} does not run")).next(format!(
            "see why: journalctl -u {UNIT}; then: systemctl start {UNIT}"
        )),
    };
    let mut findings = vec![state.evidence(evidence)];
    if let Ok(files) = get("LimitNOFILE").parse::<u64>()
        && files < FEW_FILES
    {
        let finding = Finding::warning("limit", format!("{UNIT} may open {files} files only"));
        findings.push(finding.next(format!(
            "set LimitNOFILE=65536 (systemctl edit {UNIT}) and restart it"
        )));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn a_file_system_that_is_nearly_full_or_full_is_told() {
        let severity = |used| {
            let (id, free) = ((0, 0), 0);
            disk("/x", &Space { id, used, free }).severity
        };
        let told = [89, 90, 97, 98].map(severity);
        let (warning, problem) = (Severity::Warning, Severity::Problem);
        assert_eq!(told, [Severity::Ok, warning, warning, problem]);
        assert!(!disks().is_empty());
    }

    #[test]
    fn a_service_is_told_by_its_state_and_limits() {
        let of = |active: &str, files: &str| {
            let text = format!(
                "LimitNOFILE={files}\nLoadState=loaded\nActiveState={active}\nSubState=x\nResult=y\nNRestarts=3\n"
            );
            let findings = of_unit(&text);
            findings.iter().map(|f| f.severity).collect::<Vec<_>>()
        };
        assert_eq!(of("active", "524288"), [Severity::Ok]);
        assert_eq!(of("active", "1024"), [Severity::Ok, Severity::Warning]);
        assert_eq!(of("active", "infinity"), [Severity::Ok]);
        assert_eq!(of("failed", "524288"), [Severity::Problem]);
        assert_eq!(of("activating", "524288"), [Severity::Warning]);
        let unknown = of_unit("LoadState=not-found\nActiveState=inactive\n");
        assert_eq!(unknown[0].severity, Severity::Note);
    }

    #[tokio::test]
    async fn without_systemd_no_service_is_asked_for() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(service(root.path()).await, []);
    }
}
