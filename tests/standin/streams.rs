//! What one stream promises: list, attach, echo, lease, ends.

use bytes::Bytes;
use tonic::Code;
use tonic_types::StatusExt as _;
use vmconsole_proto::v1;
use vmconsole_proto::v1::Mode::{View, WriteIfFree, WriteTakeover};
use vmconsole_proto::v1::stream_console_request::Message as Request;
use vmconsole_proto::v1::stream_console_response::Message as Response;
use vmconsole_tests::client::{Windows, open};
use vmconsole_tests::standin::{ALIAS, Mode, vm_uuid};

use super::{SOON, host, settled};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_can_be_attached_and_echoes() {
    let host = host(&[("echo", Mode::Echo), ("idle", Mode::Idle)], "");
    let test = async {
        let client = host.connect(Windows::default()).await;
        let listed = client.list().await.unwrap();
        let names: Vec<_> = listed.iter().map(|c| (&*c.vm_name, &*c.alias)).collect();
        assert_eq!(names, [("echo", ALIAS), ("idle", ALIAS)]);
        assert_eq!(listed[0].vm_uuid, vm_uuid(0).to_string());

        let mut attached = client.attach(open("echo", WriteIfFree)).await.unwrap();
        assert_eq!(attached.opened.mode(), WriteIfFree);
        attached.send.type_bytes(&b"hello"[..]).await;
        let seen = attached.receive.read_until(b"hello", SOON).await;
        assert_eq!(seen, b"hello");
        let closed = attached.detach(SOON).await;
        assert_eq!(closed.reason(), v1::Reason::ClientDetached);
        assert_eq!(closed.resume.unwrap().offset, 5);
    };
    settled(&host, test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_is_not_echoed_is_acknowledged_all_the_same() {
    let host = host(&[("idle", Mode::Idle)], "");
    let test = async {
        let client = host.connect(Windows::default()).await;
        let mut attached = client.attach(open("idle", WriteIfFree)).await.unwrap();
        attached.send.type_bytes(&b"secret"[..]).await;
        let pick = |message| match message {
            Response::InputAck(ack) => Some(ack),
            _ => None,
        };
        let ack = attached.receive.wait_for("InputAck", SOON, pick).await;
        assert_eq!((ack.offset, ack.window), (6, attached.opened.input_window));
    };
    settled(&host, test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_writer_is_refused_or_views_and_a_takeover_is_told_to_the_first() {
    let host = host(&[("echo", Mode::Echo)], "");
    let test = async {
        let client = host.connect(Windows::default()).await;
        let mut first = client.attach(open("echo", WriteIfFree)).await.unwrap();

        let refused = client.attach(open("echo", WriteIfFree)).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let info = refused.get_details_error_info().unwrap();
        assert_eq!(info.reason, "LEASE_HELD");
        let holder = &info.metadata["holder_session"];
        assert_eq!(*holder, first.opened.session_id);

        let otherwise = v1::Open {
            view_otherwise: true,
            ..open("echo", WriteIfFree)
        };
        let viewer = client.attach(otherwise).await.unwrap();
        assert_eq!(viewer.opened.mode(), View);
        let roster = viewer.opened.roster.as_ref().unwrap();
        let writer = roster.participants.iter().find(|who| who.writer).unwrap();
        assert_eq!(writer.session_id, first.opened.session_id);

        let takeover = v1::Open {
            takeover_reason: "night shift".to_owned(),
            ..open("echo", WriteTakeover)
        };
        let mut second = client.attach(takeover).await.unwrap();
        let taken = first
            .receive
            .wait_for("the takeover", SOON, |message| match message {
                Response::WriterChanged(change) if !change.you_write => Some(change),
                _ => None,
            })
            .await;
        assert_eq!(taken.reason(), v1::Reason::TakenOver);
        assert_eq!(taken.takeover_reason, "night shift");
        assert_eq!(taken.writer.unwrap().session_id, second.opened.session_id);
        first.send.type_bytes(&b"too late"[..]).await;
        let refused = first
            .receive
            .wait_for("the refusal", SOON, |message| match message {
                Response::InputRefused(refused) => Some(refused),
                _ => None,
            })
            .await;
        assert_eq!((refused.from, refused.to), (0, 8));
        assert_eq!(refused.reason(), v1::Reason::TakenOver);

        second.send.type_bytes(&b"now me"[..]).await;
        for receive in [&mut second.receive, &mut first.receive] {
            assert_eq!(receive.read_until(b"now me", SOON).await, b"now me");
        }
    };
    settled(&host, test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_tells_every_stream_where_to_resume() {
    let mut host = host(&[("echo", Mode::Echo)], "");
    let client = host.connect(Windows::default()).await;
    let mut attached = client.attach(open("echo", WriteIfFree)).await.unwrap();
    attached.send.type_bytes(&b"0123456789"[..]).await;
    attached.receive.read_until(b"789", SOON).await;
    host.terminate();
    let (closed, status) = attached.receive.closed(SOON).await;
    assert_eq!(closed.reason(), v1::Reason::AgentDraining);
    assert!(closed.retryable);
    assert_eq!(closed.resume, Some(attached.receive.position()));
    assert_eq!(closed.resume.unwrap().offset, 10);
    let status = status.unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "AGENT_DRAINING");
    assert!(host.stopped(), "not everything ended in time");
}

/// Opens two streams on one connection; `breach` breaks a rule on the first.
async fn a_breach_ends_its_stream_alone(breach: impl AsyncFnOnce(&mut Breaker)) {
    let host = host(&[("deaf", Mode::Deaf), ("echo", Mode::Echo)], "");
    let test = async {
        let client = host.connect(Windows::default()).await;
        let wanted = v1::Open {
            output_window: 65536,
            ..open("deaf", WriteIfFree)
        };
        let mut breaker = Breaker(client.attach(wanted).await.unwrap());
        let mut other = client.attach(open("echo", WriteIfFree)).await.unwrap();
        breach(&mut breaker).await;
        let (closed, status) = breaker.0.receive.closed(SOON).await;
        assert_eq!(closed.reason(), v1::Reason::BadRequest);
        assert!(!closed.detail.is_empty());
        assert_eq!(status.unwrap().code(), Code::InvalidArgument);
        other.send.type_bytes(&b"still here"[..]).await;
        other.receive.read_until(b"still here", SOON).await;
    };
    settled(&host, test).await;
}

struct Breaker(vmconsole_tests::client::Attached);

impl Breaker {
    async fn say(&self, message: Request) {
        self.0.send.send(message).await;
    }

    async fn input(&self, offset: u64, length: usize) {
        let input = v1::Input {
            offset,
            write_epoch: self.0.opened.write_epoch,
            data: Bytes::from(vec![b'x'; length]),
        };
        self.say(Request::Input(input)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn input_with_a_hole_before_it_ends_the_stream() {
    a_breach_ends_its_stream_alone(async |breaker| breaker.input(7, 1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_of_more_than_a_message_may_hold_ends_the_stream() {
    a_breach_ends_its_stream_alone(async |breaker| breaker.input(0, 65537).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_beyond_the_window_ends_the_stream() {
    // More than the guest's socket and the window take together.
    a_breach_ends_its_stream_alone(async |breaker| {
        breaker.0.send.type_bytes(vec![b'x'; 1024 * 1024]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_of_what_was_not_sent_ends_the_stream() {
    a_breach_ends_its_stream_alone(async |breaker| {
        let mut position = breaker.0.opened.position.unwrap();
        position.offset += 1;
        breaker.0.send.acknowledge(position).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_open_ends_the_stream() {
    a_breach_ends_its_stream_alone(async |breaker| {
        breaker.say(Request::Open(v1::Open::default())).await;
    })
    .await;
}
