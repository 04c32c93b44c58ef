//! Running the built program, with pipes or on a PTY, never longer than a bound.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;

/// How long anything may take; far above what it does take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The program with no settings but these.
pub(crate) fn vmconsolectl(pki: &Path, agent: SocketAddr) -> Command {
    let mut command = bare();
    command
        .env("VMCONSOLE_PKI", pki)
        .env("VMCONSOLE_AGENT", agent.to_string());
    command
}

/// The program with no settings at all.
pub(crate) fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmconsolectl"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VMCONSOLE_") {
            command.env_remove(name);
        }
    }
    command.env_remove("HOME");
    command
}

/// The command as `"$@"` of a script, whose shell has the terminal it is started on for its
/// own and runs jobs as it does for a person.
pub(crate) fn under_a_shell(command: &Command, script: &str) -> Command {
    let mut shell = Command::new("setsid");
    shell.args(["--ctty", "bash", "-c", &format!("set -m; {script}"), "bash"]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Certificates made by the program itself, and the directory that keeps them.
pub(crate) fn pki() -> (tempfile::TempDir, PathBuf) {
    pki_with(&[])
}

/// As [`pki`], with further options of `pki init`.
pub(crate) fn pki_with(options: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("pki");
    let made = bare()
        .args(["pki", "init"])
        .arg(&directory)
        .args(options)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    (root, directory)
}

/// An address that nobody listens on.
pub(crate) fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// A program between pipes.
pub(crate) struct Piped {
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    stderr: ChildStderr,
}

impl Piped {
    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        Self {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr,
            child,
        }
    }

    /// Writes all of stdin on a thread, and ends it.
    pub(crate) fn feed(&mut self, bytes: Vec<u8>) -> JoinHandle<()> {
        let mut stdin = self.stdin.take().unwrap();
        // The program may leave before it has read all; tests look at what arrived.
        std::thread::spawn(move || drop(stdin.write_all(&bytes)))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Takes stdout's first line, and leaves the rest to nobody.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.stdout.take().unwrap();
        let (read, come) = sync_channel(1);
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            stdout.read_line(&mut line).unwrap();
            // Nobody waits for a line that came too late.
            let _ = read.send(line);
        });
        let line = come.recv_timeout(LIMIT).expect("nothing on stdout");
        line.trim_end().to_owned()
    }

    /// Waits for the end; stdin that was not fed stays open until then.
    pub(crate) fn end(mut self) -> Ended {
        let stdout = self
            .stdout
            .take()
            .map(|stdout| read_all(File::from(OwnedFd::from(stdout))));
        let stderr = read_all(File::from(OwnedFd::from(self.stderr)));
        let status = wait(self.child);
        drop(self.stdin);
        let stdout = stdout
            .map(|reader| reader.join().unwrap())
            .unwrap_or_default();
        let stderr = String::from_utf8(stderr.join().unwrap()).unwrap();
        Ended {
            code: status.code(),
            stdout,
            stderr,
        }
    }
}

fn read_all(mut file: File) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        file.read_to_end(&mut all).unwrap();
        all
    })
}

/// Waits for a child, and kills it when it takes too long.
fn wait(mut child: Child) -> ExitStatus {
    let pid = Pid::from_raw(child.id() as i32);
    let (ended, end) = sync_channel(1);
    let waiter = std::thread::spawn(move || ended.send(child.wait().unwrap()));
    let status = end.recv_timeout(LIMIT);
    if status.is_err() {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    // Nobody waits for a status that came too late.
    let _ = waiter.join().unwrap();
    status.expect("the program did not end")
}

/// A program on a PTY.
pub(crate) struct OnTerminal {
    child: Option<Child>,
    keyboard: File,
    slave: OwnedFd,
    before: Termios,
    screen: Option<Receiver<Vec<u8>>>,
    master: Option<File>,
    shown: String,
}

impl OnTerminal {
    /// Starts the program with all three handles on a new PTY. The screen is read from the
    /// start unless [`OnTerminal::start_stuck`] is used.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut on = Self::start_stuck(command);
        on.read_screen();
        on
    }

    /// The same with a screen that takes nothing.
    pub(crate) fn start_stuck(command: &mut Command) -> Self {
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let side = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = command
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .unwrap();
        // The handles in `command` would keep the PTY open.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let master = File::from(pty.master);
        let keyboard = master.try_clone().unwrap();
        Self {
            child: Some(child),
            keyboard,
            slave: pty.slave,
            before,
            screen: None,
            master: Some(master),
            shown: String::new(),
        }
    }

    /// Begins to read the screen.
    pub(crate) fn read_screen(&mut self) {
        let mut master = self.master.take().unwrap();
        let (shown, screen) = sync_channel(1024);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = master.read(&mut buffer) {
                if shown.send(buffer[..len].to_vec()).is_err() {
                    return;
                }
            }
        });
        self.screen = Some(screen);
    }

    pub(crate) fn type_keys(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().unwrap().id() as i32)
    }

    /// Reads the screen until the text stands there, and returns all up to now.
    pub(crate) fn sees(&mut self, text: &str) -> &str {
        let until = Instant::now() + LIMIT;
        while !self.shown.contains(text) {
            let left = until.saturating_duration_since(Instant::now());
            let more = self.screen.as_ref().unwrap().recv_timeout(left);
            let more = more.unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&more));
        }
        &self.shown
    }

    /// Whether keys come one by one and without echo.
    pub(crate) fn is_raw(&self) -> bool {
        let flags = tcgetattr(&self.slave).unwrap().local_flags;
        !flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    /// Waits for the terminal to be made raw by a program that goes on.
    pub(crate) fn until_raw(&self) {
        let until = Instant::now() + LIMIT;
        while !self.is_raw() {
            assert!(Instant::now() < until, "the terminal was not made raw");
            std::thread::yield_now();
        }
    }

    /// Whether the settings are those of before the start.
    pub(crate) fn is_restored(&self) -> bool {
        let flags = nix::fcntl::fcntl(&self.slave, nix::fcntl::F_GETFL).unwrap();
        let blocking = flags & nix::fcntl::OFlag::O_NONBLOCK.bits() == 0;
        blocking && tcgetattr(&self.slave).unwrap() == self.before
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for the end, and checks that the terminal is as it was.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let status = wait(self.child.take().unwrap());
        assert!(self.is_restored(), "the terminal was not restored");
        status.code()
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A test that failed half-way leaves nothing running.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
