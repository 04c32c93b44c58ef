//! Child processes that end with the test: killed and reaped on drop, killed by
//! the kernel when the test process itself dies. It refuses to start one whose
//! standard error nobody could read afterwards.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{setup, wait};

/// Spawn requests that may wait for the one thread that carries them out.
const SPAWN_QUEUE: usize = 16;

/// How much of a failed child's standard error is printed.
const STDERR_TAIL: usize = 16 * 1024;

/// How long a killed child may take to be gone.
const REAP_BOUND: Duration = Duration::from_secs(10);

/// What cargo sets for the test's own libraries is no business of another program.
pub(crate) const LOADER_PATH: &str = "LD_LIBRARY_PATH";

/// A command for `program` that the kernel kills when the test process dies.
/// Standard input and output are closed to it until the caller sets them.
pub fn tied(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(setup::program("setpriv"));
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .env_remove(LOADER_PATH);
    command
}

/// A running child process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stderr: Captured,
}

impl Process {
    /// Starts `command`, with its standard error going to a file.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(name: impl Into<String>, mut command: Command) -> Self {
        let name = name.into();
        let (stderr, to_it) = Captured::new();
        command.stderr(to_it);
        let child = spawn_from_lasting_thread(command)
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self {
            name,
            child,
            stderr,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id fits"))
    }

    /// Its standard input, if the command asked for a pipe and nobody took it yet.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Its standard output, if the command asked for a pipe and nobody took it yet.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Its exit status, or `None` while it runs.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .expect("a child of ours can be waited for")
    }

    /// Waits until it has exited.
    ///
    /// # Panics
    /// When it has not within `bound`.
    #[track_caller]
    pub fn wait(&mut self, bound: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait::value(&what, bound, || self.try_wait())
    }

    /// Sends it a signal. One that has already ended is left alone.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn signal(&mut self, signal: Signal) {
        if self.try_wait().is_none() {
            kill(self.pid(), signal).unwrap_or_else(|error| panic!("{signal} to it: {error}"));
        }
    }

    /// Kills it with SIGKILL and reaps it.
    ///
    /// # Panics
    /// When it is not gone within 10 s.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.wait(REAP_BOUND)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.try_wait();
        if ended.is_none() {
            // Neither can be helped here, and a panic in a drop would hide the cause.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let text = self.stderr();
            let mut begin = text.len().saturating_sub(STDERR_TAIL);
            while !text.is_char_boundary(begin) {
                begin += 1;
            }
            let ended = ended.map_or("was running".into(), |status: ExitStatus| describe(status));
            eprintln!(
                "--- {} ({ended}), standard error:\n{}",
                self.name,
                &text[begin..]
            );
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

type Reply = SyncSender<std::io::Result<Child>>;

/// The kernel sends the parent-death signal when the *thread* that started the
/// child ends, and a test's thread ends before what tests share. So one thread
/// that lasts as long as the process starts them all.
fn spawn_from_lasting_thread(command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<SyncSender<(Command, Reply)>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (send, receive) = sync_channel::<(Command, Reply)>(SPAWN_QUEUE);
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, reply) in receive {
                    // Nobody waits for the answer when the asking test has ended.
                    let _ = reply.send(command.spawn());
                }
            })
            .expect("a thread can be started");
        send
    });
    let (reply, answer) = sync_channel(1);
    spawner.send((command, reply)).expect("the spawner lasts");
    answer.recv().expect("the spawner answers")
}

/// What a child writes to one of its outputs, in a file without a name: it is
/// gone with the last process that holds it.
#[derive(Debug)]
pub struct Captured(File);

impl Captured {
    /// An empty one, and what to give the command as its output.
    ///
    /// # Panics
    /// When there is no room for temporary files.
    pub fn new() -> (Self, Stdio) {
        let file = tempfile::tempfile().expect("a temporary file");
        let to_it = file.try_clone().expect("a descriptor can be cloned");
        (Self(file), to_it.into())
    }

    /// What was written so far; what is not UTF-8 is replaced.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn text(&self) -> String {
        let length = self.0.metadata().expect("an open file has metadata").len();
        let mut bytes = vec![0; usize::try_from(length).expect("it fits into memory")];
        // By position: the child writes at the offset that both descriptors share.
        self.0
            .read_exact_at(&mut bytes, 0)
            .expect("what was written can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests;
