//! What a provider of QEMUs without libvirt says of itself, each in its own words, as a finding.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::unistd::{Uid, chown, geteuid};
use tokio::time::timeout;

use super::*;
use crate::hypervisor::Hypervisor as _;
use crate::hypervisor::qemu::testing::started;
use crate::shutdown::Tasks;

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// The finding about a provider of this directory and these sockets, once its trouble says so.
async fn finding(directory: PathBuf, sockets: Vec<PathBuf>, trouble: &str) -> Finding {
    let tasks = Tasks::new();
    let hypervisor = started(directory, sockets, &tasks);
    let mut inventory = hypervisor.inventory();
    let so = |now: &std::sync::Arc<Inventory>| {
        let mut providers = now.providers.iter();
        providers.any(|one| one.trouble.contains(trouble))
    };
    let found = timeout(SOON, inventory.wait_for(so)).await;
    let found = found.expect("in time").expect("it goes on").clone();
    tasks.token().cancel();
    in_memory(&found, &[]).remove(0)
}

#[track_caller]
fn is(finding: &Finding, code: Code, severity: Severity, next: &str) {
    assert_eq!(
        (finding.code, finding.severity),
        (code, severity),
        "{finding:?}"
    );
    assert!(finding.next_step.contains(next), "{finding:?}");
}

#[tokio::test]
async fn a_host_of_libvirt_alone_has_no_fault() {
    let root = tempfile::tempdir().expect("a directory");
    let told = finding(root.path().join("qmp"), Vec::new(), "does not exist").await;
    let next = "qemu.enabled = false";
    is(&told, Code::HypervisorConnected, Severity::Note, next);
}

#[tokio::test]
async fn a_qemu_that_hangs_is_not_called_a_lack_of_rights() {
    let root = tempfile::tempdir().expect("a directory");
    let _silent = UnixListener::bind(root.path().join("web")).expect("binds");
    let told = finding(root.path().to_owned(), Vec::new(), "is not served").await;
    is(&told, Code::HypervisorLost, Severity::Warning, "hangs");
    assert!(told.evidence.contains("/web is not served"), "{told:?}");
}

#[tokio::test]
async fn a_socket_that_the_agent_may_not_use_is() {
    let root = tempfile::tempdir().expect("a directory");
    let socket = root.path().join("web");
    let _closed = UnixListener::bind(&socket).expect("binds");
    if geteuid().is_root() {
        chown(&socket, Some(Uid::from_raw(65534)), None).expect("root may");
    } else {
        let none = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(&socket, none).expect("its own");
    }
    let told = finding(root.path().to_owned(), Vec::new(), "is not served").await;
    is(&told, Code::HypervisorRights, Severity::Warning, "group");
}

#[tokio::test]
async fn more_sockets_than_are_served_are_a_limit() {
    let root = tempfile::tempdir().expect("a directory");
    let sockets = (0..1025)
        .map(|n| root.path().join(format!("{n}")))
        .collect();
    let told = finding(root.path().to_owned(), sockets, "beyond the limit").await;
    is(&told, Code::Limit, Severity::Warning, "qemu.sockets");
}
