//! vncdotool before displays of every kind, by `vmconsolectl vnc`.

use vmconsole_proto::v1;
use vmconsole_tests::guest::{self, Guest, GuestOptions, VNC0, VncListen};
use vmconsole_tests::qemu::{QemuDir, Vnc};

use super::super::ways::{PASSWORD, certificates, free_display, graphics, secret};
use super::{Listening, Ordered, is_taken_over, only_watches, ready, with_screen, works};
use crate::host::{Host, QemuHost, Serving};

/// A vncdotool before this guest's display, by `vmconsolectl vnc` with further arguments.
async fn vncdotool(host: &Serving, guest: &str, more: &[&str]) -> (Listening, Ordered) {
    let args = ["vnc", guest, "--listen", "127.0.0.1:0"];
    let listening = Listening::start(host, guest, &[&args, more].concat()).await;
    let (ip, port) = listening.address.rsplit_once(':').unwrap();
    let viewer = Ordered::start("dotool.py", &[ip, port], false);
    (listening, viewer)
}

/// It works before a guest that runs, by this way to its display.
async fn works_by(host: &Serving, guest: &str, way: v1::EndpointKind) {
    ready(&host.client().await, guest).await;
    let consoles = host.client().await.list().await.unwrap();
    let display = consoles.iter().find(|console| console.alias == VNC0);
    assert_eq!(display.unwrap().endpoint(), way);
    let (listening, mut viewer) = vncdotool(host, guest, &[]).await;
    works(&mut viewer, host, guest, "vncdotool").await;
    viewer.closed();
    listening.interrupted();
    host.settled().await;
}

/// On a QEMU without libvirt, by an agent with this `[graphics]`.
async fn on_a_qemu(vnc: Vnc, config: String, way: v1::EndpointKind) {
    let host = QemuHost::with(graphics(config));
    let guest = host.guest(with_screen("dotool", vnc));
    works_by(&host, guest.name(), way).await;
}

/// On a libvirt domain, whose display has a password that the agent need not know.
async fn on_a_domain(listen: VncListen) {
    let host = Host::start();
    let mut options = GuestOptions::named("dotool");
    options.video = true;
    let password = Some(PASSWORD.to_owned());
    options.vnc = Some(guest::Vnc { listen, password });
    let guest = Guest::define_and_start(&host.libvirtd, options);
    works_by(&host, guest.name(), v1::EndpointKind::GraphicsFd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vncdotool_works_where_a_display_listens_nowhere() {
    let config = "reach = [\"descriptor\"]".to_owned();
    on_a_qemu(Vnc::Nowhere, config, v1::EndpointKind::GraphicsFd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vncdotool_works_by_a_unix_socket() {
    let config = "reach = [\"unix\"]".to_owned();
    on_a_qemu(Vnc::Unix, config, v1::EndpointKind::UnixSocket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vncdotool_works_by_tcp_with_a_password() {
    let dir = QemuDir::new();
    let file = secret(&dir.consoles(), "password", PASSWORD);
    let config = format!("reach = [\"tcp\"]\npassword_file = {file:?}");
    let vnc = Vnc::Password(free_display(), PASSWORD);
    on_a_qemu(vnc, config, v1::EndpointKind::TcpSocket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vncdotool_works_by_tcp_with_certificates() {
    let dir = QemuDir::new();
    let config = certificates(&dir.consoles());
    let vnc = Vnc::X509(free_display(), dir.consoles(), Some(PASSWORD));
    on_a_qemu(vnc, config, v1::EndpointKind::TcpSocket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vncdotool_works_on_a_domain_whose_display_listens_nowhere() {
    on_a_domain(VncListen::Nowhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vncdotool_works_on_a_domain_whose_display_has_a_socket() {
    on_a_domain(VncListen::Socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vncdotool_that_may_only_look_goes_on_looking() {
    let host = QemuHost::start();
    let guest = host.guest(with_screen("dotool", Vnc::Nowhere));
    let more = ["--view-only", "--no-clipboard"];
    let (listening, mut viewer) = vncdotool(&host, guest.name(), &more).await;
    only_watches(&mut viewer, &host, guest.name()).await;
    viewer.closed();
    listening.interrupted();
    host.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vncdotool_that_is_taken_over_goes_on_looking() {
    let host = QemuHost::start();
    let guest = host.guest(with_screen("dotool", Vnc::Nowhere));
    let (listening, mut viewer) = vncdotool(&host, guest.name(), &[]).await;
    is_taken_over(&mut viewer, &host, guest.name()).await;
    viewer.closed();
    listening.interrupted();
    host.settled().await;
}
