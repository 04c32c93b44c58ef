//! Which consoles a QEMU has, by how its ports were given to it.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use vmconsole_agent::endpoint::{Direct, Source, TcpAddress};
use vmconsole_agent::hypervisor::{ConsoleKind, Vm, VmState};

use super::host::{Host, Qemu, qmp};

/// Each console as alias, kind, type and where it is.
fn listed(vm: &Vm) -> Vec<(String, ConsoleKind, String, Source)> {
    let device = |it: &vmconsole_agent::hypervisor::ConsoleDevice| {
        (
            it.alias.to_string(),
            it.kind,
            it.backend.clone(),
            it.source.clone(),
        )
    };
    vm.consoles.iter().map(device).collect()
}

fn is_pty(source: &Source) -> bool {
    matches!(source, Source::Direct(Direct::Pty(path)) if path.starts_with("/dev/pts"))
}

#[tokio::test]
async fn ports_given_by_serial() {
    let host = Host::start();
    let unix = host.root.path().join("s1");
    let second = host.root.path().join("second");
    // Both are bound at the same time, so that they differ.
    let free = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [one, two] = free.map(|it| it.local_addr().unwrap().port());
    let _qemu = Qemu::start(
        &host.at("web.sock"),
        &[
            "-name",
            "web,, old",
            "-serial",
            "pty",
            "-serial",
            &format!("unix:{},server=on,wait=off", unix.display()),
            "-serial",
            &format!("tcp:0.0.0.0:{one},server=on,wait=off"),
            "-serial",
            &format!("telnet:127.0.0.1:{two},server=on,wait=off"),
            "-monitor",
            "pty",
            "-qmp",
            &format!("unix:{},server=on,wait=off", second.display()),
        ],
    );
    let now = host.until(|now| !now.vms.is_empty()).await;
    let vm = now.vms.values().next().unwrap();
    assert_eq!((vm.name.as_ref(), vm.state), ("web, old", VmState::Paused));
    let consoles = listed(vm);
    let names: Vec<_> = consoles
        .iter()
        .map(|it| (it.0.as_str(), it.1, it.2.as_str()))
        .collect();
    let serial = ConsoleKind::Serial;
    let expected = [
        ("serial0", serial, "pty"),
        ("serial1", serial, "unix"),
        ("serial2", serial, "tcp"),
        ("serial3", serial, "telnet"),
    ];
    assert_eq!(names, expected);
    assert!(is_pty(&consoles[0].3), "{:?}", consoles[0]);
    assert_eq!(consoles[1].3, Source::Direct(Direct::Unix(unix)));
    let tcp = |port, telnet| {
        let host = "127.0.0.1".to_owned();
        Source::Direct(Direct::Tcp(TcpAddress { host, port, telnet }))
    };
    assert_eq!(consoles[2].3, tcp(one, false));
    assert_eq!(consoles[3].3, tcp(two, true));

    // Who is connected makes no difference to where it is.
    let _client = std::net::TcpStream::connect(("127.0.0.1", one)).unwrap();
    qmp(&second, "cont");
    let again = host
        .until(|now| now.vms.values().any(|vm| vm.state == VmState::Running))
        .await;
    assert_eq!(listed(again.vms.values().next().unwrap()), consoles);
}

#[tokio::test]
async fn ports_given_by_device() {
    let host = Host::start();
    let unix = host.root.path().join("s1");
    let socket = format!("socket,id=first,path={},server=on,wait=off", unix.display());
    let _qemu = Qemu::start(
        &host.at("a"),
        &[
            "-chardev",
            "pty,id=third",
            "-device",
            "pci-serial,chardev=third",
            "-device",
            "virtio-serial",
            "-chardev",
            "pty,id=hvc",
            "-device",
            "virtconsole,chardev=hvc,id=zz",
            "-chardev",
            "pty,id=hvc-nr1",
            "-device",
            "virtconsole,chardev=hvc-nr1,id=aa,nr=4",
            "-chardev",
            "pty,id=agent",
            "-device",
            "virtserialport,chardev=agent,name=org.x",
            "-chardev",
            "pty,id=monitor",
            "-mon",
            "chardev=monitor,mode=readline",
            "-chardev",
            "pty,id=second,mux=on",
            "-device",
            "isa-serial,chardev=second,index=1",
            "-mon",
            "chardev=second",
            "-chardev",
            &socket,
            "-device",
            "isa-serial,chardev=first,id=z,index=0",
            "-chardev",
            "null,id=serial9",
            "-chardev",
            "pty,id=unused",
        ],
    );
    let now = host.until(|now| !now.vms.is_empty()).await;
    let vm = now.vms.values().next().unwrap();
    assert_eq!(vm.name.as_ref(), "a", "after its socket");
    let consoles = listed(vm);
    let names: Vec<_> = consoles
        .iter()
        .map(|it| (it.0.as_str(), it.1, it.2.as_str()))
        .collect();
    let expected = [
        ("serial0", ConsoleKind::Serial, "unix"),
        ("serial1", ConsoleKind::Serial, "mux"),
        ("serial2", ConsoleKind::Serial, "pty"),
        ("console0", ConsoleKind::Virtio, "pty"),
        ("console1", ConsoleKind::Virtio, "pty"),
    ];
    assert_eq!(names, expected);
    assert_eq!(consoles[0].3, Source::Direct(Direct::Unix(unix)));
    let Source::Unserved(why) = &consoles[1].3 else {
        panic!("{consoles:?}");
    };
    assert!(why.contains("its monitor"), "{why}");
    assert!(consoles[2..].iter().all(|it| is_pty(&it.3)), "{consoles:?}");
}
