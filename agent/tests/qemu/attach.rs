//! Typing at a guest through each sort of endpoint that a QEMU without libvirt has. The guest is
//! a boot sector that greets with a `!` and says again what it hears on its first serial port.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::sync::Arc;

use tokio::sync::watch;
use vmconsole_agent::core::id::{Alias, ConsoleId};
use vmconsole_agent::endpoint::{Claim, EndpointEnd, EndpointError, EndpointKind, OutputSink};
use vmconsole_agent::hypervisor::{Hypervisor, VmState};

use super::host::{Host, Qemu, SOON, UUID, qmp, uuid};

/// 16-bit code, loaded by the BIOS: out(0x3f8, '!'); for ever: wait for bit 0 of in(0x3fd), then
/// out(0x3f8, in(0x3f8)).
const ECHO: [u8; 21] = [
    0xba, 0xf8, 0x03, 0xb0, b'!', 0xee, // greet
    0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb, // wait
    0xba, 0xf8, 0x03, 0xec, 0xee, 0xeb, 0xf1, // say it again, and wait
];

/// What was heard of a guest.
#[derive(Clone, Debug, Default)]
struct Heard {
    output: Vec<u8>,
    end: Option<EndpointEnd>,
}

struct Sink(watch::Sender<Heard>);

impl OutputSink for Sink {
    fn output(&self, bytes: &[u8]) {
        self.0
            .send_modify(|heard| heard.output.extend_from_slice(bytes));
    }

    fn ended(&self, end: EndpointEnd) {
        self.0.send_modify(|heard| heard.end = Some(end));
    }
}

async fn until(heard: &mut watch::Receiver<Heard>, wanted: impl Fn(&Heard) -> bool) -> Heard {
    let found = tokio::time::timeout(SOON, heard.wait_for(|heard| wanted(heard))).await;
    found.unwrap().unwrap().clone()
}

/// Boots a guest with this serial port, talks to it, and kills it.
async fn talk(serial: &str, kind: EndpointKind) {
    let host = Host::start();
    let at = |name: &str| host.root.path().join(name).display().to_string();
    let mut sector = [0; 512];
    sector[..ECHO.len()].copy_from_slice(&ECHO);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(at("disk"), sector).unwrap();
    let serial = serial.replace("ROOT", &host.root.path().display().to_string());
    let disk = format!("file={},format=raw,if=ide", at("disk"));
    let second = format!("unix:{},server=on,wait=off", at("second"));
    let arguments = [
        "-uuid", UUID, "-serial", &serial, "-drive", &disk, "-qmp", &second,
    ];
    let qemu = Qemu::start(&host.at("a"), &arguments);
    let found = host.until(|now| now.vms.contains_key(&uuid())).await;
    assert_eq!(found.vms[&uuid()].consoles[0].endpoint(), Some(kind));

    let id = ConsoleId {
        vm: uuid(),
        alias: Alias::new("serial0").unwrap(),
    };
    let endpoint = host.hypervisor.endpoint(&id);
    let (sink, mut heard) = watch::channel(Heard::default());
    let mut attachment = endpoint
        .attach(Arc::new(Sink(sink)), Claim::IfFree)
        .await
        .unwrap();
    qmp(&host.root.path().join("second"), "cont");
    until(&mut heard, |heard| heard.output.ends_with(b"!")).await;
    let mut typed: &[u8] = b"\xff\0hello\r\n";
    let expected = [b"!", typed].concat();
    while !typed.is_empty() {
        let taken = attachment.write(typed).await.unwrap();
        typed = &typed[taken..];
    }
    until(&mut heard, |heard| heard.output.ends_with(&expected)).await;

    qemu.kill();
    let end = until(&mut heard, |heard| heard.end.is_some()).await.end;
    // What a terminal's QEMU wrote last may be lost with it.
    let expected = match kind {
        EndpointKind::Pty => EndpointEnd::HungUp,
        _ => EndpointEnd::Eof,
    };
    assert_eq!(end, Some(expected));
    host.until(|now| {
        now.vms
            .get(&uuid())
            .is_some_and(|vm| vm.state == VmState::Off)
    })
    .await;
    attachment.detach().await;
    let (sink, _) = watch::channel(Heard::default());
    let off = endpoint
        .attach(Arc::new(Sink(sink)), Claim::IfFree)
        .await
        .map(|_| ());
    assert_eq!(off, Err(EndpointError::NotRunning));
}

#[tokio::test]
async fn by_a_terminal() {
    talk("pty", EndpointKind::Pty).await;
}

#[tokio::test]
async fn by_a_unix_socket() {
    talk("unix:ROOT/s,server=on,wait=off", EndpointKind::UnixSocket).await;
}

#[tokio::test]
async fn by_a_tcp_port() {
    talk(
        "tcp:127.0.0.1:0,server=on,wait=off",
        EndpointKind::TcpSocket,
    )
    .await;
}

#[tokio::test]
async fn by_telnet() {
    talk(
        "telnet:127.0.0.1:0,server=on,wait=off",
        EndpointKind::TcpSocket,
    )
    .await;
}
