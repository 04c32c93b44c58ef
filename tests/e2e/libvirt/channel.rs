//! A virtio channel as a console.

use vmconsole_agent::endpoint::{Claim, EndpointEnd, EndpointError, Source};
use vmconsole_agent::hypervisor::{ConsoleKind, EffectError, Hypervisor};
use vmconsole_tests::guest::GuestOptions;

use super::{Ear, Rig, connect, runs, send};

const CHANNELS: &str = "<channel type='unix'>\
    <target type='virtio' name='org.vmconsole.shell.0'/></channel>\
    <channel type='unix'><target type='virtio' name='org.other.0'/></channel>\
    <channel type='pty'><target type='virtio' name='org.vmconsole.pty'/></channel>";

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_a_console_with_a_shell() {
    let rig = Rig::start();
    let mut options = GuestOptions::named("channel");
    "vmc.channel=org.vmconsole.shell.0".clone_into(&mut options.kernel.more);
    let (_guest, vm) = rig.guest(options, CHANNELS).await;
    let inventory = rig.hypervisor.inventory().borrow().clone();
    let consoles = inventory.vms[&vm].consoles.iter();
    let channels: Vec<_> = consoles
        .filter(|console| console.kind == ConsoleKind::Channel)
        .map(|console| (console.alias.as_str(), console.source.clone()))
        .collect();
    assert_eq!(channels.len(), 2, "{channels:?}");
    let (name, source) = &channels[0];
    assert_eq!(
        (*name, source),
        ("channel:org.vmconsole.shell.0", &Source::LibvirtChannel)
    );
    let (unserved, why) = &channels[1];
    assert_eq!(*unserved, "channel:org.vmconsole.pty");
    let Source::Unserved(why) = why else {
        panic!("{why:?}")
    };
    let (_, endpoint) = rig.endpoint(vm, unserved);
    let refused = endpoint.attach(Ear::new(), Claim::IfFree).await.err();
    assert_eq!(refused, Some(EndpointError::Unsupported(why.clone())));

    let (console, endpoint) = rig.endpoint(vm, name);
    let ear = Ear::new();
    let mut shell = endpoint.attach(ear.clone(), Claim::IfFree).await.unwrap();
    ear.hears("login: ", 1).await;
    send(&mut *shell, "root\n").await;
    ear.hears("Password: ", 1).await;
    send(&mut *shell, "console\necho c$((1+1))l\n").await;
    ear.hears("c2l\n", 1).await;

    // Somebody else is refused, until they take it on purpose.
    let other = connect(&rig.libvirtd, &rig.tasks);
    runs(&other, vm).await;
    let others = other.endpoint(&console);
    let refused = others.attach(Ear::new(), Claim::IfFree).await.err();
    let held = matches!(refused, Some(EndpointError::HeldByOther(_)));
    assert!(held, "{refused:?}");
    send(&mut *shell, "echo s$((1+1))s\n").await;
    ear.hears("s2s\n", 1).await;
    let taker = Ear::new();
    let mut taken = others.attach(taker.clone(), Claim::Displace).await.unwrap();
    assert_eq!(ear.end().await, EndpointEnd::Displaced);
    shell.detach().await;
    // The guest may have seen its end closed, and asks again who is there; or it was too quick
    // for that, and the shell goes on.
    send(&mut *taken, "exit\n").await;
    taker.hears("login: ", 1).await;

    let broken = rig.hypervisor.send_break(&console).await;
    assert!(
        matches!(broken, Err(EffectError::Unsupported(_))),
        "{broken:?}"
    );

    rig.libvirtd.virsh(&["destroy", "channel"]).unwrap();
    assert_eq!(taker.end().await, EndpointEnd::Eof);
    taken.detach().await;
    let refused = endpoint.attach(Ear::new(), Claim::IfFree).await.err();
    assert_eq!(refused, Some(EndpointError::NotRunning));
    rig.stop().await;
}
