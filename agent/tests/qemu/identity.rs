//! Whose a UUID is.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use nix::sys::signal::Signal;
use vmconsole_agent::hypervisor::{Inventory, VmState};

use super::host::{Host, Qemu, UUID, uuid};

#[tokio::test]
async fn a_second_claim_is_refused_until_the_first_qemu_ended() {
    let host = Host::start();
    let first = Qemu::start(&host.at("z"), &["-uuid", UUID, "-name", "first"]);
    host.until(|now| now.vms.contains_key(&uuid())).await;
    let _second = Qemu::start(&host.at("a"), &["-uuid", UUID, "-name", "second"]);
    let both = host.until(|now| !now.conflicts.is_empty()).await;
    assert_eq!(both.vms.len(), 1);
    assert_eq!(both.vms[&uuid()].name.as_ref(), "first");
    let conflict = &both.conflicts[0];
    assert_eq!(conflict.claimant, host.at("a").display().to_string());
    assert_eq!(conflict.holder, host.at("z").display().to_string());

    first.kill();
    let after = host.until(|now| now.conflicts.is_empty()).await;
    let vm = &after.vms[&uuid()];
    assert_eq!((vm.name.as_ref(), vm.state), ("second", VmState::Paused));
}

#[tokio::test]
async fn a_qemu_without_a_uuid_keeps_the_one_of_its_socket() {
    let mut host = Host::start();
    let qemu = Qemu::start(&host.at("a"), &[]);
    let _other = Qemu::start(&host.at("b"), &[]);
    let first = host.until(|now| now.vms.len() == 2).await;
    let named = |name: &str| {
        let vm = first.vms.values().find(|vm| vm.name.as_ref() == name);
        vm.unwrap().clone()
    };
    let a = named("a");
    assert_ne!(a.uuid, named("b").uuid);
    assert_eq!(a.uuid.to_string().as_bytes()[14], b'5', "version 5");

    // The same QEMU is the same run of the same VM to whoever comes later.
    host.restart().await;
    let second = host.until(|now| now.vms.len() == 2).await;
    assert_eq!(second.vms[&a.uuid].instance, a.instance);

    // Another QEMU at the same place is another run of the same VM.
    qemu.kill();
    std::fs::remove_file(host.at("a")).unwrap();
    let _new = Qemu::start(&host.at("a"), &[]);
    let third = host
        .until(|now| {
            now.vms
                .get(&a.uuid)
                .is_some_and(|vm| vm.instance.is_some() && vm.instance != a.instance)
        })
        .await;
    assert_eq!(third.vms[&a.uuid].state, VmState::Paused);
}

#[tokio::test]
async fn a_qemu_of_two_monitors_and_no_uuid_is_one_vm() {
    let host = Host::start();
    let elsewhere = host.root.path().join("elsewhere");
    let monitor = format!("unix:{},server=on,wait=off", elsewhere.display());
    let qemu = Qemu::start(&host.at("b"), &["-qmp", &monitor]);
    let first = host.until(|now| now.vms.len() == 1).await;
    std::fs::rename(&elsewhere, host.at("a")).unwrap();
    let named = |now: &Inventory, name: &str| {
        let mut vms = now.vms.values();
        now.vms.len() == 1 && vms.all(|vm| vm.name.as_ref() == name)
    };
    let second = host.until(|now| named(now, "a")).await;
    assert_ne!(first.vms.keys().next(), second.vms.keys().next());
    assert!(second.conflicts.is_empty());
    qemu.signal(Signal::SIGTERM);
    // The socket that was moved stays behind, and with it the VM.
    let all_off = |now: &Inventory| now.vms.values().all(|vm| vm.state == VmState::Off);
    host.until(all_off).await;
}
