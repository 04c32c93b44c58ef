//! A QEMU that serves somebody else, or nobody at all, is told apart from one that serves us.

use nix::sys::signal::Signal;
use vmconsole_agent::endpoint::{Direct, EndpointError};
use vmconsole_tests::process::Process;

use crate::console::{SOON, Site, client, listens, monitor, on_tcp, on_unix};

/// Waits until `process` holds the console.
async fn held_by(site: &Site, direct: &Direct, process: &Process) {
    let held = async {
        loop {
            if let Some(holder) = site.endpoints.holder(direct).await {
                return holder;
            }
        }
    };
    let holder = tokio::time::timeout(SOON, held)
        .await
        .expect("it is held soon");
    assert_eq!(i64::from(holder.process), i64::from(process.pid().as_raw()));
    assert_eq!(holder.command, "socat");
    assert_eq!(holder.user, nix::unistd::geteuid().as_raw());
}

/// Refused as held, and served once `holder` is gone.
async fn refused_while_held(site: &Site, direct: &Direct, mut holder: Process) {
    held_by(site, direct, &holder).await;
    for _ in 0..3 {
        let error = site.try_attach(direct).await.err().unwrap();
        assert!(matches!(error, EndpointError::HeldByOther(_)), "{error}");
    }
    holder.kill();
    let mut console = site.attach(direct).await;
    console.says("(qemu)").await;
    assert_eq!(site.endpoints.holder(direct).await, None, "it is ours");
}

#[tokio::test]
async fn a_unix_socket_with_another_client() {
    let site = Site::new();
    let _qemu = monitor(&on_unix(&site.socket()));
    listens(&site.socket());
    let holder = client(&format!(
        "UNIX-CONNECT:{},retry=50,interval=0.1",
        site.socket().display()
    ));
    refused_while_held(&site, &Direct::Unix(site.socket()), holder).await;
}

#[tokio::test]
async fn a_tcp_port_with_another_client() {
    let site = Site::new();
    let (chardev, direct) = on_tcp(false);
    let Direct::Tcp(address) = &direct else {
        panic!("{direct}");
    };
    let _qemu = monitor(&chardev);
    let holder = client(&format!(
        "TCP:127.0.0.1:{},retry=50,interval=0.1",
        address.port
    ));
    refused_while_held(&site, &direct, holder).await;
}

#[tokio::test]
async fn a_stopped_qemu_is_nobodys_and_served_when_it_goes_on() {
    let site = Site::new();
    let mut qemu = monitor(&on_unix(&site.socket()));
    listens(&site.socket());
    let direct = Direct::Unix(site.socket());
    let mut console = site.attach(&direct).await;
    console.says("(qemu)").await;
    console.attachment.detach().await;

    qemu.signal(Signal::SIGSTOP);
    // More often than its queue has places.
    for _ in 0..4 {
        let error = site.try_attach(&direct).await.err().unwrap();
        let stopped = matches!(&error, EndpointError::NotReady(it) if it.contains("stopped"));
        assert!(stopped, "{error:?}");
    }
    qemu.signal(Signal::SIGCONT);
    let attached = async {
        loop {
            match site.try_attach(&direct).await {
                Ok(console) => return console,
                Err(EndpointError::NotReady(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let mut console = tokio::time::timeout(SOON, attached).await.unwrap();
    console.says("(qemu)").await;
}

#[tokio::test]
async fn a_stopped_qemu_with_another_client_is_held() {
    let site = Site::new();
    let mut qemu = monitor(&on_unix(&site.socket()));
    listens(&site.socket());
    let direct = Direct::Unix(site.socket());
    let mut console = site.attach(&direct).await;
    console.says("(qemu)").await;
    qemu.signal(Signal::SIGSTOP);
    let other = Site::new();
    let error = site.try_attach(&direct).await.err().unwrap();
    assert!(matches!(error, EndpointError::HeldByOther(_)), "{error}");
    let error = other.try_attach(&direct).await.err().unwrap();
    assert!(
        matches!(error, EndpointError::Denied(_)),
        "below none of its directories: {error}"
    );
    qemu.signal(Signal::SIGCONT);
    console.write(b"info version\r").await;
    console.says("\n7.").await;
}
