//! What is done to a VM beside carrying its consoles' bytes.

use std::time::Duration;

use vmconsole_agent::core::keys::{DEFAULT_HOLD, Key, KeyPress};
use vmconsole_agent::endpoint::Claim;
use vmconsole_agent::hypervisor::{EffectError, Hypervisor};
use vmconsole_tests::guest::{CONSOLE1, GuestOptions, SERIAL0};

use super::{Ear, Rig, send};

const SCREEN: &str = "<video><model type='vga'/></video>";

fn ctrl_alt_delete() -> KeyPress {
    let key = |name, linux| Key { name, linux };
    KeyPress {
        keys: vec![key("ctrl", 29), key("alt", 56), key("delete", 111)],
        hold: DEFAULT_HOLD,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_break_an_interrupt_a_picture_and_keys() {
    let rig = Rig::start();
    let mut options = GuestOptions::named("effects");
    options.kernel.screen = true;
    let (guest, vm) = rig.guest(options, SCREEN).await;
    let (console, endpoint) = rig.endpoint(vm, SERIAL0);
    let ear = Ear::new();
    let mut line = endpoint.attach(ear.clone(), Claim::IfFree).await.unwrap();
    ear.hears("login: ", 1).await;
    send(&mut *line, "root\r").await;
    ear.hears("Password: ", 1).await;
    send(&mut *line, "console\rdmesg -n 8\r").await;
    ear.hears("# ", 2).await;

    rig.hypervisor.send_break(&console).await.unwrap();
    send(&mut *line, "h").await;
    ear.hears("sysrq: HELP", 1).await;
    // What libvirt makes of a command to a monitor, and an operator sees.
    let about = rig.libvirtd.virsh(&["dominfo", guest.name()]).unwrap();
    assert!(about.contains("tainted"), "{about}");
    println!("{about}");

    rig.hypervisor.inject_nmi(vm).await.unwrap();
    ear.hears("NMI received for unknown reason", 1).await;

    let picture = rig.hypervisor.screenshot(vm, 0).await.unwrap().0;
    println!("a picture of {} bytes: {:?}", picture.len(), &picture[..15]);
    assert!(picture.starts_with(b"P6") || picture.starts_with(b"\x89PNG"));
    let none = rig.hypervisor.screenshot(vm, 7).await;
    println!("no such screen: {none:?}");
    assert!(matches!(none, Err(EffectError::Unsupported(_))));

    let (hvc, _) = rig.endpoint(vm, CONSOLE1);
    let broken = rig.hypervisor.send_break(&hvc).await;
    assert!(matches!(broken, Err(EffectError::Unsupported(_))));
    let (none, _) = rig.endpoint(vm, "serial7");
    let broken = rig.hypervisor.send_break(&none).await;
    assert!(matches!(broken, Err(EffectError::NotFound(_))));
    let unknown = KeyPress {
        keys: vec![Key {
            name: "none",
            linux: 700,
        }],
        hold: Duration::ZERO,
    };
    let refused = rig.hypervisor.send_keys(vm, &unknown).await;
    println!("no such key: {refused:?}");
    assert!(matches!(refused, Err(EffectError::Unsupported(_))));

    rig.hypervisor
        .send_keys(vm, &ctrl_alt_delete())
        .await
        .unwrap();
    ear.hears("login: ", 2).await;

    line.detach().await;
    guest.destroy();
    let hypervisor = &rig.hypervisor;
    let off = Err(EffectError::NotRunning);
    assert_eq!(hypervisor.send_break(&console).await, off);
    assert_eq!(hypervisor.inject_nmi(vm).await, off);
    assert_eq!(hypervisor.send_keys(vm, &ctrl_alt_delete()).await, off);
    assert_eq!(hypervisor.screenshot(vm, 0).await.map(drop), off);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_without_a_screen_has_no_picture() {
    let rig = Rig::start();
    let (_guest, vm) = rig.guest(GuestOptions::named("blind"), "").await;
    let none = rig.hypervisor.screenshot(vm, 0).await;
    println!("no screen: {none:?}");
    assert!(matches!(none, Err(EffectError::Unsupported(_))));
    rig.stop().await;
}
