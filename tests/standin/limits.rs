//! Every limit that is configured refuses what passes it, and nobody else.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use vmconsole_proto::v1;
use vmconsole_proto::v1::Mode::{View, WriteIfFree};
use vmconsole_tests::client::{Windows, open};
use vmconsole_tests::scrape::Scrape;
use vmconsole_tests::standin::Mode;

use super::{SOON, host, settled};

fn refusal(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info();
    (
        status.code(),
        info.map(|info| info.reason).unwrap_or_default(),
    )
}

fn limit_reached() -> (Code, String) {
    (Code::ResourceExhausted, "LIMIT_REACHED".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_viewers_and_watchers_are_bounded() {
    let limits = "[limits]\nsessions = 3\nviewers_per_console = 2\nwatchers = 1\n";
    let host = host(&[("one", Mode::Echo), ("two", Mode::Echo)], limits);
    let test = async {
        let client = host.connect(Windows::default()).await;
        let first = client.attach(open("one", View)).await.unwrap();
        let _second = client.attach(open("one", View)).await.unwrap();
        let full = client.attach(open("one", View)).await.unwrap_err();
        assert_eq!(refusal(&full), limit_reached());
        assert!(
            full.message().contains("limits.viewers_per_console"),
            "{full:?}"
        );
        let _third = client.attach(open("two", View)).await.unwrap();
        let full = client.attach(open("two", View)).await.unwrap_err();
        assert_eq!(refusal(&full), limit_reached());
        assert!(full.message().contains("limits.sessions"), "{full:?}");
        first.detach(SOON).await;
        let again = client.attach(open("two", WriteIfFree)).await.unwrap();
        assert_eq!(again.opened.mode(), WriteIfFree);

        let watch = || async {
            client
                .service()
                .watch_consoles(v1::WatchConsolesRequest::default())
                .await
        };
        let watcher = watch().await.unwrap();
        assert_eq!(refusal(&watch().await.unwrap_err()), limit_reached());
        drop(watcher);
        let freed = async { while watch().await.is_err() {} };
        timeout(SOON, freed).await.unwrap();
    };
    settled(&host, test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_does_not_say_what_it_wants_is_ended() {
    let host = host(
        &[("one", Mode::Echo)],
        "[limits]\nfirst_message_seconds = 1\n",
    );
    let test = async {
        let client = host.connect(Windows::default()).await;
        // Held open, and silent.
        let (_silent, requests) = mpsc::channel(1);
        let mut stream = client.service();
        let asked = timeout(SOON, stream.stream_console(ReceiverStream::new(requests)));
        let refused = asked.await.unwrap().unwrap_err();
        assert_eq!(
            refusal(&refused),
            (Code::InvalidArgument, "BAD_REQUEST".to_owned())
        );
        client
            .attach(open("one", View))
            .await
            .unwrap()
            .detach(SOON)
            .await;
    };
    settled(&host, test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_the_calls_on_each_are_bounded() {
    let limits = "[limits]\nconnections = 1\nstreams_per_connection = 2\n";
    let host = host(&[("one", Mode::Echo)], limits);
    let test = async {
        let client = host.connect(Windows::default()).await;
        let first = client.attach(open("one", View)).await.unwrap();
        let _second = client.attach(open("one", View)).await.unwrap();
        // HTTP/2 has the client wait for a place, so a third call is not refused.
        let mut third = Box::pin(client.attach(open("one", View)));
        let waited = timeout(Duration::from_millis(300), third.as_mut()).await;
        assert!(waited.is_err(), "{waited:?}");

        let other = host.endpoint(Windows::default()).connect().await;
        if let Ok(channel) = other {
            let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
            let request = tonic_health::pb::HealthCheckRequest::default();
            timeout(SOON, health.check(request))
                .await
                .unwrap()
                .unwrap_err();
        }
        let scrape = Scrape::take(host.http).await.unwrap();
        assert!(scrape.sum("vmconsole_connections_refused_total", "") >= 1.0);
        assert_eq!(scrape.sum("vmconsole_connections_active", ""), 1.0);

        first.detach(SOON).await;
        timeout(SOON, third).await.unwrap().unwrap();
    };
    settled(&host, test).await;
}
