//! What is done to a VM beside typing, by a running agent and on a guest that shows it: on a
//! QEMU without libvirt by the API, and on a libvirt domain by `vmconsolectl`.

mod command_line;
pub(crate) mod picture;

use serde_json::json;
use tonic::Status;
use vmconsole_proto::v1;
use vmconsole_proto::v1::SideEffectKind;
use vmconsole_proto::v1::capture_screenshot_response::Part;
use vmconsole_proto::v1::stream_console_response::Message;
use vmconsole_tests::client::{Client, ReceiveHalf, open};
use vmconsole_tests::pki::PROXY_NAME;
use vmconsole_tests::qemu::{Boot, Chardev, Qemu, QemuOptions, SERIAL0};
use vmconsole_tests::scrape::Scrape;

use self::picture::Picture;
use crate::host::{BOUND, QemuHost, reason, run};

/// What a guest's kernel says when it is asked for help.
const HELP: &str = "sysrq: HELP";
/// What a guest's kernel says of an interrupt that nothing of it caused.
const NMI: &str = "NMI received for unknown reason";
/// What a guest's kernel begins with.
const BOOTS: &str = "Linux version";

/// The text of the guest's, and the announcement of the side effect behind it, in either order.
async fn notices(receive: &mut ReceiveHalf, text: &str, kind: SideEffectKind) {
    let (mut said, mut told) = (Vec::new(), None);
    let both = |message| {
        match message {
            Message::Output(output) => said.extend_from_slice(&output.data),
            Message::SideEffect(effect) if effect.kind() == kind => told = Some(effect),
            _ => {}
        }
        let said = String::from_utf8_lossy(&said).contains(text);
        told.clone().filter(|_| said)
    };
    let what = format!("{kind:?} and {text:?}");
    let effect = receive.wait_for(&what, BOUND, both).await;
    assert_eq!(effect.by.unwrap().proxy, PROXY_NAME);
    assert!(effect.time.is_some());
}

fn vm(name: &str) -> Option<v1::VmRef> {
    let vm = Some(v1::vm_ref::Vm::Name(name.to_owned()));
    Some(v1::VmRef { vm })
}

async fn send_break(client: &Client, name: &str, alias: &str, then: &str) -> Result<(), Status> {
    let mut console = open(name, v1::Mode::View).console.unwrap();
    alias.clone_into(&mut console.alias);
    let request = v1::SendBreakRequest {
        console: Some(console),
        character: then.as_bytes().to_vec(),
    };
    client.service().send_break(request).await.map(drop)
}

async fn press(client: &Client, name: &str, keys: &[&str]) -> Result<(), Status> {
    let request = v1::SendKeysRequest {
        vm: vm(name),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        hold: None,
    };
    client.service().send_keys(request).await.map(drop)
}

pub(crate) async fn inject_nmi(client: &Client, name: &str) -> Result<(), Status> {
    let request = v1::InjectNmiRequest { vm: vm(name) };
    client.service().inject_nmi(request).await.map(drop)
}

/// The PNG, which is as long as its beginning says and in pieces no larger than allowed.
pub(crate) async fn screenshot(client: &Client, name: &str) -> Result<Vec<u8>, Status> {
    let request = v1::CaptureScreenshotRequest {
        vm: vm(name),
        screen: 0,
    };
    let mut parts = client
        .service()
        .capture_screenshot(request)
        .await?
        .into_inner();
    let first = parts.message().await?.and_then(|first| first.part);
    let Some(Part::Info(info)) = first else {
        panic!("{first:?}")
    };
    let mut png = Vec::new();
    while let Some(next) = parts.message().await? {
        let Some(Part::Data(data)) = next.part else {
            panic!("{next:?}")
        };
        assert!((1..=65536).contains(&data.len()), "{}", data.len());
        png.extend_from_slice(&data);
    }
    assert_eq!(png.len() as u64, info.size);
    assert_eq!(Picture::of_png(&png).size, (info.width, info.height));
    Ok(png)
}

/// The screen as QEMU itself writes it to a file, by the test's own monitor.
fn screendump(host: &QemuHost, guest: &mut Qemu) -> Picture {
    let file = host.dir.consoles().join("screen.ppm");
    guest
        .monitor()
        .run("screendump", &json!({ "filename": file }));
    Picture::of_ppm(&std::fs::read(file).unwrap())
}

/// How many commands the agent has given to QEMUs.
async fn commands(host: &QemuHost) -> f64 {
    let scrape = Scrape::take(host.agent.http()).await.unwrap();
    scrape.sum("vmconsole_qemu_commands_total", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_qemu_without_libvirt_each_shows_in_the_guest_and_is_told_to_other_viewers() {
    let host = QemuHost::start();
    let mut options = QemuOptions::named("effects");
    options.vga = true;
    let mut guest = host.guest(options);
    let name = guest.name().to_owned();
    let client = host.client().await;
    let mut writer = host.shell(&client, &name).await;
    let (send, receive) = (&mut writer.send, &mut writer.receive);
    run(send, receive, "dmesg -n 8").await;
    let mut viewer = host.attach(&client, open(&name, v1::Mode::View)).await;
    let generation = viewer.receive.position().generation;

    // By the monitor: with its character, and alone before one that the writer types.
    send_break(&client, &name, SERIAL0, "h").await.unwrap();
    notices(&mut viewer.receive, HELP, SideEffectKind::Break).await;
    notices(receive, HELP, SideEffectKind::Break).await;
    send_break(&client, &name, SERIAL0, "").await.unwrap();
    send.type_bytes("h").await;
    notices(&mut viewer.receive, HELP, SideEffectKind::Break).await;

    inject_nmi(&client, &name).await.unwrap();
    notices(&mut viewer.receive, NMI, SideEffectKind::Nmi).await;

    let shown = screenshot(&client, &name).await.unwrap();
    notices(&mut viewer.receive, "", SideEffectKind::Screenshot).await;
    let shown = Picture::of_png(&shown);
    shown.has_text();
    let difference = shown.difference(&screendump(&host, &mut guest));
    println!("{difference} of the picture is not as QEMU's own");
    assert!(difference < 0.01, "{difference}");

    let keys = ["ctrl", "alt", "delete"];
    press(&client, &name, &keys).await.unwrap();
    notices(&mut viewer.receive, BOOTS, SideEffectKind::Keys).await;
    viewer.receive.read_until(b"login: ", BOUND).await;
    assert_eq!(viewer.receive.position().generation, generation);
    assert_eq!(viewer.receive.lost(), []);
    for attached in [writer, viewer] {
        attached.detach(BOUND).await;
    }
    refused_when_off(&host, &client, guest).await;
    host.settled().await;
}

/// By the endpoint itself: the monitor is not asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_telnet_port_carries_a_break() {
    let host = QemuHost::start();
    let mut options = QemuOptions::named("telnet");
    options.serial0 = Some(Chardev::Telnet);
    let guest = host.guest(options);
    let name = guest.name();
    let client = host.client().await;
    let mut writer = host.shell(&client, name).await;
    let (send, receive) = (&mut writer.send, &mut writer.receive);
    run(send, receive, "dmesg -n 8").await;
    let before = commands(&host).await;
    send_break(&client, name, SERIAL0, "h").await.unwrap();
    notices(receive, HELP, SideEffectKind::Break).await;
    send_break(&client, name, SERIAL0, "").await.unwrap();
    send.type_bytes("h").await;
    notices(receive, HELP, SideEffectKind::Break).await;
    assert_eq!(commands(&host).await, before);
    writer.detach(BOUND).await;
    host.settled().await;
}

async fn refused_when_off(host: &QemuHost, client: &Client, mut guest: Qemu) {
    guest.kill();
    let name = guest.name();
    let off = |state: &v1::ConsoleState| state.vm_state() == v1::VmState::Off;
    client.shows((name, SERIAL0), BOUND, off).await;
    for refused in [
        send_break(client, name, SERIAL0, "h").await,
        press(client, name, &["a"]).await,
        inject_nmi(client, name).await,
        screenshot(client, name).await.map(drop),
    ] {
        let status = refused.unwrap_err();
        assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}");
        assert_eq!(reason(&status), "NOT_RUNNING");
    }

    let mut blind = QemuOptions::named("blind");
    blind.boot = Boot::Nothing;
    let blind = host.guest(blind);
    host.attach(client, open(blind.name(), v1::Mode::View))
        .await
        .detach(BOUND)
        .await;
    let status = screenshot(client, blind.name()).await.unwrap_err();
    assert_eq!(reason(&status), "UNSUPPORTED", "{status:?}");
}
