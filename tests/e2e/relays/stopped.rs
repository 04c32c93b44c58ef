//! A viewer that stops reading, and its neighbours on the same connection.

use std::time::Instant;

use vmconsole_proto::v1;
use vmconsole_tests::client::{open, relay_open};
use vmconsole_tests::qemu::{QemuOptions, Vnc};
use vmconsole_tests::rfb;
use vmconsole_tests::scrape::Scrape;

use super::{looks, opened, showing};
use crate::host::{BOUND, QemuHost, run};

/// A window that one picture is larger than.
const WINDOW: u64 = 64 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_viewer_holds_up_nobody_but_itself() {
    let host = QemuHost::start();
    let mut options = QemuOptions::named("shared");
    options.vga = true;
    options.vnc = Some(Vnc::Unix);
    let _guest = host.guest(options);
    let client = host.client().await;
    let mut shell = host.shell(&client, "shared").await;
    let mut windowed = relay_open("shared", v1::Mode::View);
    windowed.output_window = WINDOW;

    let mut stopped = opened(&client, windowed.clone()).await;
    let screen = rfb::greet(&mut stopped, BOUND).await;
    stopped.send(rfb::set_encodings(&[0]), BOUND).await;
    stopped
        .send(rfb::update_request(&screen, false), BOUND)
        .await;
    // It is sent what its window allows, and then nothing.
    let sent = async || {
        let scrape = Scrape::take(host.agent.http()).await.unwrap();
        scrape.sum("vmconsole_relay_bytes_total", "to_caller")
    };
    let until = Instant::now() + BOUND;
    while sent().await < WINDOW as f64 {
        assert!(Instant::now() < until, "the window is never full");
    }
    let (mut other, mut seen) = showing(&client, windowed).await;
    for turn in 0..5 {
        let said = run(&mut shell.send, &mut shell.receive, "echo t$((1+1))t").await;
        assert!(said.contains("t2t"), "turn {turn}: {said:?}");
        looks(&mut other, &mut seen).await;
    }
    let viewer = client.attach(open("shared", v1::Mode::View)).await.unwrap();
    viewer.detach(BOUND).await;
    // What the stopped one did not read is still there, and was not more than its window.
    let mut screen = screen;
    rfb::update(&mut stopped, &mut screen, BOUND).await;
    drop((stopped, other));
    shell.detach(BOUND).await;
    host.settled().await;
}
