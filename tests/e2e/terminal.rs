//! A program between pipes or on a PTY, as a script or a person has it before them. It types
//! and looks, and checks what a terminal is left like.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::fcntl::{F_GETFL, OFlag, fcntl};
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use vmconsole_tests::process::{Captured, Process};
use vmconsole_tests::wait;

use crate::host::BOUND;

/// Waits until `text` stands behind the first `seen` bytes of what `shown` returns, and moves
/// `seen` behind it.
#[track_caller]
fn wait_for(text: &str, seen: &mut usize, process: &Process, mut shown: impl FnMut() -> String) {
    let found = wait::try_value(BOUND, || {
        Some(*seen + shown()[*seen..].find(text)? + text.len())
    });
    *seen = found.unwrap_or_else(|| {
        let (shown, stderr) = (shown(), process.stderr());
        panic!("waited {BOUND:?} in vain for {text:?} after {shown:?}; it said {stderr:?}")
    });
}

/// A program whose standard input and output are pipes, or as good as.
pub(crate) struct Piped {
    pub(crate) process: Process,
    stdin: Option<ChildStdin>,
    stdout: Captured,
    seen: usize,
}

impl Piped {
    pub(crate) fn start(mut command: Command) -> Self {
        let (stdout, to_it) = Captured::new();
        command.stdin(Stdio::piped()).stdout(to_it);
        let mut process = Process::spawn("vmconsolectl", command);
        let stdin = process.take_stdin();
        Self {
            process,
            stdin,
            stdout,
            seen: 0,
        }
    }

    pub(crate) fn types(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("it is not ended");
        stdin.write_all(text.as_bytes()).expect("it is read");
    }

    /// Waits until `text` comes after what was seen before.
    #[track_caller]
    pub(crate) fn sees(&mut self, text: &str) {
        wait_for(text, &mut self.seen, &self.process, || self.stdout.text());
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Ends its standard input, waits for its end, and returns the exit code.
    #[track_caller]
    pub(crate) fn end_of_input(&mut self) -> Option<i32> {
        drop(self.stdin.take());
        self.ended()
    }

    /// Waits for its end, and returns the exit code.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.process.wait(BOUND).code()
    }
}

/// A program whose standard input and output are a PTY. Its standard error is kept apart.
pub(crate) struct Terminal {
    pub(crate) process: Process,
    keyboard: File,
    line: OwnedFd,
    before: Termios,
    shown: Arc<Mutex<Vec<u8>>>,
    seen: usize,
}

impl Terminal {
    pub(crate) fn start(mut command: Command) -> Self {
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let side = || pty.slave.try_clone().unwrap();
        command.stdin(side()).stdout(side());
        let process = Process::spawn("vmconsolectl on a terminal", command);
        let mut screen = File::from(pty.master);
        let keyboard = screen.try_clone().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let reader = Arc::clone(&shown);
        // Ends when the other side is closed: the program's and, on drop, ours.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                reader.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self {
            process,
            keyboard,
            line: pty.slave,
            before,
            shown,
            seen: 0,
        }
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until `text` stands on the screen after what was seen before.
    #[track_caller]
    pub(crate) fn sees(&mut self, text: &str) {
        let shown = || String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned();
        wait_for(text, &mut self.seen, &self.process, shown);
    }

    /// Waits until the program has said `text`.
    #[track_caller]
    pub(crate) fn is_told(&self, text: &str) {
        wait::until(&format!("{text:?} to be told"), BOUND, || {
            self.process.stderr().contains(text)
        });
    }

    /// Waits until the program has its terminal to itself: keys come one by one, unechoed.
    #[track_caller]
    pub(crate) fn is_taken_over(&self) {
        let cooked = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        wait::until("the terminal to be raw", BOUND, || {
            !tcgetattr(&self.line)
                .unwrap()
                .local_flags
                .intersects(cooked)
        });
    }

    /// Waits for its end, checks that the terminal is as it was before, and returns the exit
    /// code.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let code = self.process.wait(BOUND).code();
        assert_eq!(tcgetattr(&self.line).unwrap(), self.before, "its settings");
        let flags = OFlag::from_bits_retain(fcntl(&self.line, F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK));
        code
    }
}
