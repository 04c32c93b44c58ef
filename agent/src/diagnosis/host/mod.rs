//! What is wrong with the host and with the agent on it.
//!
//! What is in memory is judged at once; what has to be read from disk is read by functions
//! that block, for a thread of their own. Nothing needs more rights than the agent has.

mod certificates;
mod clock;
mod disk;
mod hypervisors;
mod limits;

use std::path::PathBuf;
use std::time::SystemTime;

use super::finding::{Code, Finding};
use crate::hypervisor::Inventory;

pub(super) use hypervisors::not_connected;
pub use limits::Usage;

/// Which files and directories are looked at.
#[derive(Clone, Debug)]
pub(super) struct HostConfig {
    /// The agent's certificate.
    pub(super) certificate: PathBuf,
    /// The CA of its clients.
    pub(super) client_ca: PathBuf,
    /// Directories whose file systems must have room.
    pub(super) directories: Vec<PathBuf>,
    /// The file system's root, below which other software's state is looked for.
    pub(super) root: PathBuf,
}

/// What the inventory and the counts of what runs show.
pub(super) fn in_memory(inventory: &Inventory, usages: &[Usage]) -> Vec<Finding> {
    let mut findings = hypervisors::look(inventory);
    for conflict in &inventory.conflicts {
        let summary = format!("two QEMUs claim the identity {}", conflict.uuid);
        let evidence = format!(
            "{} has it; {} was refused",
            conflict.holder, conflict.claimant
        );
        let finding = Finding::warning(Code::IdentityConflict, summary).evidence(evidence);
        findings.push(finding.next("start one of them with another -uuid; where neither was meant to have it, find out who started it"));
    }
    findings.extend(usages.iter().filter_map(limits::usage));
    findings
}

/// What one step of reading is called, and what it found.
pub(super) type Step = (&'static str, fn(&HostConfig, SystemTime) -> Vec<Finding>);

/// What has to be read, in order. Each blocks.
pub(super) const STEPS: [Step; 4] = [
    ("the certificates", certificates::look),
    ("the state of the time service", clock::look),
    ("the file systems", disk::look),
    ("the agent's limits", limits::look),
];

#[cfg(test)]
mod tests;
