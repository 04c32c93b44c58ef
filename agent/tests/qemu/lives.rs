//! QEMUs that start, stop, hang, are killed and come again; and monitors that others hold.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::io::Read;

use nix::sys::signal::Signal;
use vmconsole_agent::hypervisor::{Inventory, Vm, VmState};

use super::host::{Host, Qemu, UUID, connect, qmp, uuid};

fn vm(inventory: &Inventory) -> Option<&Vm> {
    inventory.vms.get(&uuid()).map(|vm| vm.as_ref())
}

fn is(inventory: &Inventory, state: VmState) -> bool {
    vm(inventory).is_some_and(|vm| vm.state == state)
}

#[tokio::test]
async fn a_killed_qemu_is_off_and_its_successor_found() {
    let host = Host::start();
    for listed in [false, true] {
        let socket = if listed { host.listed() } else { host.at("a") };
        let qemu = Qemu::start(&socket, &["-uuid", UUID]);
        let before = host.until(|now| is(now, VmState::Paused)).await;
        qemu.kill();
        assert!(socket.exists(), "what a killed QEMU leaves");
        let off = host.until(|now| is(now, VmState::Off)).await;
        assert_eq!(vm(&off).unwrap().instance, None);
        assert!(off.stale.is_empty());

        let qemu = Qemu::start(&socket, &["-uuid", UUID]);
        let after = host.until(|now| is(now, VmState::Paused)).await;
        assert_ne!(vm(&after).unwrap().instance, vm(&before).unwrap().instance);

        // One that ends by itself takes its socket along.
        qemu.signal(Signal::SIGTERM);
        if listed {
            host.until(|now| is(now, VmState::Off)).await;
        } else {
            host.until(|now| now.vms.is_empty()).await;
        }
        assert!(!socket.exists());
    }
}

#[tokio::test]
async fn what_is_left_of_a_killed_qemu_is_forgotten_with_its_socket() {
    let host = Host::start();
    let qemu = Qemu::start(&host.at("a"), &["-uuid", UUID]);
    host.until(|now| is(now, VmState::Paused)).await;
    qemu.kill();
    host.until(|now| is(now, VmState::Off)).await;
    std::fs::remove_file(host.at("a")).unwrap();
    host.until(|now| now.vms.is_empty()).await;
}

#[tokio::test]
async fn a_qemu_whose_socket_was_deleted_is_served_until_it_ends() {
    let host = Host::start();
    let qemu = Qemu::start(&host.at("a"), &["-uuid", UUID]);
    host.until(|now| is(now, VmState::Paused)).await;
    std::fs::remove_file(host.at("a")).unwrap();
    let _other = Qemu::start(&host.at("b"), &[]);
    let both = host.until(|now| now.vms.len() == 2).await;
    assert!(is(&both, VmState::Paused));
    qemu.kill();
    host.until(|now| now.vms.len() == 1).await;
}

#[tokio::test]
async fn what_happens_to_a_vm_is_followed() {
    let host = Host::start();
    let second = host.root.path().join("second");
    let monitor = format!("unix:{},server=on,wait=off", second.display());
    let _qemu = Qemu::start(&host.at("a"), &["-uuid", UUID, "-qmp", &monitor]);
    host.until(|now| is(now, VmState::Paused)).await;
    qmp(&second, "cont");
    host.until(|now| is(now, VmState::Running)).await;
    qmp(&second, "stop");
    host.until(|now| is(now, VmState::Paused)).await;
}

#[tokio::test]
async fn a_monitor_that_another_holds_is_reported_and_found_when_free() {
    let host = Host::start();
    let elsewhere = host.root.path().join("elsewhere");
    let _qemu = Qemu::start(&elsewhere, &["-uuid", UUID]);
    let mut holder = connect(&elsewhere);
    assert!(holder.read(&mut [0; 16]).unwrap() > 0, "greeted");
    std::fs::rename(&elsewhere, host.at("a")).unwrap();
    let held = host
        .until(|now| now.synced && !now.providers[0].trouble.is_empty())
        .await;
    assert!(held.vms.is_empty());
    let trouble = &held.providers[0].trouble;
    assert!(
        trouble.contains("another client holds the monitor"),
        "{trouble}"
    );
    drop(holder);
    host.until(|now| is(now, VmState::Paused)).await;
}

#[tokio::test]
async fn a_stopped_qemu_is_told_from_a_held_one() {
    let host = Host::start();
    let elsewhere = host.root.path().join("elsewhere");
    let qemu = Qemu::start(&elsewhere, &["-uuid", UUID]);
    drop(connect(&elsewhere));
    qemu.signal(Signal::SIGSTOP);
    std::fs::rename(&elsewhere, host.at("a")).unwrap();
    let stopped = host
        .until(|now| {
            now.providers
                .first()
                .is_some_and(|it| it.trouble.contains("is stopped"))
        })
        .await;
    let trouble = &stopped.providers[0].trouble;
    assert!(trouble.contains(&qemu.process().to_string()), "{trouble}");
    qemu.signal(Signal::SIGCONT);
    host.until(|now| is(now, VmState::Paused)).await;
}
