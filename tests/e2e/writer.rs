//! One writes: the second is refused and told by whom, or takes over and tells.

use tonic::Code;
use tonic_types::StatusExt as _;
use vmconsole_proto::v1;
use vmconsole_proto::v1::stream_console_response::Message;
use vmconsole_tests::client::open;
use vmconsole_tests::pki::PROXY_NAME;

use crate::host::{BOUND, Host, run};

#[tokio::test(flavor = "multi_thread")]
async fn the_second_writer_is_refused_and_a_takeover_tells_the_first_by_whom() {
    let host = Host::start();
    let guest = host.guest("writers");
    let client = host.client().await;
    let mut first = host.shell(&client, guest.name()).await;

    let refused = client
        .attach(open(guest.name(), v1::Mode::WriteIfFree))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let info = refused.get_details_error_info().unwrap();
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        ("LEASE_HELD", "vmconsole")
    );
    assert_eq!(info.metadata["holder_session"], first.opened.session_id);
    assert_eq!(info.metadata["holder_proxy"], PROXY_NAME);

    let mut request = open(guest.name(), v1::Mode::WriteIfFree);
    request.view_otherwise = true;
    let viewer = client.attach(request).await.unwrap();
    assert_eq!(viewer.opened.mode(), v1::Mode::View);
    let roster = viewer.opened.roster.clone().unwrap();
    let writers: Vec<_> = roster.participants.iter().filter(|p| p.writer).collect();
    assert_eq!(writers.len(), 1);
    assert_eq!(writers[0].session_id, first.opened.session_id);

    let mut request = open(guest.name(), v1::Mode::WriteTakeover);
    request.takeover_reason = "the night shift".to_owned();
    let mut second = client.attach(request).await.unwrap();
    assert_eq!(second.opened.mode(), v1::Mode::WriteTakeover);
    assert!(second.opened.write_epoch > first.opened.write_epoch);
    let changed = |message| match message {
        Message::WriterChanged(changed) => Some(changed),
        _ => None,
    };
    let told = first
        .receive
        .wait_for("WriterChanged", BOUND, changed)
        .await;
    assert_eq!(
        told.writer.clone().unwrap().session_id,
        second.opened.session_id
    );
    assert_eq!(told.reason(), v1::Reason::TakenOver);
    assert_eq!(told.takeover_reason, "the night shift");
    assert!(!told.you_write);

    first.send.type_bytes("echo not''mine\n").await;
    let refused = |message| match message {
        Message::InputRefused(refused) => Some(refused),
        _ => None,
    };
    let offset = first.send.offset();
    let told = first.receive.wait_for("InputRefused", BOUND, refused).await;
    assert_eq!((told.to, told.reason()), (offset, v1::Reason::TakenOver));
    let seen = run(&mut second.send, &mut second.receive, "echo mi''ne").await;
    assert!(
        seen.contains("mine\r\n") && !seen.contains("notmine"),
        "{seen:?}"
    );

    for attached in [first, second, viewer] {
        attached.detach(BOUND).await;
    }
    let consoles = host.client().await.list().await.unwrap();
    assert!(
        consoles.iter().all(|console| console.writer.is_none()),
        "the lease is free"
    );
    host.settled().await;
}
