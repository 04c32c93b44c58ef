//! VNC displays in the list of consoles: beside the consoles, and not in their place.

use tonic::Code;
use vmconsole_proto::v1;
use vmconsole_proto::v1::EndpointKind::GraphicsFd;
use vmconsole_proto::v1::{Availability, ConsoleKind, FindingCode};
use vmconsole_tests::client::{Client, open};
use vmconsole_tests::guest::{Guest, GuestOptions, Serial, VNC0, Vnc, VncListen};
use vmconsole_tests::qemu::{self, Boot, QemuOptions};

use crate::host::{BOUND, Host, QemuHost};

/// A VM's consoles, once its display is in this state.
async fn listed(client: &Client, vm: &str, state: Availability) -> Vec<v1::Console> {
    let listing = async {
        loop {
            let mut consoles = client.list().await.unwrap();
            consoles.retain(|console| console.vm_name == vm);
            let display = consoles.iter().find(|console| console.alias == VNC0);
            let found = display.and_then(|display| display.state.as_ref());
            if found.is_some_and(|found| found.availability() == state) {
                return consoles;
            }
        }
    };
    let found = tokio::time::timeout(BOUND, listing).await;
    found.unwrap_or_else(|_| panic!("the display of {vm} is not {state:?}"))
}

/// The aliases of consoles of which the last is a display, reached by descriptor.
fn with_display(consoles: &[v1::Console]) -> Vec<&str> {
    let last = consoles.last().unwrap();
    assert_eq!(last.kind(), ConsoleKind::Vnc, "{last:?}");
    assert_eq!(last.endpoint(), GraphicsFd, "{last:?}");
    consoles.iter().map(|it| it.alias.as_str()).collect()
}

async fn diagnosed(client: &Client, vm: &str, alias: &str) -> v1::Finding {
    let mut console = open(vm, v1::Mode::View).console;
    alias.clone_into(&mut console.as_mut().unwrap().alias);
    let request = v1::DiagnoseConsoleRequest { console };
    let answer = client.service().diagnose_console(request).await.unwrap();
    answer.into_inner().findings.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_libvirt_a_display_is_listed_whether_its_vm_runs_or_not() {
    let host = Host::start();
    let client = host.client().await;
    for (name, listen) in [
        ("nowhere", VncListen::Nowhere),
        ("socket", VncListen::Socket),
        ("address", VncListen::Address),
    ] {
        let mut options = GuestOptions::named(name);
        (options.second_serial, options.virtio_console) = (false, false);
        let password = None;
        options.vnc = Some(Vnc { listen, password });
        let guest = Guest::define(&host.libvirtd, options);
        let off = listed(&client, name, Availability::Waiting).await;
        assert_eq!(with_display(&off), ["serial0", VNC0]);
        guest.start();
        let running = listed(&client, name, Availability::Ready).await;
        assert_eq!(with_display(&running), ["serial0", VNC0]);
        let finding = diagnosed(&client, name, VNC0).await;
        assert_eq!(finding.code(), FindingCode::NotCaptured, "{finding:?}");
        assert!(finding.evidence.contains("a descriptor from libvirt"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_with_a_display_alone_has_no_console_that_is_meant() {
    let host = Host::start();
    let client = host.client().await;
    let mut options = GuestOptions::named("mute");
    options.serial = Serial::None;
    (options.second_serial, options.virtio_console) = (false, false);
    let (listen, password) = (VncListen::Nowhere, None);
    options.vnc = Some(Vnc { listen, password });
    let guest = Guest::define_and_start(&host.libvirtd, options);
    let consoles = listed(&client, guest.name(), Availability::Ready).await;
    assert_eq!(with_display(&consoles), [VNC0]);
    let refused = client.attach(open(guest.name(), v1::Mode::View)).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    let finding = diagnosed(&client, guest.name(), "").await;
    assert_eq!(finding.code(), FindingCode::NoConsoleDevice, "{finding:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_libvirt_a_display_is_listed_too() {
    let host = QemuHost::start();
    let client = host.client().await;
    let mut options = QemuOptions::named("screen");
    (options.vga, options.vnc) = (true, Some(qemu::Vnc::Unix));
    options.boot = Boot::Nothing;
    let guest = host.guest(options);
    let consoles = listed(&client, guest.name(), Availability::Ready).await;
    assert_eq!(with_display(&consoles), ["serial0", VNC0]);
}
