//! What is wrong with the host and with the agent on it.
//!
//! What is in memory is judged at once; what has to be read from disk is read by functions
//! that block, for a thread of their own. Nothing needs more rights than the agent has.

mod certificates;
mod clock;
mod disk;
mod limits;

use std::path::PathBuf;
use std::time::SystemTime;

use super::finding::{Code, Finding};
use crate::hypervisor::{Inventory, Provider};

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
    let mut findings: Vec<_> = inventory.providers.iter().map(provider).collect();
    if inventory.providers.is_empty() && !inventory.connected {
        findings.push(lost("the hypervisor", &inventory.trouble, ""));
    }
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

fn provider(provider: &Provider) -> Finding {
    let Provider {
        name,
        place,
        connected,
        trouble,
    } = provider;
    if !connected {
        return lost(&format!("{name} ({place})"), trouble, name);
    }
    if trouble.is_empty() {
        let summary = format!("{name} answers ({place})");
        return Finding::good(Code::HypervisorConnected, summary);
    }
    let next = match *name {
        "libvirt" => {
            "do as it says; where libvirt.uri is right, allow the agent's user more: its group in unix_sock_group of libvirtd.conf (virtqemud.conf), or polkit rules for org.libvirt.api.*"
        }
        _ => {
            "let the agent's user open the QMP sockets: make them writable for a group that it is in"
        }
    };
    Finding::warning(
        Code::HypervisorRights,
        format!("{name} ({place}) allows the agent less than it needs"),
    )
    .evidence(trouble)
    .next(next)
}

fn lost(what: &str, trouble: &str, name: &str) -> Finding {
    let next = match name {
        "qemu" => {
            "see that the directory exists and that the agent's user may read it (qemu.directory); where every VM is libvirt's, set qemu.enabled = false"
        }
        _ => {
            "see that libvirtd or virtqemud runs (systemctl status libvirtd virtqemud.socket), that libvirt.uri is right, and that the agent's user is in the group of libvirt's socket; vmconsolectl doctor, as root, says more"
        }
    };
    Finding::problem(Code::HypervisorLost, format!("{what} cannot be asked"))
        .evidence(trouble)
        .next(next)
}

#[cfg(test)]
mod tests;
