//! noVNC in a browser, behind websockify before `vmconsolectl relay`, as nova has it.

use std::net::{TcpListener, TcpStream};

use tempfile::TempDir;
use vmconsole_tests::guest::VNC0;
use vmconsole_tests::process::{Process, tied};
use vmconsole_tests::qemu::Vnc;
use vmconsole_tests::{setup, wait};

use super::{Listening, Ordered, is_taken_over, only_watches, sees_a_reboot, with_screen, works};
use crate::host::{BOUND, QemuHost, Serving};

/// Where Debian has noVNC's pages.
const PAGES: &str = "/usr/share/novnc";

/// A websockify before the unix socket, and the port where it serves the pages too.
fn websockify(socket: &str) -> (Process, u16) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut command = tied(setup::program("websockify"));
    command.arg(format!("--web={PAGES}"));
    command.arg(format!("--unix-target={socket}"));
    command.arg(format!("127.0.0.1:{port}"));
    let process = Process::spawn("websockify", command);
    wait::until("websockify to listen", BOUND, || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    (process, port)
}

/// A browser, what is before it, and what stands between.
struct Browser {
    viewer: Ordered,
    listening: Listening,
    _websockify: Process,
    _dir: TempDir,
}

impl Browser {
    /// Before this guest's display, by `vmconsolectl relay` with further arguments.
    async fn start(host: &Serving, guest: &str, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = format!("unix:{}/relay", dir.path().display());
        let args = ["relay", guest, "--console", VNC0, "--listen", &listen];
        let listening = Listening::start(host, guest, &[&args, more].concat()).await;
        assert_eq!(listening.address, listen);
        let (websockify, port) = websockify(listen.strip_prefix("unix:").unwrap());
        let page = format!("http://127.0.0.1:{port}/vnc_lite.html");
        Self {
            viewer: Ordered::start("browser.py", &[&page], true),
            listening,
            _websockify: websockify,
            _dir: dir,
        }
    }

    async fn closed(self, host: &Serving) {
        self.viewer.closed();
        self.listening.interrupted();
        host.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn novnc_in_a_browser_logs_in_and_sees_what_is_there() {
    let host = QemuHost::start();
    let guest = host.guest(with_screen("novnc", Vnc::Nowhere));
    let mut browser = Browser::start(&host, guest.name(), &[]).await;
    works(&mut browser.viewer, &host, guest.name(), "noVNC").await;
    sees_a_reboot(&mut browser.viewer, &host, guest.name()).await;
    browser.closed(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn novnc_that_may_only_look_goes_on_looking() {
    let host = QemuHost::start();
    let guest = host.guest(with_screen("novnc", Vnc::Nowhere));
    let more = ["--view-only", "--no-clipboard"];
    let mut browser = Browser::start(&host, guest.name(), &more).await;
    only_watches(&mut browser.viewer, &host, guest.name()).await;
    browser.closed(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn novnc_that_is_taken_over_goes_on_looking() {
    let host = QemuHost::start();
    let guest = host.guest(with_screen("novnc", Vnc::Nowhere));
    let mut browser = Browser::start(&host, guest.name(), &[]).await;
    is_taken_over(&mut browser.viewer, &host, guest.name()).await;
    browser.closed(&host).await;
}
