//! Side effects over a real QEMU's monitor.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::time::Duration;

use vmconsole_agent::core::id::{Alias, ConsoleId};
use vmconsole_agent::core::keys::{Key, KeyPress};
use vmconsole_agent::hypervisor::{EffectError, Hypervisor, Inventory, VmState};

use super::host::{Host, Qemu, UUID, qmp, uuid};

fn console(alias: &str) -> ConsoleId {
    ConsoleId {
        vm: uuid(),
        alias: Alias::new(alias).unwrap(),
    }
}

#[tokio::test]
async fn a_picture_is_one_of_the_screen() {
    let host = Host::start();
    let _qemu = Qemu::start(&host.at("a"), &["-uuid", UUID, "-vga", "std"]);
    host.until(|now| now.vms.contains_key(&uuid())).await;
    for _ in 0..3 {
        let picture = host.hypervisor.screenshot(uuid(), 0).await.unwrap().0;
        let header = String::from_utf8_lossy(&picture[..32.min(picture.len())]).into_owned();
        let mut words = header.split_ascii_whitespace();
        assert_eq!(words.next(), Some("P6"), "{header}");
        let mut number = || words.next().unwrap().parse::<usize>().unwrap();
        let (width, height, depth) = (number(), number(), number());
        let points = width * height * 3;
        let head = format!("P6\n{width} {height}\n{depth}\n").len();
        assert_eq!(picture.len(), head + points);
    }
    let other = host.hypervisor.screenshot(uuid(), 1).await;
    assert!(
        matches!(other, Err(EffectError::Unsupported(_))),
        "{other:?}"
    );
}

/// How many descriptors of a process are open.
fn descriptors(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .count()
}

/// What the pictures' memory files that a process has open hold, in bytes.
fn pictures(process: u32) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let paths = open.map(|entry| entry.unwrap().path());
    let pictures = paths.filter(|path| {
        let target = std::fs::read_link(path).unwrap_or_default();
        target.to_string_lossy().contains("vmconsole-screenshot")
    });
    pictures
        .map(|path| std::fs::metadata(path).map_or(0, |it| it.len()))
        .sum()
}

#[tokio::test]
async fn pictures_of_a_paused_vm_leave_nothing_more_behind() {
    let host = Host::start();
    let second = host.root.path().join("second");
    let monitor = format!("unix:{},server=on,wait=off", second.display());
    let options = ["-uuid", UUID, "-vga", "std", "-qmp", &monitor];
    let qemu = Qemu::start(&host.at("a"), &options);
    host.until(|now| now.vms.contains_key(&uuid())).await;
    let first = host.hypervisor.screenshot(uuid(), 0).await.unwrap();
    let before = descriptors(qemu.process());
    for _ in 0..20 {
        let again = host.hypervisor.screenshot(uuid(), 0).await.unwrap();
        assert_eq!(again.0.len(), first.0.len());
        assert!(again.0.starts_with(b"P6"));
    }
    assert_eq!(descriptors(qemu.process()), before);
    assert_eq!(pictures(qemu.process()), 0, "the memory is given back");

    qmp(&second, "cont");
    let running = |now: &Inventory| {
        let vm = now.vms.get(&uuid());
        vm.is_some_and(|vm| vm.state == VmState::Running)
    };
    host.until(running).await;
    let before = descriptors(qemu.process());
    for _ in 0..5 {
        let again = host.hypervisor.screenshot(uuid(), 0).await.unwrap();
        assert!(again.0.starts_with(b"P6"));
    }
    assert_eq!(descriptors(qemu.process()), before);
}

#[tokio::test]
async fn breaks_keys_and_interrupts_are_taken() {
    let host = Host::start();
    let virtio = "-device virtio-serial -chardev null,id=hvc -device virtconsole,chardev=hvc";
    let mut options = vec!["-uuid", UUID, "-serial", "pty"];
    options.extend(virtio.split(' '));
    let _qemu = Qemu::start(&host.at("a"), &options);
    host.until(|now| now.vms.contains_key(&uuid())).await;
    host.hypervisor
        .send_break(&console("serial0"))
        .await
        .unwrap();
    let none = host.hypervisor.send_break(&console("serial1")).await;
    assert!(matches!(none, Err(EffectError::NotFound(_))), "{none:?}");
    // QEMU itself takes it, and the guest sees nothing.
    let no_line = host.hypervisor.send_break(&console("console0")).await;
    assert!(
        matches!(no_line, Err(EffectError::Unsupported(_))),
        "{no_line:?}"
    );
    let keys = [("ctrl", 29), ("alt", 56), ("delete", 111)];
    let keys = keys.map(|(name, linux)| Key { name, linux }).into();
    let hold = Duration::from_millis(50);
    host.hypervisor
        .send_keys(uuid(), &KeyPress { keys, hold })
        .await
        .unwrap();
    host.hypervisor.inject_nmi(uuid()).await.unwrap();
    let blind = host.hypervisor.screenshot(uuid(), 0).await;
    assert!(
        matches!(blind, Err(EffectError::Unsupported(_))),
        "{blind:?}"
    );
}

#[tokio::test]
async fn nothing_is_done_to_a_vm_that_is_off_or_unknown() {
    let host = Host::start();
    let unknown = host.hypervisor.inject_nmi(uuid()).await;
    assert!(
        matches!(unknown, Err(EffectError::NotFound(_))),
        "{unknown:?}"
    );
    let qemu = Qemu::start(&host.at("a"), &["-uuid", UUID]);
    host.until(|now| now.vms.contains_key(&uuid())).await;
    qemu.kill();
    host.until(|now| {
        now.vms
            .get(&uuid())
            .is_some_and(|vm| vm.state == VmState::Off)
    })
    .await;
    let off = host.hypervisor.inject_nmi(uuid()).await;
    assert_eq!(off, Err(EffectError::NotRunning));
}
