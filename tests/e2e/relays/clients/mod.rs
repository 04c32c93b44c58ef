//! Three VNC clients that others wrote, each before the screen of a real Linux guest: it logs in,
//! what it types has its effect, and what it shows is the agent's own screenshot, point by point.

mod novnc;
mod tigervnc;
mod vncdotool;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use vmconsole_proto::v1;
use vmconsole_tests::client::{Attached, Client, open, relay_open};
use vmconsole_tests::process::tied;
use vmconsole_tests::qemu::{QemuOptions, Vnc};

use super::{ready, showing};
use crate::effects::picture::Picture;
use crate::effects::screenshot;
use crate::host::{BOUND, Serving, login, run};
use crate::peers::{proxy_files, python_environment, repository};
use crate::site::bare;
use crate::terminal::Piped;

/// A VNC client that does as it is told.
trait Viewer {
    /// Presses the keys of a text, Enter for a line feed.
    fn types(&mut self, text: &str);

    /// What it shows now.
    fn captures(&mut self) -> Picture;
}

/// A guest with a screen, which has a login on it.
fn with_screen(name: &str, vnc: Vnc) -> QemuOptions {
    let mut options = QemuOptions::named(name);
    (options.vga, options.vnc) = (true, Some(vnc));
    options
}

/// `vmconsolectl vnc` or `relay`, which listens.
struct Listening {
    program: Piped,
    /// The line of its standard output.
    address: String,
    _pki: TempDir,
}

/// `vmconsolectl` with what it needs to reach the agent.
fn vmconsolectl(host: &Serving) -> (Command, TempDir) {
    let pki = proxy_files(host);
    let mut command = bare();
    command.env("VMCONSOLE_PKI", pki.path());
    command.env("VMCONSOLE_AGENT", host.agent.grpc().to_string());
    (command, pki)
}

impl Listening {
    /// Starts it as soon as the guest's display is there.
    async fn start(host: &Serving, guest: &str, args: &[&str]) -> Self {
        ready(&host.client().await, guest).await;
        let (mut command, pki) = vmconsolectl(host);
        command.args(args);
        let mut program = Piped::start(command);
        program.sees("\n");
        let address = program.stdout().trim().to_owned();
        Self {
            program,
            address,
            _pki: pki,
        }
    }

    /// Ends it as its user does.
    fn interrupted(mut self) {
        self.program.process.signal(Signal::SIGINT);
        let ended = self.program.ended();
        assert_eq!(ended, Some(130), "{}", self.program.process.stderr());
    }
}

/// The environment with the clients for Python, made on the first call.
fn environment() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| python_environment("vnc"))
}

/// A client that takes orders: see `tests/vnc/orders.py`.
struct Ordered {
    program: Piped,
    /// Where it writes what it shows.
    picture: PathBuf,
    _dir: TempDir,
}

impl Ordered {
    /// Starts `tests/vnc/SCRIPT` and waits until it sees a display. Behind `args` it is given a
    /// directory of its own, if it `needs_directory`.
    fn start(script: &str, args: &[&str], needs_directory: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // In a PID namespace: what it has started ends with it, however it ends.
        let mut command = tied("unshare");
        command
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
            .arg(environment().join("bin/python"))
            .arg(repository("tests/vnc").join(script))
            .args(args)
            .env("HOME", dir.path())
            .env_remove("PYTHONPATH");
        if needs_directory {
            command.arg(dir.path());
        }
        let mut program = Piped::start(command);
        program.sees("ready\n");
        Self {
            program,
            picture: dir.path().join("screen.png"),
            _dir: dir,
        }
    }

    fn orders(&mut self, order: &str, what: &str) {
        let what = serde_json::Value::from(what);
        self.program.types(&format!("{order} {what}\n"));
        self.program.sees("done\n");
    }

    /// Ends it, as a person closes a window.
    fn closed(mut self) {
        let code = self.program.end_of_input();
        assert_eq!(code, Some(0), "{}", self.program.process.stderr());
    }
}

impl Viewer for Ordered {
    fn types(&mut self, text: &str) {
        self.orders("type", text);
    }

    fn captures(&mut self) -> Picture {
        let path = self.picture.to_str().unwrap().to_owned();
        self.orders("capture", &path);
        Picture::of_png(&std::fs::read(path).unwrap())
    }
}

/// The serial console's shell, of a guest whose screen has a login.
async fn shell(host: &Serving, client: &Client, guest: &str) -> Attached {
    let mut shell = host.shell(client, guest).await;
    screen_says(&mut shell, "guest login:").await;
    shell
}

/// What the guest itself has last on its screen.
async fn last_line(shell: &mut Attached) -> String {
    // Marked, since the serial console has prompts too. The second byte is how many columns
    // there are.
    let ask = "fold -w $(od -An -tu1 -j1 -N1 /dev/vcsa1) /dev/vcs1 | grep -v '^ *$' | \
               tail -n 1 | sed 's/^/screen: /'";
    let said = run(&mut shell.send, &mut shell.receive, ask).await;
    let mut lines = said.lines();
    let line = lines.find_map(|line| line.strip_prefix("screen: "));
    line.unwrap_or_default().trim_end().to_owned()
}

/// Waits until the guest itself has this line last on its screen.
async fn screen_says(shell: &mut Attached, line: &str) {
    let looking = async { while last_line(shell).await != line {} };
    let found = tokio::time::timeout(BOUND, looking).await;
    found.unwrap_or_else(|_| panic!("{line:?} is not on the screen"));
}

/// Logs in on the screen, and types a command whose effect is seen elsewhere.
async fn logs_in(viewer: &mut impl Viewer, shell: &mut Attached, mark: &str) {
    viewer.types("root\n");
    screen_says(shell, "Password:").await;
    viewer.types("console\n");
    screen_says(shell, "root@guest:~#").await;
    types_command(viewer, shell, mark).await;
}

/// Types a command whose effect is seen on the serial console.
async fn types_command(viewer: &mut impl Viewer, shell: &mut Attached, mark: &str) {
    viewer.types(&format!("echo \"By_{mark}\" >/dev/ttyS0\n"));
    let seen = format!("By_{mark}\r\n");
    shell.receive.read_until(seen.as_bytes(), BOUND).await;
}

/// The viewer shows what the agent's own screenshot shows, point by point, as soon as the screen
/// is still.
async fn sees_all(viewer: &mut impl Viewer, shell: &mut Attached, client: &Client, guest: &str) {
    let hide_cursor = "printf '\\033[?25l' >/dev/tty1";
    run(&mut shell.send, &mut shell.receive, hide_cursor).await;
    let mut differences = Vec::new();
    let looking = async {
        loop {
            let own = screenshot(client, guest).await.unwrap();
            let (own, shown) = (Picture::of_png(&own), viewer.captures());
            if own.size == shown.size && own.points == shown.points {
                return shown;
            }
            differences.push((own.size, shown.size));
        }
    };
    let shown = tokio::time::timeout(BOUND, looking).await;
    shown
        .unwrap_or_else(|_| panic!("other pictures: {differences:?}"))
        .has_text();
}

/// All of it, by a viewer before the guest of this name.
async fn works(viewer: &mut impl Viewer, host: &Serving, guest: &str, mark: &str) {
    let client = host.client().await;
    let mut shell = shell(host, &client, guest).await;
    logs_in(viewer, &mut shell, mark).await;
    sees_all(viewer, &mut shell, &client, guest).await;
    shell.detach(BOUND).await;
}

/// A viewer that may only look is kept from the guest, and goes on looking: what it sends is known
/// to the agent, message by message.
async fn only_watches(viewer: &mut impl Viewer, host: &Serving, guest: &str) {
    let client = host.client().await;
    let mut shell = shell(host, &client, guest).await;
    looks_on(viewer, &mut shell, &client, guest).await;
    shell.detach(BOUND).await;
}

/// A viewer that types until somebody else takes over, and then only looks: all that it had sent
/// before was known too.
async fn is_taken_over(viewer: &mut impl Viewer, host: &Serving, guest: &str) {
    let client = host.client().await;
    let mut shell = shell(host, &client, guest).await;
    viewer.types("nobody");
    screen_says(&mut shell, "guest login: nobody").await;
    let clears = "printf '\\r\\033[Kguest login: ' >/dev/tty1";
    run(&mut shell.send, &mut shell.receive, clears).await;
    let takes_over = relay_open(guest, v1::Mode::WriteTakeover);
    let (writer, _) = showing(&client, takes_over).await;
    looks_on(viewer, &mut shell, &client, guest).await;
    drop(writer);
    shell.detach(BOUND).await;
}

/// What it types before an empty login prompt is not seen there, and what is written there is.
async fn looks_on(viewer: &mut impl Viewer, shell: &mut Attached, client: &Client, guest: &str) {
    // The second picture is one that was asked for after the keys: they had come by then.
    for said in ["first", "second"] {
        viewer.types("root\n");
        let says = format!("echo -n {said} >/dev/tty1");
        run(&mut shell.send, &mut shell.receive, &says).await;
        sees_all(viewer, shell, client, guest).await;
    }
    assert_eq!(last_line(shell).await, "guest login: firstsecond");
}

/// A viewer that has logged in sees the guest start again, through every size of its screen.
async fn sees_a_reboot(viewer: &mut impl Viewer, host: &Serving, guest: &str) {
    let client = host.client().await;
    let mut shell = host
        .attach(&client, open(guest, v1::Mode::WriteIfFree))
        .await;
    viewer.types("reboot -f\n");
    login(&mut shell.send, &mut shell.receive).await;
    screen_says(&mut shell, "guest login:").await;
    logs_in(viewer, &mut shell, "again").await;
    sees_all(viewer, &mut shell, &client, guest).await;
    shell.detach(BOUND).await;
}
