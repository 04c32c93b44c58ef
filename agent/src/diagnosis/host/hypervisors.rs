//! Whether the hypervisors can be asked, and what they do not allow. It asks none: what each
//! provider says of itself is read here, and by its words told apart.

use super::super::finding::{Code, Finding};
use crate::hypervisor::{Inventory, Provider};

/// How a provider of QEMUs says that its directory is not there.
const NO_DIRECTORY: &str = "the directory does not exist";
/// How it says that there are too many sockets.
const TOO_MANY: &str = "beyond the limit";
/// How it says that a socket, whose path it begins with, is not served; the reason follows.
const NOT_SERVED: &str = " is not served";
/// How reasons read that lie in rights.
const RIGHTS: [&str; 2] = ["may not connect", "endpoints.owners"];

/// What is to be said of each.
pub(super) fn look(inventory: &Inventory) -> Vec<Finding> {
    let mut findings: Vec<_> = inventory.providers.iter().map(provider).collect();
    if inventory.providers.is_empty() && !inventory.connected {
        findings.push(lost("the hypervisor", &inventory.trouble, ""));
    }
    findings
}

/// Why a hypervisor is not connected: the first of them that is not and says why.
pub(in super::super) fn not_connected(inventory: &Inventory) -> Option<String> {
    let says_why = |one: &&Provider| !one.connected && !one.trouble.is_empty();
    let provider = inventory.providers.iter().find(says_why)?;
    let Provider {
        name,
        place,
        trouble,
        ..
    } = provider;
    Some(format!("{name} ({place}): {trouble}"))
}

fn provider(provider: &Provider) -> Finding {
    let Provider {
        name,
        place,
        connected,
        trouble,
    } = provider;
    let what = format!("{name} ({place})");
    if !connected {
        return lost(&what, trouble, name);
    }
    if trouble.is_empty() {
        let summary = format!("{name} answers ({place})");
        return Finding::good(Code::HypervisorConnected, summary);
    }
    if *name == "qemu" {
        return qemu(&what, trouble).evidence(trouble);
    }
    less_than_needed(&what).evidence(trouble).next(
        "do as it says; where libvirt.uri is right, allow the agent's user more: its group in unix_sock_group of libvirtd.conf (virtqemud.conf), or polkit rules for org.libvirt.api.*",
    )
}

fn qemu(what: &str, trouble: &str) -> Finding {
    if trouble.starts_with(NO_DIRECTORY) {
        let summary = format!("{what} has no VM: no QEMU was started with a QMP socket there");
        return Finding::note(Code::HypervisorConnected, summary).next(
            "where every VM is libvirt's, nothing is to be done, or set qemu.enabled = false; others are found as soon as there is a socket",
        );
    }
    match trouble.split_once(NOT_SERVED) {
        Some((_, why)) if RIGHTS.iter().any(|part| why.contains(part)) => {
            less_than_needed(what).next(
                "do as it says: the agent's user has to be in a group that may write to the QMP sockets, and QEMU's user among endpoints.owners",
            )
        }
        Some(_) => Finding::warning(
            Code::HypervisorLost,
            format!("not every QEMU of {what} can be asked"),
        )
        .next("do as it says; see whether that QEMU hangs, and that no other program is connected to the agent's QMP socket"),
        None if trouble.contains(TOO_MANY) => Finding::warning(
            Code::Limit,
            format!("{what} has more QMP sockets than are looked after"),
        )
        .next("remove those whose QEMU is gone; those that qemu.sockets names come first"),
        None => less_than_needed(what).next("do as it says"),
    }
}

fn less_than_needed(what: &str) -> Finding {
    let summary = format!("{what} allows the agent less than it needs");
    Finding::warning(Code::HypervisorRights, summary)
}

fn lost(what: &str, trouble: &str, name: &str) -> Finding {
    let next = match name {
        "qemu" => {
            "see that the directory exists and that the agent's user may read it (qemu.directory); where every VM is libvirt's, set qemu.enabled = false"
        }
        _ => {
            "see that libvirtd or virtqemud runs (systemctl status libvirtd virtqemud.socket), that libvirt.uri is right, and that the agent's user is in the group of libvirt's socket; where no VM is libvirt's, set libvirt.enabled = false; vmconsolectl doctor, as root, says more"
        }
    };
    Finding::problem(Code::HypervisorLost, format!("{what} cannot be asked"))
        .evidence(trouble)
        .next(next)
}
