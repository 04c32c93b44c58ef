//! What a process and its children use, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// Memory in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident, with what is shared counted in every process.
    pub rss: f64,
    /// Resident, with what is shared divided among those who share it.
    pub pss: f64,
}

/// The process and all that descend from it.
fn tree(pid: i32) -> Vec<i32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        for task in entries(&format!("/proc/{pid}/task")) {
            let path = format!("/proc/{pid}/task/{task}/children");
            // A thread that has ended meanwhile has no children.
            let children = fs::read_to_string(path).unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<i32>().ok()),
            );
        }
    }
    found
}

fn entries(path: &str) -> Vec<String> {
    let names = fs::read_dir(path).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

/// The CPU time that the process and its living children have used.
pub fn cpu(pid: i32) -> Duration {
    tree(pid).into_iter().map(cpu_alone).sum()
}

/// The CPU time that the bench itself, the client, has used.
pub fn own_cpu() -> Duration {
    cpu_alone(nix::unistd::getpid().as_raw())
}

fn cpu_alone(pid: i32) -> Duration {
    let ran = |task: String| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{task}/schedstat"));
        // A thread that has ended meanwhile is not counted any more.
        let text = text.unwrap_or_default();
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    let tasks = entries(&format!("/proc/{pid}/task"));
    let ran = tasks.into_iter().filter_map(ran).sum();
    assert!(ran > 0, "the kernel keeps no /proc/{pid}/task/*/schedstat");
    Duration::from_nanos(ran)
}

/// The memory that the process and its children hold.
pub fn memory(pid: i32) -> Memory {
    let mut sum = Memory::default();
    for pid in tree(pid) {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number
                .and_then(|number| number.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        sum.rss += field("Rss:");
        sum.pss += field("Pss:");
    }
    assert!(sum.rss > 0.0, "the kernel keeps no /proc/PID/smaps_rollup");
    sum
}
