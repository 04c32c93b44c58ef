//! Each kind of endpoint carries what is typed and what is answered, and ends with its QEMU.

use nix::sys::signal::Signal;
use vmconsole_agent::endpoint::{Direct, EndpointEnd, EndpointError};
use vmconsole_tests::process::Process;

use crate::console::{Console, Site, listens, monitor, on_tcp, on_unix, terminal_of};

/// Talks to the monitor, then ends its QEMU by `signal`, which is told as `end`.
async fn talks_and_ends(
    mut console: Console,
    mut qemu: Process,
    signal: Signal,
    end: EndpointEnd,
) -> Console {
    console.says("(qemu)").await;
    console.write(b"info name\rinfo version\r").await;
    console.says("\n7.").await;
    let unread = console.attachment.unread();
    assert!(unread.is_none_or(|unread| unread == 0), "{unread:?}");
    qemu.signal(signal);
    let came = console.until(|came| !came.ends.is_empty()).await;
    assert_eq!(came.ends, [end]);
    console
}

#[tokio::test]
async fn a_unix_socket() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let site = Site::new();
        let qemu = monitor(&on_unix(&site.socket()));
        listens(&site.socket());
        let direct = Direct::Unix(site.socket());
        let console = site.attach(&direct).await;
        talks_and_ends(console, qemu, signal, EndpointEnd::Eof).await;
        let again = site.try_attach(&direct).await.err().unwrap();
        assert!(matches!(again, EndpointError::NotReady(_)), "{again}");
    }
}

#[tokio::test]
async fn a_terminal() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let site = Site::new();
        let mut qemu = monitor("pty,id=c0");
        let direct = Direct::Pty(terminal_of(&mut qemu));
        // Attached again, it is as good as at first.
        let first = site.attach(&direct).await;
        first.attachment.detach().await;
        let console = site.attach(&direct).await;
        talks_and_ends(console, qemu, signal, EndpointEnd::HungUp).await;
        let again = site.try_attach(&direct).await.err().unwrap();
        assert!(matches!(again, EndpointError::NotReady(_)), "{again}");
    }
}

/// Attaches once QEMU listens.
async fn attach_tcp(site: &Site, direct: &Direct) -> Console {
    loop {
        match site.try_attach(direct).await {
            Ok(console) => return console,
            Err(EndpointError::NotReady(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn tcp() {
    let site = Site::new();
    let (chardev, direct) = on_tcp(false);
    let qemu = monitor(&chardev);
    let mut console = attach_tcp(&site, &direct).await;
    let unsupported = console.attachment.send_break().await.unwrap_err();
    assert!(matches!(unsupported, EndpointError::Unsupported(_)));
    talks_and_ends(console, qemu, Signal::SIGTERM, EndpointEnd::Eof).await;
}

#[tokio::test]
async fn telnet() {
    let site = Site::new();
    let (chardev, direct) = on_tcp(true);
    let qemu = monitor(&chardev);
    let mut console = attach_tcp(&site, &direct).await;
    console.attachment.send_break().await.unwrap();
    let console = talks_and_ends(console, qemu, Signal::SIGTERM, EndpointEnd::Eof).await;
    let came = console.came.borrow();
    assert!(
        !came.bytes.contains(&0xff),
        "telnet's own: {:?}",
        came.bytes
    );
}
