//! What viewers see, and how many there may be.

use super::*;

#[tokio::test(start_paused = true)]
async fn viewers_are_bounded_and_a_dropped_writer_frees_the_lease() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    host.script.attached().await;
    let writer = console.join(request(Some(Claim::IfFree))).expect("joins");
    let mut viewers: Vec<_> = (0..3)
        .map(|_| console.join(request(None)).expect("joins"))
        .collect();
    let refused = console.join(request(None)).expect_err("full");
    assert!(matches!(refused, JoinError::TooManyViewers(4)));
    drop(writer);
    let change = find(&mut viewers[0], |item| match item {
        Item::Writer(change) => Some(change),
        _ => None,
    });
    let change = change.await;
    assert_eq!(
        (change.writer, change.reason),
        (None, Some(Reason::TransportLost))
    );
    assert!(
        console
            .join(request(Some(Claim::IfFree)))
            .expect("free")
            .writes()
    );
}

#[tokio::test(start_paused = true)]
async fn small_reads_are_shown_together_but_the_first_at_once() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    let mut viewer = console.join(request(None)).expect("joins");
    sink.output(b"a");
    assert_eq!(bytes(output(&mut viewer).await), b"a");
    let mut frames = Vec::new();
    let flood = async {
        for _ in 0..100 {
            sink.output(b"x");
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    };
    let read = async {
        while frames.iter().map(Vec::len).sum::<usize>() < 100 {
            frames.push(bytes(output(&mut viewer).await));
        }
    };
    tokio::join!(flood, read);
    // The timer's steps are of 1 ms: a flood of 100 ms, shown every 5 ms.
    assert!(frames.len() <= 25, "{} frames", frames.len());
}
