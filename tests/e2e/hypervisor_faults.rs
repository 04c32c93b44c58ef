//! libvirtd dies and comes back; a QEMU hangs. Neither takes more with it than it must.

use std::time::{Duration, Instant};

use vmconsole_proto::v1;
use vmconsole_proto::v1::stream_console_response::Message;

use crate::host::{BOUND, Host, run, told_state};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_outlives_libvirtd_and_types_into_the_same_shell_again() {
    let host = Host::start();
    let guest = host.guest("survivor");
    let client = host.client().await;
    let mut writer = host.shell(&client, guest.name()).await;
    run(&mut writer.send, &mut writer.receive, "remembered=yes").await;

    host.libvirtd.kill();
    let lost = writer
        .receive
        .wait_for("LOST", BOUND, told_state(v1::Availability::Lost))
        .await;
    assert!(!lost.detail.is_empty());
    let (_, body) = vmconsole_tests::scrape::get(host.agent.http(), "/readyz")
        .await
        .unwrap();
    assert!(body.contains("libvirt"), "{body:?}");

    // Returns once libvirtd answers.
    host.libvirtd.restart();
    let answered = Instant::now();
    let is_gap = |message| match message {
        Message::Gap(gap) => Some(gap),
        _ => None,
    };
    let gap = writer.receive.wait_for("a gap", BOUND, is_gap).await;
    assert_eq!(gap.from, gap.to);
    assert!(!gap.length_known);
    assert_eq!(gap.reason(), v1::GapReason::NotAttached);
    assert_eq!(
        gap.from.unwrap().generation,
        lost.generation,
        "it is the same QEMU"
    );
    let seen = run(
        &mut writer.send,
        &mut writer.receive,
        "echo remembered: $remembered",
    )
    .await;
    assert!(seen.contains("remembered: yes\r\n"), "{seen:?}");
    let took = answered.elapsed();
    println!(
        "typing works {:.2} s after libvirtd answers again",
        took.as_secs_f64()
    );
    assert!(took < Duration::from_secs(15), "{took:?}");

    writer.detach(BOUND).await;
    host.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_qemu_delays_nothing_of_another_vm() {
    let host = Host::start();
    let (stopped, lively) = (host.guest("stopped"), host.guest("lively"));
    let client = host.client().await;
    let mut other = host.shell(&client, stopped.name()).await;
    let mut writer = host.shell(&client, lively.name()).await;
    stopped.stop_cpu();
    // What makes libvirt ask the stopped QEMU, and wait.
    other.send.type_bytes("x".repeat(16 * 1024)).await;
    let asking: Vec<_> = (0..6)
        .map(|_| {
            let virsh = host.libvirtd.virsh_handle();
            let name = stopped.name().to_owned();
            std::thread::spawn(move || {
                virsh.run(&["qemu-monitor-command", &name, "--hmp", "info status"])
            })
        })
        .collect();

    let mut slowest = [Duration::ZERO; 3];
    for _ in 0..20 {
        let begin = Instant::now();
        run(&mut writer.send, &mut writer.receive, "true").await;
        slowest[0] = slowest[0].max(begin.elapsed());
        let begin = Instant::now();
        let viewer = client.attach(vmconsole_tests::client::open(lively.name(), v1::Mode::View));
        viewer.await.unwrap().detach(BOUND).await;
        slowest[1] = slowest[1].max(begin.elapsed());
        let begin = Instant::now();
        assert!(client.list().await.unwrap().len() >= 2);
        slowest[2] = slowest[2].max(begin.elapsed());
    }
    println!(
        "slowest beside a stopped QEMU: a command {:?}, an attach {:?}, a list {:?}",
        slowest[0], slowest[1], slowest[2]
    );
    for took in slowest {
        assert!(took < Duration::from_secs(2), "{slowest:?}");
    }
    // A VM that is started meanwhile is seen and served.
    let begin = Instant::now();
    let third = host.guest("third");
    let attached = host
        .attach(
            &client,
            vmconsole_tests::client::open(third.name(), v1::Mode::View),
        )
        .await;
    println!(
        "a VM started beside it is served after {:?}",
        begin.elapsed()
    );

    stopped.cont();
    for asked in asking {
        let _ = asked.join().unwrap();
    }
    for open in [other, writer, attached] {
        open.detach(BOUND).await;
    }
    host.settled().await;
}
