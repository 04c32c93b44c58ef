//! TigerVNC's viewer on an X server that nobody sees, started by `vmconsolectl vnc --viewer`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use vmconsole_tests::process::{Process, tied};
use vmconsole_tests::qemu::Vnc;
use vmconsole_tests::{setup, wait};

use super::{
    Viewer, is_taken_over, only_watches, ready, sees_a_reboot, vmconsolectl, with_screen, works,
};
use crate::effects::picture::Picture;
use crate::host::{BOUND, QemuHost, Serving};
use crate::terminal::Piped;

/// Two X servers that look for a free number while one ends may both find the same.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The viewer's window on its screen.
struct Window {
    display: String,
    id: String,
    picture: PathBuf,
}

/// An X server of its own, and the display's name.
fn x_server(dir: &Path) -> (Process, String) {
    let file = dir.join("display");
    let mut command = tied("sh");
    // It tells the number that it found free. One that starts anew when its last client has gone
    // closes the connections that come meanwhile: the viewer's, where a search has just ended.
    let script = format!(
        "exec {} -displayfd 3 -screen 0 1280x1024x24 -nolisten tcp -noreset 3>{}",
        setup::program("Xvfb").display(),
        file.display()
    );
    command.args(["-c", &script]);
    let process = Process::spawn("Xvfb", command);
    let number = wait::value("the X server", BOUND, || {
        let told = std::fs::read_to_string(&file).ok()?;
        told.ends_with('\n').then(|| told.trim().to_owned())
    });
    (process, format!(":{number}"))
}

/// A program of X's, which is ended if it waits for what does not come.
fn on(display: &str, program: &str) -> Command {
    let mut command = tied(setup::program("timeout"));
    command.arg(BOUND.as_secs().to_string());
    command.arg(setup::program(program));
    command.env("DISPLAY", display);
    command
}

/// The window of such a name, if there is one.
fn shown(display: &str, name: &str) -> Option<String> {
    let mut search = on(display, "xdotool");
    search.args(["search", "--onlyvisible", "--name", name]);
    let found = search.stdout(Stdio::piped()).output().unwrap().stdout;
    let found = String::from_utf8(found).unwrap();
    found.lines().next().map(str::to_owned)
}

impl Window {
    /// Waits until the viewer shows the guest of this name, and has the keyboard.
    fn of(display: String, guest: &str, dir: &TempDir) -> Self {
        let name = format!("{guest}.* - TigerVNC");
        let id = wait::value("the viewer's window", BOUND, || shown(&display, &name));
        let window = Self {
            display,
            id,
            picture: dir.path().join("screen.png"),
        };
        // Told to wait for it, xdotool would wait for ever where another window has it by then.
        wait::until("the viewer to have the keyboard", BOUND, || {
            window.xdotool(&["windowfocus", &window.id]) && window.is_focused()
        });
        window
    }

    fn is_gone(&self) -> bool {
        shown(&self.display, " - TigerVNC").is_none()
    }

    fn is_focused(&self) -> bool {
        let mut ask = on(&self.display, "xdotool");
        ask.args(["getwindowfocus", "-f"]).stdout(Stdio::piped());
        let told = ask.output().unwrap().stdout;
        String::from_utf8_lossy(&told).trim() == self.id
    }

    /// Whether it could be done.
    fn xdotool(&self, args: &[&str]) -> bool {
        let done = on(&self.display, "xdotool").args(args).output().unwrap();
        done.status.success()
    }

    #[track_caller]
    fn presses(&self, args: &[&str]) {
        assert!(self.xdotool(args), "{args:?}");
    }
}

impl Viewer for Window {
    fn types(&mut self, text: &str) {
        for (at, line) in text.split('\n').enumerate() {
            if at > 0 {
                self.presses(&["key", "Return"]);
            }
            if !line.is_empty() {
                self.presses(&["type", "--delay", "20", line]);
            }
        }
    }

    fn captures(&mut self) -> Picture {
        let mut import = on(&self.display, "import");
        import.args(["-silent", "-window", &self.id]);
        import.arg(format!("PNG24:{}", self.picture.display()));
        let done = import.output().unwrap();
        assert!(done.status.success(), "{done:?}");
        Picture::of_png(&std::fs::read(&self.picture).unwrap())
    }
}

/// The viewer's window, what has started it, and where it is shown.
struct Started {
    window: Window,
    program: Piped,
    x_server: Process,
    _dirs: [TempDir; 2],
    /// Goes last.
    _alone: MutexGuard<'static, ()>,
}

impl Started {
    /// By `vmconsolectl vnc --viewer` with further arguments.
    async fn start(host: &Serving, guest: &str, more: &[&str]) -> Self {
        let alone = ONE_AT_A_TIME.lock().await;
        ready(&host.client().await, guest).await;
        let dir = tempfile::tempdir().unwrap();
        let (x_server, display) = x_server(dir.path());
        let (mut command, pki) = vmconsolectl(host);
        command.args(["vnc", guest, "--viewer"]).args(more);
        command.env("DISPLAY", &display).env("HOME", dir.path());
        let program = Piped::start(command);
        Self {
            window: Window::of(display, guest, &dir),
            program,
            x_server,
            _dirs: [dir, pki],
            _alone: alone,
        }
    }

    async fn interrupted(mut self, host: &Serving) {
        self.program.process.signal(Signal::SIGINT);
        let ended = self.program.ended();
        assert_eq!(ended, Some(130), "{}", self.program.process.stderr());
        // It takes its viewer with it.
        assert!(self.window.is_gone());
        // An X server that is killed leaves its lock behind.
        self.x_server.signal(Signal::SIGTERM);
        self.x_server.wait(BOUND);
        host.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tigervnc_logs_in_and_sees_what_is_there() {
    let host = QemuHost::start();
    let guest = host.guest(with_screen("tiger", Vnc::Unix));
    let mut started = Started::start(&host, guest.name(), &[]).await;
    works(&mut started.window, &host, guest.name(), "TigerVNC").await;
    sees_a_reboot(&mut started.window, &host, guest.name()).await;
    started.interrupted(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tigervnc_that_may_only_look_goes_on_looking() {
    let host = QemuHost::start();
    let guest = host.guest(with_screen("tiger", Vnc::Unix));
    let more = ["--view-only", "--no-clipboard"];
    let mut started = Started::start(&host, guest.name(), &more).await;
    only_watches(&mut started.window, &host, guest.name()).await;
    started.interrupted(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tigervnc_that_is_taken_over_goes_on_looking() {
    let host = QemuHost::start();
    let guest = host.guest(with_screen("tiger", Vnc::Unix));
    let mut started = Started::start(&host, guest.name(), &[]).await;
    is_taken_over(&mut started.window, &host, guest.name()).await;
    started.interrupted(&host).await;
}
