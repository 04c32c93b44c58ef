//! Where a stream begins, and that what was seen of two streams joins by their positions.

use tonic::Code;
use vmconsole_proto::v1;
use vmconsole_proto::v1::Mode::{View, WriteIfFree};
use vmconsole_proto::v1::start::From;
use vmconsole_proto::v1::{GapReason, Position};
use vmconsole_tests::client::{Attached, Client, Windows, open};
use vmconsole_tests::standin::Mode;

use super::{SOON, host, settled};

async fn attach(client: &Client, from: From, on_gap: v1::OnGap) -> Attached {
    let request = v1::Open {
        start: Some(v1::Start { from: Some(from) }),
        on_gap: on_gap.into(),
        ..open("echo", View)
    };
    client.attach(request).await.unwrap()
}

/// Has the guest say this, as its writer sees it.
async fn say(writer: &mut Attached, text: &'static str) {
    writer.send.type_bytes(text).await;
    writer.receive.read_until(text.as_bytes(), SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_is_told_what_it_missed_once_and_exactly() {
    let host = host(&[("echo", Mode::Echo)], "");
    let test = async {
        let client = host.connect(Windows::default()).await;
        let mut writer = client.attach(open("echo", WriteIfFree)).await.unwrap();
        let mut viewer = client.attach(open("echo", View)).await.unwrap();
        say(&mut writer, "one two ").await;
        viewer.receive.read_until(b"two ", SOON).await;
        let left = viewer.detach(SOON).await.resume.unwrap();
        say(&mut writer, "three ").await;
        let other = host.connect(Windows::default()).await;
        let mut back = attach(&other, From::Resume(left), v1::OnGap::Close).await;
        assert_eq!(back.opened.position, Some(left));
        say(&mut writer, "four").await;
        let missed = back.receive.read_until(b"four", SOON).await;
        assert_eq!(missed, b"three four");
        assert_eq!(back.receive.gaps, []);
    };
    settled(&host, test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_nobody_knows_is_a_gap_and_ends_who_asked_for_that() {
    let host = host(&[("echo", Mode::Echo)], "");
    let test = async {
        let client = host.connect(Windows::default()).await;
        let mut writer = client.attach(open("echo", WriteIfFree)).await.unwrap();
        let oldest = writer.opened.position.unwrap();
        say(&mut writer, "kept").await;
        let unknown = Position {
            generation: oldest.generation ^ 1,
            offset: 7,
        };
        let beyond = Position {
            offset: 1000,
            ..oldest
        };
        for lost in [unknown, beyond] {
            let mut back = attach(&client, From::Resume(lost), v1::OnGap::Note).await;
            assert_eq!(back.opened.position, Some(lost));
            assert_eq!(back.receive.read_until(b"kept", SOON).await, b"kept");
            let gap = back.receive.gaps[0];
            assert_eq!((gap.from, gap.to), (Some(lost), Some(oldest)));
            assert_eq!(gap.reason(), GapReason::GenerationPassed);
            assert!(!gap.length_known);

            let mut ends = attach(&client, From::Resume(lost), v1::OnGap::Close).await;
            let (closed, status) = ends.receive.closed(SOON).await;
            assert_eq!(closed.reason(), v1::Reason::Gap);
            assert_eq!(closed.resume, Some(oldest));
            assert_eq!(ends.receive.gaps.len(), 1);
            assert_eq!(status.unwrap().code(), Code::OutOfRange);
            // From there it goes on, as often as it is asked.
            let mut on = attach(&client, From::Resume(oldest), v1::OnGap::Close).await;
            assert_eq!(on.receive.read_until(b"kept", SOON).await, b"kept");
        }
        let nothing = v1::Start {
            from: Some(From::Resume(Position::default())),
        };
        let lines = v1::Start {
            from: Some(From::TailLines(100_001)),
        };
        for start in [nothing, lines] {
            let request = v1::Open {
                start: Some(start),
                ..open("echo", View)
            };
            let refused = client.attach(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
        }
    };
    settled(&host, test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_and_a_boot_that_was_not_seen() {
    let host = host(&[("echo", Mode::Echo)], "");
    let test = async {
        let client = host.connect(Windows::default()).await;
        let mut writer = client.attach(open("echo", WriteIfFree)).await.unwrap();
        say(&mut writer, "one\r\ntwo\r\nthree\r\nfour").await;
        for (lines, wanted) in [
            (1, "four"),
            (2, "three\r\nfour"),
            (9, "one\r\ntwo\r\nthree\r\nfour"),
        ] {
            let mut tail = attach(&client, From::TailLines(lines), v1::OnGap::Note).await;
            let seen = tail.receive.read_until(b"four", SOON).await;
            assert_eq!(seen, wanted.as_bytes());
            assert_eq!(tail.receive.gaps, []);
        }
        // The agent came after the guest. That is told, and ends nobody, or nobody would ever
        // get any further.
        let mut boot = attach(&client, From::FromBoot(v1::FromBoot {}), v1::OnGap::Close).await;
        let seen = boot.receive.read_until(b"four", SOON).await;
        assert_eq!(seen, b"one\r\ntwo\r\nthree\r\nfour");
        let gap = boot.receive.gaps[0];
        assert_eq!((gap.from, gap.length_known), (gap.to, false));
        assert_eq!(gap.reason(), GapReason::NotAttached);
        assert_eq!(boot.receive.gaps.len(), 1);
    };
    settled(&host, test).await;
}
