//! What ends a session by itself: its client's silence, or its own, or its length.

use std::time::Duration;

use tonic::Code;
use vmconsole_proto::v1;
use vmconsole_proto::v1::Mode::{View, WriteIfFree};
use vmconsole_proto::v1::stream_console_request::Message as Request;
use vmconsole_proto::v1::stream_console_response::Message as Response;
use vmconsole_tests::client::{Attached, Windows, open};
use vmconsole_tests::standin::Mode;

use super::{SOON, host, settled};

fn with_heartbeat(seconds: i64, nanos: i32) -> v1::Open {
    let heartbeat = Some(prost_types::Duration { seconds, nanos });
    v1::Open {
        heartbeat,
        ..open("one", View)
    }
}

async fn warned(attached: &mut Attached) -> (v1::Reason, Duration) {
    let warning = attached
        .receive
        .wait_for("the warning", SOON, |message| match message {
            Response::Expiring(expiring) => Some(expiring),
            _ => None,
        });
    let warning = warning.await;
    let left = Duration::try_from(warning.r#in.unwrap()).unwrap();
    (warning.reason(), left)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_keeps_the_heartbeat_that_it_promised_or_is_taken_for_lost() {
    let host = host(&[("one", Mode::Idle)], "");
    let test = async {
        let client = host.connect(Windows::default()).await;
        for (seconds, nanos) in [(0, 0), (0, 999_999_999), (3600, 1), (-5, 0)] {
            let refused = client.attach(with_heartbeat(seconds, nanos)).await;
            assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
        }
        let mut alive = client.attach(with_heartbeat(3600, 0)).await.unwrap();
        let mut silent = client.attach(with_heartbeat(1, 0)).await.unwrap();
        let promised = silent.opened.heartbeat.unwrap();
        assert_eq!((promised.seconds, promised.nanos), (1, 0));
        assert_eq!(silent.opened.expires, None);
        let (closed, status) = silent.receive.closed(SOON).await;
        assert_eq!(closed.reason(), v1::Reason::TransportLost);
        assert!(closed.retryable);
        assert_eq!(status.unwrap().code(), Code::Unavailable);
        alive.send.send(Request::Ping(v1::Ping { nonce: 7 })).await;
        let pong = |message| match message {
            Response::Pong(pong) => Some(pong.nonce),
            _ => None,
        };
        assert_eq!(alive.receive.wait_for("the pong", SOON, pong).await, 7);
    };
    settled(&host, test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_types_nothing_is_warned_and_then_ended() {
    let host = host(
        &[("one", Mode::Idle)],
        "[limits]\nidle_timeout_seconds = 2\n",
    );
    let test = async {
        let client = host.connect(Windows::default()).await;
        let mut attached = client.attach(open("one", WriteIfFree)).await.unwrap();
        let (reason, left) = warned(&mut attached).await;
        assert_eq!(reason, v1::Reason::IdleTimeout);
        assert!(left <= Duration::from_secs(1), "{left:?}");
        let (closed, status) = attached.receive.closed(SOON).await;
        assert_eq!(closed.reason(), v1::Reason::IdleTimeout);
        assert!(
            !closed.retryable && closed.detail.contains("2 s"),
            "{closed:?}"
        );
        assert!(status.is_some());
    };
    settled(&host, test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_says_when_it_is_over_and_then_is_though_its_client_has_said_all() {
    let host = host(
        &[("one", Mode::Idle)],
        "[limits]\nmax_duration_seconds = 2\n",
    );
    let test = async {
        let client = host.connect(Windows::default()).await;
        // A client that closes its side after Open.
        let first = v1::StreamConsoleRequest {
            message: Some(Request::Open(open("one", View))),
        };
        let mut service = client.service();
        let stream = service.stream_console(tokio_stream::once(first)).await;
        let mut stream = stream.unwrap().into_inner();
        let (mut expires, mut warning, mut closed) = (None, None, None);
        while let Ok(Some(told)) = stream.message().await {
            match told.message {
                Some(Response::Opened(opened)) => expires = opened.expires,
                Some(Response::Expiring(expiring)) => warning = Some(expiring.reason()),
                Some(Response::Closed(last)) => closed = Some(last.reason()),
                _ => {}
            }
        }
        let expires = std::time::SystemTime::try_from(expires.unwrap()).unwrap();
        assert!(expires <= std::time::SystemTime::now());
        let told = (warning.unwrap(), closed.unwrap());
        assert_eq!(told, (v1::Reason::MaxDuration, v1::Reason::MaxDuration));
    };
    settled(&host, test).await;
}
