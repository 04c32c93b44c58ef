//! SIGTERM: every stream is told where to resume, and the agent ends well.

use nix::sys::signal::Signal;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;
use vmconsole_proto::v1;
use vmconsole_tests::client::open;

use crate::host::{BOUND, Host};

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_every_stream_with_where_to_resume() {
    let mut host = Host::start();
    let guest = host.guest("drained");
    let client = host.client().await;
    let mut writer = host
        .attach(&client, open(guest.name(), v1::Mode::WriteIfFree))
        .await;
    let mut watch = client.service();
    let mut watch = watch
        .watch_consoles(v1::WatchConsolesRequest::default())
        .await
        .unwrap();

    let mut health = HealthClient::new(host.channel().await);
    let request = HealthCheckRequest {
        service: "vmconsole.v1.ConsoleService".to_owned(),
    };
    let mut health = health.watch(request).await.unwrap().into_inner();
    let mut serving = async || health.message().await.unwrap().map(|told| told.status());
    assert_eq!(serving().await, Some(ServingStatus::Serving));

    host.agent.signal(Signal::SIGTERM);
    assert_eq!(serving().await, Some(ServingStatus::NotServing));
    assert_eq!(
        serving().await,
        None,
        "who watches health does not hold the agent up"
    );
    let (closed, status) = writer.receive.closed(BOUND).await;
    assert_eq!(closed.reason(), v1::Reason::AgentDraining);
    assert!(closed.retryable);
    assert_eq!(closed.resume, Some(writer.receive.position()));
    let status = status.unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        status.get_details_error_info().unwrap().reason,
        "AGENT_DRAINING"
    );
    let ended = loop {
        match watch.get_mut().message().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(
        ended.unwrap_err().get_details_error_info().unwrap().reason,
        "AGENT_DRAINING"
    );

    assert!(host.agent.wait().success(), "{}", host.agent.log());
    assert!(
        host.agent.log().contains("\"in_time\":true"),
        "{}",
        host.agent.log()
    );
    // The console is free for others at once.
    let mut virsh = vmconsole_tests::console::VirshConsole::open(&host.libvirtd, &guest, "serial0");
    virsh.wait_for_login_prompt(BOUND);
}
