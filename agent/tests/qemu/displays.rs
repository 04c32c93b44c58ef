//! VNC displays of real QEMUs: which there are, and what is at the end of each way to one.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test ends by panicking"
)]

use std::net::TcpListener;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use vmconsole_agent::core::id::{Alias, ConsoleId};
use vmconsole_agent::endpoint::{
    Claim, DisplayAccess, DisplayLine, DisplayStream, EndpointEnd, EndpointError, EndpointKind,
    OutputSink, Reach, Source,
};
use vmconsole_agent::hypervisor::{ConsoleKind, EffectError, Hypervisor, Vm, VmState};

use super::host::{Host, Qemu, SOON, UUID, uuid};

/// The version that QEMU begins with.
const VERSION: &[u8; 12] = b"RFB 003.008\n";
/// Security types of RFB 3.8.
const NONE: u8 = 1;
const VNC_PASSWORD: u8 = 2;

fn console(alias: &str) -> ConsoleId {
    ConsoleId {
        vm: uuid(),
        alias: Alias::new(alias).unwrap(),
    }
}

/// A display's number and a port for it that was free a moment ago.
fn free() -> (u16, u16) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // QEMU counts displays from 5900 on.
        if let Some(display) = port.checked_sub(5900) {
            return (display, port);
        }
    }
}

/// The displays that a VM is listed with: alias, and the ways to each.
fn displays(vm: &Vm) -> Vec<String> {
    let displays = vm.consoles.iter().filter(|it| it.kind == ConsoleKind::Vnc);
    let shown = displays.map(|device| match &device.source {
        Source::Display(display) => format!("{}: {display}", device.alias),
        Source::Unserved(_) => format!("{}: not served", device.alias),
        other => panic!("{other:?}"),
    });
    shown.collect()
}

/// Starts a QEMU with these displays and tells how they are listed.
async fn started(host: &Host, vnc: &[&str]) -> (Qemu, Vec<String>) {
    let mut arguments = vec!["-uuid", UUID, "-vga", "std"];
    arguments.extend(vnc.iter().flat_map(|it| ["-vnc", it]));
    let qemu = Qemu::start(&host.at("a"), &arguments);
    let found = host.until(|now| now.vms.contains_key(&uuid())).await;
    let listed = displays(&found.vms[&uuid()]);
    (qemu, listed)
}

async fn open(host: &Host, alias: &str) -> Result<DisplayLine, EndpointError> {
    let display = console(alias);
    let opening = host.hypervisor.open_display(&display);
    timeout(SOON, opening).await.unwrap()
}

/// The security types that are offered to a client of 3.8.
async fn offered(stream: &mut DisplayStream) -> Vec<u8> {
    let offer = async {
        let mut version = [0; VERSION.len()];
        stream.read_exact(&mut version).await.unwrap();
        assert_eq!(&version, VERSION);
        stream.write_all(VERSION).await.unwrap();
        let mut types = vec![0; usize::from(stream.read_u8().await.unwrap())];
        stream.read_exact(&mut types).await.unwrap();
        types
    };
    timeout(SOON, offer).await.unwrap()
}

#[tokio::test]
async fn by_the_monitor_nothing_is_asked_though_a_password_is_set() {
    let host = Host::start();
    let (display, port) = free();
    let vnc = format!("127.0.0.1:{display},password=on");
    let (_qemu, listed) = started(&host, &[&vnc]).await;
    let expected = format!("vnc0: QEMU's monitor, then tcp 127.0.0.1 port {port}");
    assert_eq!(listed, [expected]);
    for _ in 0..3 {
        let mut line = open(&host, "vnc0").await.unwrap();
        assert_eq!(line.way, EndpointKind::GraphicsFd);
        assert_eq!(line.access, DisplayAccess::Granted);
        assert_eq!(offered(&mut line.stream).await, [NONE]);
    }
}

#[tokio::test]
async fn several_lines_to_one_display_are_open_at_a_time() {
    let host = Host::start();
    let (_qemu, listed) = started(&host, &["none"]).await;
    assert_eq!(listed, ["vnc0: QEMU's monitor"]);
    let (mut one, mut other) = (
        open(&host, "vnc0").await.unwrap(),
        open(&host, "vnc0").await.unwrap(),
    );
    assert_eq!(offered(&mut one.stream).await, [NONE]);
    assert_eq!(offered(&mut other.stream).await, [NONE]);
    drop(one);
    other.stream.write_all(&[NONE]).await.unwrap();
    let result = timeout(SOON, other.stream.read_u32()).await.unwrap();
    assert_eq!(result.unwrap(), 0, "it lives on");
}

#[tokio::test]
async fn by_the_socket_it_is_as_the_display_asks() {
    let host = Host::reaching(&[Reach::Unix, Reach::Tcp]);
    let socket = host.root.path().join("vnc");
    let vnc = format!("unix:{},password=on", socket.display());
    let (_qemu, listed) = started(&host, &[&vnc]).await;
    assert_eq!(listed, [format!("vnc0: socket {}", socket.display())]);
    let (mut one, mut other) = (
        open(&host, "vnc0").await.unwrap(),
        open(&host, "vnc0").await.unwrap(),
    );
    for line in [&mut one, &mut other] {
        assert_eq!(line.way, EndpointKind::UnixSocket);
        assert_eq!(line.access, DisplayAccess::AsAsked { host: None });
        assert_eq!(offered(&mut line.stream).await, [VNC_PASSWORD]);
    }
}

#[tokio::test]
async fn by_the_port_it_is_as_the_display_asks() {
    let host = Host::reaching(&[Reach::Tcp, Reach::Descriptor]);
    let (display, port) = free();
    let (_qemu, listed) = started(&host, &[&format!("127.0.0.1:{display}")]).await;
    let expected = format!("vnc0: tcp 127.0.0.1 port {port}, then QEMU's monitor");
    assert_eq!(listed, [expected]);
    let mut line = open(&host, "vnc0").await.unwrap();
    assert_eq!(line.way, EndpointKind::TcpSocket);
    let expected = Some("127.0.0.1".to_owned());
    assert_eq!(line.access, DisplayAccess::AsAsked { host: expected });
    assert_eq!(offered(&mut line.stream).await, [NONE]);
}

#[tokio::test]
async fn a_way_that_fails_is_passed_over() {
    let host = Host::reaching(&[Reach::Unix, Reach::Descriptor]);
    let outside = tempfile::tempdir().unwrap();
    let socket = outside.path().join("vnc");
    let (_qemu, _) = started(&host, &[&format!("unix:{}", socket.display())]).await;
    let line = open(&host, "vnc0").await.unwrap();
    assert_eq!(
        line.way,
        EndpointKind::GraphicsFd,
        "its socket is not allowed"
    );
}

#[tokio::test]
async fn of_two_displays_the_monitor_reaches_the_first() {
    let host = Host::start();
    let socket = host.root.path().join("second");
    let first = "none,id=z,password=on";
    let second = format!("unix:{},id=a,password=on", socket.display());
    let (_qemu, listed) = started(&host, &[first, &second]).await;
    let expected = [
        "vnc0: QEMU's monitor".to_owned(),
        format!("vnc1: socket {}", socket.display()),
    ];
    assert_eq!(listed, expected);
    let mut line = open(&host, "vnc0").await.unwrap();
    assert_eq!(offered(&mut line.stream).await, [NONE]);
    let mut line = open(&host, "vnc1").await.unwrap();
    assert_eq!(line.way, EndpointKind::UnixSocket);
    assert_eq!(offered(&mut line.stream).await, [VNC_PASSWORD]);
}

#[tokio::test]
async fn a_second_display_that_listens_nowhere_is_not_served() {
    let host = Host::start();
    let (_qemu, listed) = started(&host, &["none,id=a", "none,id=b"]).await;
    assert_eq!(listed, ["vnc0: QEMU's monitor", "vnc1: not served"]);
    let refused = open(&host, "vnc1").await.unwrap_err();
    let EndpointError::Unsupported(why) = &refused else {
        panic!("{refused:?}")
    };
    assert!(why.contains("listens nowhere"), "{why}");
}

#[tokio::test]
async fn without_a_display_there_is_none() {
    let host = Host::start();
    let (_qemu, listed) = started(&host, &[]).await;
    assert_eq!(listed, Vec::<String>::new());
    let refused = open(&host, "vnc0").await;
    assert!(
        matches!(refused, Err(EndpointError::NotFound(_))),
        "{refused:?}"
    );
}

struct Nowhere;

impl OutputSink for Nowhere {
    fn output(&self, _bytes: &[u8]) {}

    fn ended(&self, _end: EndpointEnd) {}
}

#[tokio::test]
async fn a_display_is_no_console_and_a_console_no_display() {
    let host = Host::start();
    let arguments = ["-uuid", UUID, "-vnc", "none", "-serial", "pty"];
    let qemu = Qemu::start(&host.at("a"), &arguments);
    host.until(|now| now.vms.contains_key(&uuid())).await;
    let endpoint = host.hypervisor.endpoint(&console("vnc0"));
    let sink = std::sync::Arc::new(Nowhere);
    let attached = endpoint.attach(sink, Claim::IfFree).await.map(|_| ());
    let Err(EndpointError::Unsupported(why)) = attached else {
        panic!("{attached:?}")
    };
    assert!(why.contains("RelayGraphics"), "{why}");
    let broken = host.hypervisor.send_break(&console("vnc0")).await;
    assert!(
        matches!(broken, Err(EffectError::Unsupported(_))),
        "{broken:?}"
    );
    let serial = open(&host, "serial0").await;
    assert!(
        matches!(serial, Err(EndpointError::Unsupported(_))),
        "{serial:?}"
    );

    qemu.kill();
    let off = |vm: &Vm| vm.state == VmState::Off;
    host.until(|now| now.vms.get(&uuid()).is_some_and(|vm| off(vm)))
        .await;
    let refused = open(&host, "vnc0").await;
    assert_eq!(refused.unwrap_err(), EndpointError::NotRunning);
}

/// How many descriptors of a process are open.
fn descriptors(process: u32) -> usize {
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    open.count()
}

#[tokio::test]
async fn lines_that_are_let_go_leave_nothing_behind_in_qemu() {
    let host = Host::start();
    let (qemu, _) = started(&host, &["none"]).await;
    drop(open(&host, "vnc0").await.unwrap());
    // QEMU closes its ends when it comes to look at them: at the latest before the next one is
    // answered.
    let mut line = open(&host, "vnc0").await.unwrap();
    offered(&mut line.stream).await;
    let before = descriptors(qemu.process());
    for _ in 0..20 {
        line = open(&host, "vnc0").await.unwrap();
        offered(&mut line.stream).await;
        let now = descriptors(qemu.process());
        assert!(now <= before + 2, "{before} before, and {now} now");
    }
    // Given up at once: it may have been begun.
    for _ in 0..20 {
        let vnc0 = console("vnc0");
        let given_up = host.hypervisor.open_display(&vnc0);
        let _ = timeout(std::time::Duration::ZERO, given_up).await;
    }
    line = open(&host, "vnc0").await.unwrap();
    assert_eq!(offered(&mut line.stream).await, [NONE]);
    let now = descriptors(qemu.process());
    assert!(now <= before + 2, "{before} before, and {now} now");
}
