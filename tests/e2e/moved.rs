//! A guest goes live from one QEMU to another, each on a host of its own with an agent of its
//! own: who watches is told where to, and goes on there.

use serde_json::json;
use vmconsole_proto::v1;
use vmconsole_proto::v1::session_service_client::SessionServiceClient;
use vmconsole_proto::v1::stream_console_response::Message;
use vmconsole_tests::client::open;
use vmconsole_tests::qemu::{Qemu, QemuOptions};

use crate::host::{BOUND, QemuHost, reason, run, tail};

const NAME: &str = "traveller";
const UUID: &str = "6f4a3f0e-8d6c-4f3a-9d5e-2b7f0a1c9e55";

fn options() -> QemuOptions {
    let mut options = QemuOptions::named(NAME);
    options.uuid = Some(UUID.to_owned());
    options
}

/// A QEMU that waits for the guest, and where.
fn destination(host: &QemuHost) -> (Qemu, String) {
    let socket = host.dir.consoles().join("incoming");
    let from = format!("unix:{}", socket.display());
    let mut waiting = options();
    waiting.incoming = Some(from.clone());
    (host.guest(waiting), from)
}

async fn announce(host: &QemuHost, to: &str) -> u32 {
    let mut service = SessionServiceClient::new(host.channel().await);
    let vm = v1::VmRef {
        vm: Some(v1::vm_ref::Vm::Uuid(UUID.to_owned())),
    };
    let request = v1::AnnounceMoveRequest {
        vm: Some(vm),
        host: to.to_owned(),
    };
    let told = service.announce_move(request).await.unwrap();
    told.into_inner().sessions
}

fn moved(message: Message) -> Option<String> {
    match message {
        Message::Moved(moved) => Some(moved.host),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_a_guest_that_goes_live_to_another_host_goes_on_there() {
    let (here, there) = (QemuHost::start(), QemuHost::start());
    let mut guest = here.guest(options());
    let client = here.client().await;
    let mut viewer = here.shell(&client, NAME).await;
    let said = run(&mut viewer.send, &mut viewer.receive, "word=carried").await;
    assert!(!said.contains("not found"), "{said}");

    let (_waiting, from) = destination(&there);
    let far_client = there.client().await;
    let mut request = open(NAME, v1::Mode::WriteIfFree);
    request.start = tail(1 << 20);
    let mut far = there.attach(&far_client, request).await;

    guest.monitor().run("migrate", &json!({ "uri": from }));
    let told = viewer.receive.wait_for("Moved", BOUND, moved).await;
    assert_eq!(told, "", "nobody announced where to yet");
    assert_eq!(announce(&here, "there:2223").await, 1);
    let told = viewer.receive.wait_for("Moved", BOUND, moved).await;
    assert_eq!(told, "there:2223");
    let (closed, status) = viewer.receive.closed(BOUND).await;
    assert_eq!(closed.reason(), v1::Reason::Moved);
    assert!(closed.retryable);
    assert_eq!(status.map(|it| it.code()), Some(tonic::Code::Unavailable));
    let refused = client.attach(open(NAME, v1::Mode::View)).await.unwrap_err();
    assert_eq!(reason(&refused), "MOVED");
    assert!(refused.message().contains("there:2223"), "{refused:?}");

    // The shell is the one that it was.
    let said = run(&mut far.send, &mut far.receive, "echo $word on").await;
    assert!(said.contains("carried on"), "{said}");
    far.detach(BOUND).await;
    guest.kill();
    here.settled().await;
    there.settled().await;
}
