//! The ways to a domain's VNC display.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use vmconsole_agent::core::id::{Alias, ConsoleId, VmUuid};
use vmconsole_agent::endpoint::{
    DisplayAccess, DisplayLine, DisplayStream, EndpointError, EndpointKind, Reach,
};
use vmconsole_agent::hypervisor::{Hypervisor, VmState};
use vmconsole_tests::guest::{GuestOptions, VNC0, Vnc, VncListen};
use vmconsole_tests::rfb::V3_8;
use vmconsole_tests::wait;

use super::{BOUND, Rig, connect_by, runs};

/// Security types of RFB 3.8.
const NONE: u8 = 1;
const VNC_PASSWORD: u8 = 2;

fn console(vm: VmUuid, alias: &str) -> ConsoleId {
    let alias = Alias::new(alias).unwrap();
    ConsoleId { vm, alias }
}

/// A guest with a display that has a password.
fn with_display(name: &str, listen: VncListen) -> GuestOptions {
    let password = Some("s3cret".to_owned());
    let mut options = GuestOptions::named(name);
    options.vnc = Some(Vnc { listen, password });
    options
}

async fn open(by: &impl Hypervisor, display: &ConsoleId) -> Result<DisplayLine, EndpointError> {
    timeout(BOUND, by.open_display(display)).await.unwrap()
}

/// The security types that are offered to a client of 3.8.
async fn offered(stream: &mut DisplayStream) -> Vec<u8> {
    let offer = async {
        let mut version = [0; V3_8.len()];
        stream.read_exact(&mut version).await.unwrap();
        assert_eq!(&version, V3_8);
        stream.write_all(V3_8).await.unwrap();
        let mut types = vec![0; usize::from(stream.read_u8().await.unwrap())];
        stream.read_exact(&mut types).await.unwrap();
        types
    };
    timeout(BOUND, offer).await.unwrap()
}

async fn by_descriptor(listen: VncListen) {
    let rig = Rig::start();
    let (guest, vm) = rig.guest(with_display("display", listen), "").await;
    let display = console(vm, VNC0);
    for _ in 0..2 {
        let mut line = open(&*rig.hypervisor, &display).await.unwrap();
        assert_eq!(line.way, EndpointKind::GraphicsFd);
        assert_eq!(line.access, DisplayAccess::Granted);
        assert_eq!(offered(&mut line.stream).await, [NONE], "no password");
    }
    let none = open(&*rig.hypervisor, &console(vm, "vnc1")).await;
    assert!(matches!(none, Err(EndpointError::NotFound(_))), "{none:?}");
    let serial = open(&*rig.hypervisor, &console(vm, "serial0")).await;
    let is_unsupported = matches!(serial, Err(EndpointError::Unsupported(_)));
    assert!(is_unsupported, "{serial:?}");

    guest.destroy();
    // Whether the news are there yet or not.
    let off = open(&*rig.hypervisor, &display).await;
    assert_eq!(off.unwrap_err(), EndpointError::NotRunning);
    let mut inventory = rig.hypervisor.inventory();
    let off = inventory.wait_for(|now| now.vms.get(&vm).is_some_and(|vm| vm.state == VmState::Off));
    timeout(BOUND, off).await.unwrap().unwrap();
    let off = open(&*rig.hypervisor, &display).await;
    assert_eq!(off.unwrap_err(), EndpointError::NotRunning);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn libvirtd_hands_over_a_display_that_listens_nowhere() {
    by_descriptor(VncListen::Nowhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn libvirtd_hands_over_a_display_that_listens_on_tcp() {
    by_descriptor(VncListen::Address).await;
}

/// Another client, which reaches displays by where they listen alone.
async fn by_its_listener(listen: VncListen, kind: EndpointKind, access: DisplayAccess) {
    let rig = Rig::start();
    let (_guest, vm) = rig.guest(with_display("display", listen), "").await;
    let display = console(vm, VNC0);
    let listening = connect_by(&rig.libvirtd, &rig.tasks, |config| {
        config.reach = vec![Reach::Unix, Reach::Tcp];
    });
    runs(&listening, vm).await;
    let mut line = open(&*listening, &display).await.unwrap();
    assert_eq!((line.way, &line.access), (kind, &access));
    assert_eq!(offered(&mut line.stream).await, [VNC_PASSWORD]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_socket_asks_for_the_password() {
    let access = DisplayAccess::AsAsked { host: None };
    by_its_listener(VncListen::Socket, EndpointKind::UnixSocket, access).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_port_asks_for_the_password() {
    let host = Some("127.0.0.1".to_owned());
    let access = DisplayAccess::AsAsked { host };
    by_its_listener(VncListen::Address, EndpointKind::TcpSocket, access).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_connection_is_denied_a_descriptor_and_goes_on_to_the_socket() {
    let rig = Rig::start();
    let (_guest, vm) = rig
        .guest(with_display("display", VncListen::Socket), "")
        .await;
    let display = console(vm, VNC0);
    let read_only = rig
        .libvirtd
        .uri()
        .replace("libvirt-sock", "libvirt-sock-ro");
    let by = |reach: &[Reach]| {
        connect_by(&rig.libvirtd, &rig.tasks, |config| {
            config.uri.clone_from(&read_only);
            config.reach = reach.to_vec();
        })
    };
    let only = by(&[Reach::Descriptor]);
    runs(&only, vm).await;
    let denied = open(&*only, &display).await.unwrap_err();
    let is_denied = matches!(&denied, EndpointError::Denied(why) if why.contains("read only"));
    assert!(is_denied, "{denied:?}");
    let all = by(&Reach::ALL);
    runs(&all, vm).await;
    let line = open(&*all, &display).await.unwrap();
    assert_eq!(line.way, EndpointKind::UnixSocket);
    rig.stop().await;
}

/// Whether the display has viewers, as its QEMU sees it.
fn has_viewers(rig: &Rig, vm: &str) -> bool {
    let ask = r#"{"execute": "query-vnc-servers"}"#;
    let told = rig.libvirtd.virsh(&["qemu-monitor-command", vm, ask]);
    let told: serde_json::Value = serde_json::from_str(&told.unwrap()).unwrap();
    let viewers = told["return"][0]["clients"].as_array();
    !viewers.expect("it has a display").is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn openings_that_are_given_up_leave_no_connection_behind() {
    let rig = Rig::start();
    let options = with_display("display", VncListen::Nowhere);
    let (guest, vm) = rig.guest(options, "").await;
    let display = console(vm, VNC0);
    let line = open(&*rig.hypervisor, &display).await.unwrap();
    assert!(has_viewers(&rig, guest.name()));
    for wait in 0..40 {
        let wait = Duration::from_micros(250 * wait);
        let _ = timeout(wait, rig.hypervisor.open_display(&display)).await;
    }
    // Calls for one VM go one after the other: with this one, those before are over.
    drop(open(&*rig.hypervisor, &display).await.unwrap());
    drop(line);
    wait::until("QEMU to see that nobody views it", BOUND, || {
        !has_viewers(&rig, guest.name())
    });
    rig.stop().await;
}
