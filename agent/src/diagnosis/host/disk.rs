//! Whether the host's file systems have room.

use std::path::Path;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;

use super::super::finding::{Code, Finding};
use super::HostConfig;

/// From this part on, in percent, a file system is nearly full.
const NEARLY: u64 = 90;
/// From this part on it is full.
const FULL: u64 = 98;

/// How full one file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Space {
    /// What tells it from others.
    id: (u64, u64),
    /// In percent, as `df` counts: without what is kept for root.
    used: u64,
    /// Bytes that are free for others than root.
    free: u64,
}

/// Looks at each directory's file system, at each of them once.
pub(super) fn look(config: &HostConfig, _now: SystemTime) -> Vec<Finding> {
    let mut seen = Vec::new();
    let mut findings = Vec::new();
    for path in &config.directories {
        match space(path) {
            Ok(Some(space)) if !seen.contains(&space.id) => {
                seen.push(space.id);
                findings.push(judge(path, space));
            }
            Ok(_) => {}
            Err(error) => {
                let summary = format!("the file system of {} cannot be looked at", path.display());
                findings.push(Finding::note(Code::Disk, summary).evidence(error.desc()));
            }
        }
    }
    findings
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

fn judge(path: &Path, space: Space) -> Finding {
    let place = path.display();
    let evidence = format!("{} MiB are free", space.free / (1024 * 1024));
    let next = format!("make room on it: what takes most is told by du -xh {place} | sort -h");
    let summary = format!("the file system of {place} is {} % full", space.used);
    match space.used {
        FULL.. => Finding::problem(Code::Disk, summary)
            .evidence(evidence)
            .next(next),
        NEARLY..FULL => Finding::warning(Code::Disk, summary)
            .evidence(evidence)
            .next(next),
        _ => Finding::good(Code::Disk, format!("the file system of {place} has room"))
            .evidence(evidence),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity;
    use super::*;

    #[test]
    fn nearly_full_and_full_are_told_apart() {
        let severity = |used| {
            let space = Space {
                id: (0, 0),
                used,
                free: 0,
            };
            judge(Path::new("/x"), space).severity
        };
        assert_eq!(severity(89), Severity::Good);
        assert_eq!(severity(90), Severity::Warning);
        assert_eq!(severity(97), Severity::Warning);
        assert_eq!(severity(98), Severity::Problem);
    }

    #[test]
    fn a_real_file_system_is_measured_and_a_missing_directory_passed_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let space_there = space(directory.path()).expect("readable").expect("blocks");
        assert!(space_there.used <= 100);
        assert_eq!(space(&directory.path().join("no")), Ok(None));
    }
}
