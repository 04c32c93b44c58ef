//! A real guest's console: what is typed is run, what is printed arrives whole.

use vmconsole_proto::v1;
use vmconsole_proto::v1::stream_console_response::Message;
use vmconsole_tests::client::open;

use crate::host::{BOUND, Host, run, tail};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_run_and_two_viewers_see_the_same_bytes_at_the_same_positions() {
    let host = Host::start();
    let guest = host.guest("two-viewers");
    let client = host.client().await;
    let mut writer = host.shell(&client, guest.name()).await;
    let (send, receive) = (&mut writer.send, &mut writer.receive);
    let uname = run(send, receive, "uname -a").await;
    assert!(uname.contains("Linux guest 6."), "{uname:?}");

    let from = receive.position();
    let mut viewer = host
        .attach(&client, open(guest.name(), v1::Mode::View))
        .await;
    assert_eq!(viewer.opened.mode(), v1::Mode::View);
    let begins = viewer.opened.position.unwrap();
    assert_eq!(begins.generation, from.generation);
    let sent = "echo se''en; echo en''d\n";
    send.type_bytes(sent).await;
    let theirs = viewer.receive.read_until(b"end\r\n", BOUND).await;
    let mine = receive.read_until(b"end\r\n", BOUND).await;
    // The prompt may have come before the viewer did.
    let missed = usize::try_from(begins.offset - from.offset).unwrap();
    assert_eq!(mine[missed..], theirs);
    assert!(String::from_utf8_lossy(&theirs).contains("seen\r\n"));
    assert_eq!(viewer.receive.position(), receive.position());

    // History is the same bytes at the same positions again, as far as it was asked for: more
    // than the prompt, which may have come by then.
    let mut request = open(guest.name(), v1::Mode::View);
    request.start = tail(32);
    let mut later = host.attach(&client, request).await;
    let begins = later.opened.position.unwrap();
    let again = later.receive.output().await.unwrap().unwrap();
    let (head, back) = (receive.position().offset, 32);
    assert!(begins.offset >= head - back, "{begins:?}");
    let known = usize::try_from(head - begins.offset).unwrap();
    assert_eq!(again[..known], mine[mine.len() - known..]);

    for attached in [writer, viewer, later] {
        let closed = attached.detach(BOUND).await;
        assert_eq!(closed.reason(), v1::Reason::ClientDetached);
    }
    host.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_lines_arrive_whole_and_in_order() {
    let host = Host::start();
    let guest = host.guest("seq");
    let client = host.client().await;
    let mut writer = host.shell(&client, guest.name()).await;
    let text = run(&mut writer.send, &mut writer.receive, "seq 1 20000").await;
    let expected: String = (1..=20_000).map(|number| format!("{number}\r\n")).collect();
    // The client has held every position against the one before.
    assert!(text.contains(&expected), "{} bytes came", text.len());
    assert_eq!(writer.receive.lost(), []);
    writer.detach(BOUND).await;
    host.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_does_not_read_stalls_nobody_and_is_told_what_it_missed() {
    const PRINTED: usize = 3 << 20;
    const WINDOW: u64 = 64 * 1024;
    let host = Host::start();
    let guest = host.guest("flood");
    let client = host.client().await;
    let mut writer = host.shell(&client, guest.name()).await;
    let mut request = open(guest.name(), v1::Mode::View);
    request.output_window = WINDOW;
    // On the same HTTP/2 connection.
    let mut stopped = host.attach(&client, request).await;
    stopped.receive.set_acknowledging(false);

    let command = format!("yes 0123456789012345678901234567890 | head -c {PRINTED}");
    let text = run(&mut writer.send, &mut writer.receive, &command).await;
    // The terminal makes two bytes of each newline.
    let printed: usize = text.matches("0123456789012345678901234567890\r\n").count();
    assert!(printed >= PRINTED / 32 - 1, "{printed} lines");
    assert_eq!(writer.receive.lost(), []);

    let until = writer.receive.position();
    let begins = stopped.opened.position.unwrap();
    let unread = stopped.receive.pass(WINDOW, BOUND).await;
    assert_eq!(unread, WINDOW, "as much as its window is, and no more");
    stopped.send.acknowledge(stopped.receive.position()).await;
    let is_gap = |message| match message {
        Message::Gap(gap) => Some(gap),
        _ => None,
    };
    let gap = stopped.receive.wait_for("a gap", BOUND, is_gap).await;
    let (from, to) = (gap.from.unwrap(), gap.to.unwrap());
    assert_eq!(from.offset, begins.offset + WINDOW);
    assert!(gap.length_known);
    assert_eq!(gap.reason(), v1::GapReason::Overrun);
    assert_eq!(to.generation, from.generation);
    let kept = until.offset - to.offset;
    assert!(
        to.offset > from.offset && (1..=1 << 20).contains(&kept),
        "{kept} bytes were kept"
    );
    stopped.send.acknowledge(to).await;
    stopped.receive.pass(WINDOW, BOUND).await;

    writer.detach(BOUND).await;
    stopped.detach(BOUND).await;
    host.settled().await;
}
