//! A proxy that is there no more, and cannot say so, holds nobody up for long.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use vmconsole_proto::v1;
use vmconsole_tests::agent::program;
use vmconsole_tests::client::open;
use vmconsole_tests::process::Process;
use vmconsole_tests::scrape::Scrape;

use crate::host::{BOUND, Host};

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_falls_silent_loses_its_lease_within_thirty_seconds() {
    let host = Host::start();
    let guest = host.guest("silent-proxy");
    let client = host.client().await;
    host.attach(&client, open(guest.name(), v1::Mode::View))
        .await
        .detach(BOUND)
        .await;

    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = host.pki.proxy().write(dir.path(), "proxy");
    let mut attach = Command::new(program("vmconsolectl"));
    attach
        .arg("--certificate")
        .arg(certificate)
        .arg("--key")
        .arg(key);
    attach.arg("--ca").arg(host.pki.ca_file());
    attach.args([
        "--server-name",
        "localhost",
        "--agent",
        &host.agent.grpc().to_string(),
    ]);
    attach.args(["attach", guest.name()]).stdin(Stdio::piped());
    let mut proxy = Process::spawn("vmconsolectl", attach);
    let holder = async || {
        let consoles = client.list().await.unwrap();
        consoles.into_iter().find_map(|console| console.writer)
    };
    let until = Instant::now() + BOUND;
    while holder().await.is_none() {
        assert!(
            Instant::now() < until && proxy.try_wait().is_none(),
            "{}",
            proxy.stderr()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // Its connection stays open: only that it answers nothing tells.
    proxy.signal(Signal::SIGSTOP);
    let silent = Instant::now();
    while holder().await.is_some() {
        assert!(silent.elapsed() < BOUND);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = silent.elapsed();
    println!(
        "the lease of a silent proxy is free after {:.1} s",
        took.as_secs_f64()
    );
    // 30 s after it was last heard, and what it takes to see that.
    assert!(took < Duration::from_secs(31), "{took:?}");
    let scrape = Scrape::take(host.agent.http()).await.unwrap();
    assert_eq!(
        scrape.sum(
            "vmconsole_sessions_closed_total",
            "reason=\"TRANSPORT_LOST\""
        ),
        1.0
    );
    proxy.kill();
    host.settled().await;
}
