//! One display for each way to it, and each way of being let in.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::unistd::chown;
use vmconsole_proto::v1;
use vmconsole_proto::v1::relay_graphics_request::Message as Request;
use vmconsole_tests::agent::AgentOptions;
use vmconsole_tests::client::relay_open;
use vmconsole_tests::pki::Pki;
use vmconsole_tests::qemu::{QemuDir, Vnc};
use vmconsole_tests::user;

use super::{firmware, looks, ready, showing, writing};
use crate::host::{BOUND, QemuHost, reason};

pub(super) const PASSWORD: &str = "sesame";

/// A port that was free just now, as `-vnc` counts them.
pub(super) fn free_display() -> u16 {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    port.local_addr().unwrap().port() - 5900
}

/// A file that the agent's user alone can read.
pub(super) fn secret(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let user = user::lookup();
    chown(&path, Some(user.uid), Some(user.gid)).unwrap();
    path.display().to_string()
}

pub(super) fn graphics(config: String) -> impl FnOnce(&mut AgentOptions) {
    move |options| options.more = format!("[graphics]\n{config}")
}

/// Puts a display's certificates there, and returns the configuration of an agent that trusts them
/// and knows the password.
pub(super) fn certificates(at: &Path) -> String {
    let pki = Pki::new(at);
    let names = ["ca-cert.pem", "server-cert.pem", "server-key.pem"];
    let (certificate, key) = pki.agent_files();
    for (from, name) in [pki.ca_file(), certificate, key].into_iter().zip(names) {
        let text = std::fs::read_to_string(from).unwrap();
        secret(at, name, &text);
    }
    let file = secret(at, "password", PASSWORD);
    let ca = secret(at, "displays.pem", &pki.ca_pem());
    format!(
        "reach = [\"tcp\"]\nauthentication = [\"x509-none\", \"x509-vnc\"]\n\
         password_file = {file:?}\nca = {ca:?}\nexpected_name = {:?}",
        vmconsole_tests::pki::AGENT_NAME
    )
}

/// The screen of a guest that serves it so shows, through an agent of this configuration.
async fn shows(vnc: Vnc, config: String, endpoint: v1::EndpointKind) {
    let host = QemuHost::with(graphics(config));
    let guest = host.guest(firmware("shown", vnc));
    let client = host.client().await;
    let (mut relay, mut screen) = showing(&client, writing("shown")).await;
    let console = relay.opened.console.clone().unwrap();
    assert_eq!(
        (console.alias.as_str(), console.kind()),
        ("vnc0", v1::ConsoleKind::Vnc)
    );
    assert_eq!(console.endpoint(), endpoint);
    assert_eq!(relay.opened.mode(), v1::Mode::WriteIfFree);
    assert!(screen.name.contains(guest.name()), "{screen:?}");
    looks(&mut relay, &mut screen).await;
    relay.say(Request::Detach(v1::Detach {})).await;
    let (closed, status) = relay.closed(BOUND).await;
    assert_eq!(
        (closed.reason(), status.is_none()),
        (v1::Reason::ClientDetached, true)
    );
    host.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_display_that_listens_nowhere_is_reached_by_a_descriptor() {
    let config = "reach = [\"descriptor\"]".to_owned();
    shows(Vnc::Nowhere, config, v1::EndpointKind::GraphicsFd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_display_is_reached_by_its_socket() {
    let config = "reach = [\"unix\"]".to_owned();
    shows(Vnc::Unix, config, v1::EndpointKind::UnixSocket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_lets_the_agent_in() {
    let dir = QemuDir::new();
    let file = secret(&dir.consoles(), "password", &format!("{PASSWORD}\n"));
    let config = format!("reach = [\"tcp\"]\npassword_file = {file:?}");
    let vnc = Vnc::Password(free_display(), PASSWORD);
    shows(vnc, config, v1::EndpointKind::TcpSocket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_let_the_agent_in() {
    for password in [None, Some(PASSWORD)] {
        let dir = QemuDir::new();
        let config = certificates(&dir.consoles());
        let vnc = Vnc::X509(free_display(), dir.consoles(), password);
        shows(vnc, config, v1::EndpointKind::TcpSocket).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_taken_is_refused_and_told() {
    let dir = QemuDir::new();
    let file = secret(&dir.consoles(), "password", "wrong");
    let config = format!("reach = [\"tcp\"]\npassword_file = {file:?}");
    let host = QemuHost::with(graphics(config));
    let _guest = host.guest(firmware("guarded", Vnc::Password(free_display(), PASSWORD)));
    let client = host.client().await;
    ready(&client, "guarded").await;
    let refused = client.relay(relay_open("guarded", v1::Mode::View)).await;
    let refused = refused.unwrap_err();
    assert_eq!(reason(&refused), "DENIED", "{refused:?}");
    let denied = |state: &v1::ConsoleState| state.availability() == v1::Availability::Denied;
    let told = client.shows(("guarded", "vnc0"), BOUND, denied).await;
    assert!(told.detail.contains("authentication"), "{told:?}");
    let request = v1::DiagnoseConsoleRequest {
        console: writing("guarded").console.map(|console| v1::ConsoleRef {
            alias: "vnc0".to_owned(),
            ..console
        }),
    };
    let diagnosed = client.service().diagnose_console(request).await.unwrap();
    let first = diagnosed.into_inner().findings.remove(0);
    assert!(
        first.next_step.contains("graphics.password_file"),
        "{first:?}"
    );
}
