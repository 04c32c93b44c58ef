//! Finds the process that has something open, as far as the agent's rights allow: of other
//! users' processes an unprivileged agent sees no descriptors. It reads `/proc` and no more.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::endpoint::Holder;

/// The most processes, and the most descriptors of all of them, that are looked at.
const MAX_PROCESSES: usize = 1 << 16;
const MAX_DESCRIPTORS: usize = 1 << 20;

/// So many descriptors are looked at before other tasks have their turn.
const IN_A_TURN: usize = 1024;

/// The longest name of a command that is told, in bytes.
const MAX_COMMAND: usize = 64;

/// The process other than this one with a descriptor that leads to `target`, as the links in
/// `/proc/PID/fd` say it: `socket:[INODE]`, or a path.
///
/// # Cancel safety
/// Nothing is changed by it.
pub(super) async fn with_open(target: &Path) -> Option<Holder> {
    let (mut seen, mut in_turn) = (0, 0);
    for process in processes().take(MAX_PROCESSES) {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else {
            continue; // it ended, or is none of ours to look into
        };
        for descriptor in descriptors.flatten() {
            (seen, in_turn) = (seen + 1, in_turn + 1);
            if fs::read_link(descriptor.path()).is_ok_and(|leads_to| leads_to == target) {
                return holder(process);
            }
        }
        if seen >= MAX_DESCRIPTORS {
            return None;
        }
        if in_turn >= IN_A_TURN {
            in_turn = 0;
            tokio::task::yield_now().await;
        }
    }
    None
}

/// The link that a descriptor of the socket with this inode has.
pub(super) fn socket_link(inode: u32) -> PathBuf {
    PathBuf::from(format!("socket:[{inode}]"))
}

fn processes() -> impl Iterator<Item = u32> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(move |process| *process != own)
}

/// What is known of a living process; `None` if there is none of this id.
pub(super) fn holder(process: u32) -> Option<Holder> {
    let place = PathBuf::from(format!("/proc/{process}"));
    let user = fs::metadata(&place).ok()?.uid();
    let command = fs::read(place.join("comm")).unwrap_or_default();
    Some(Holder {
        process,
        command: printable(&command),
        user,
    })
}

/// A name that anybody may choose, fit to be shown.
fn printable(name: &[u8]) -> String {
    let name = name.strip_suffix(b"\n").unwrap_or(name);
    let shown = name.iter().take(MAX_COMMAND).map(|byte| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => '?',
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_printable_and_short() {
        assert_eq!(printable(b"virsh\n"), "virsh");
        assert_eq!(printable(b"a\x1b[2J\xff\n"), "a?[2J?");
        assert_eq!(printable(&[b'x'; 500]).len(), MAX_COMMAND);
    }

    #[test]
    fn a_process_that_is_not_there_holds_nothing() {
        assert_eq!(holder(u32::MAX), None);
        let own = holder(std::process::id()).unwrap();
        assert_eq!(own.user, nix::unistd::geteuid().as_raw());
        assert!(!own.command.is_empty());
    }

    #[tokio::test]
    async fn a_child_is_found_by_what_it_has_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("open");
        let file = fs::File::create(&path).unwrap();
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(file)
            .spawn()
            .unwrap();
        let found = with_open(&path).await;
        drop(child.stdin.take());
        child.wait().unwrap();
        let found = found.unwrap();
        assert_eq!(found.process, child.id());
        assert_eq!(with_open(&path).await, None);
    }
}
