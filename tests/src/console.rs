//! A guest's console by way of `virsh console` on a PTY of the test's own: what
//! an operator without the agent would see. It interprets no escape sequences.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::guest::Guest;
use crate::libvirtd::Libvirtd;
use crate::process::{Process, tied};
use crate::{setup, wait};

/// How long virsh may take to connect.
const CONNECT_BOUND: Duration = Duration::from_secs(60);

/// How long a key may go unanswered before it is pressed again.
const ANSWER_BOUND: Duration = Duration::from_secs(2);

/// How long a step of a login may take on a busy machine.
const LOGIN_STEP_BOUND: Duration = Duration::from_secs(60);

/// The prompt of the guest's shell in root's home directory.
pub const PROMPT: &str = "root@guest:~# ";

/// A `virsh console` that is attached to one console of a guest.
#[derive(Debug)]
pub struct VirshConsole {
    virsh: Process,
    terminal: File,
    seen: Vec<u8>,
    taken: usize,
}

impl VirshConsole {
    /// Attaches to the console of this alias and waits until virsh takes input.
    ///
    /// # Panics
    /// When virsh cannot connect, with what it said. That the console itself is
    /// refused, virsh says only afterwards: the next wait then panics.
    pub fn open(libvirtd: &Libvirtd, guest: &Guest, alias: &str) -> Self {
        let pty = openpty(None, None).expect("a PTY can be had");
        let slave = || pty.slave.try_clone().expect("a descriptor can be cloned");
        let mut command = tied(setup::program("virsh"));
        command
            .args([
                "--connect",
                &libvirtd.uri(),
                "console",
                guest.name(),
                "--devname",
                alias,
            ])
            .stdin(slave())
            .stdout(slave());
        let virsh = Process::spawn(format!("virsh console {alias}"), command);
        drop(pty.slave);
        let terminal = File::from(pty.master);
        let mut console = Self {
            virsh,
            terminal,
            seen: Vec::new(),
            taken: 0,
        };
        console.wait_for("Escape character is", CONNECT_BOUND);
        console.wait_for("\n", CONNECT_BOUND);
        // virsh says so first, and throws away what was typed when it then takes
        // its terminal over.
        wait::until("virsh to take its terminal over", CONNECT_BOUND, || {
            console.is_raw()
        });
        console
    }

    /// Types `text`.
    ///
    /// # Panics
    /// When virsh has ended.
    pub fn send(&mut self, text: &str) {
        self.terminal
            .write_all(text.as_bytes())
            .expect("virsh reads its terminal");
    }

    /// Waits until `text` appears after what was waited for before, and returns
    /// all between, with `text` at its end.
    ///
    /// # Panics
    /// When it does not within `bound` or virsh ends, with all that was seen.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str, bound: Duration) -> String {
        match self.try_wait_for(text, bound) {
            Some(found) => found,
            None => panic!(
                "waited {bound:?} in vain for {text:?} after:\n{}",
                self.transcript()
            ),
        }
    }

    /// As [`Self::wait_for`], but `None` when the time is up.
    ///
    /// # Panics
    /// When virsh ends, with all that was seen.
    #[track_caller]
    pub fn try_wait_for(&mut self, text: &str, bound: Duration) -> Option<String> {
        let deadline = Instant::now() + bound;
        loop {
            let new = &self.seen[self.taken..];
            if let Some(at) = new
                .windows(text.len())
                .position(|part| part == text.as_bytes())
            {
                let end = at + text.len();
                let found = String::from_utf8_lossy(&new[..end]).into_owned();
                self.taken += end;
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !self.read(left) {
                return None;
            }
        }
    }

    /// Logs in at the guest's login prompt, which may still be to come, and
    /// waits for the shell's prompt. `bound` is for the guest to boot.
    ///
    /// # Panics
    /// When the guest does not let us in.
    #[track_caller]
    pub fn login(&mut self, bound: Duration) {
        self.wait_for_login_prompt(bound);
        self.send("root\r");
        self.wait_for("Password:", LOGIN_STEP_BOUND);
        self.send("console\r");
        self.wait_for(PROMPT, LOGIN_STEP_BOUND);
    }

    /// Waits for the login prompt, pressing Enter, as a person would: it may have
    /// been printed before anyone was attached.
    ///
    /// # Panics
    /// When there is none within `bound`.
    #[track_caller]
    pub fn wait_for_login_prompt(&mut self, bound: Duration) {
        let deadline = Instant::now() + bound;
        while self.try_wait_for("guest login:", ANSWER_BOUND).is_none() {
            assert!(
                Instant::now() < deadline,
                "no login prompt after:\n{}",
                self.transcript()
            );
            self.send("\r");
        }
    }

    /// Runs `command` in the guest's shell and returns what it printed.
    ///
    /// # Panics
    /// When the prompt does not come back within `bound`.
    #[track_caller]
    pub fn run(&mut self, command: &str, bound: Duration) -> String {
        self.send(&format!("{command}\r"));
        let said = self.wait_for(PROMPT, bound);
        let said = said.strip_suffix(PROMPT).unwrap_or(&said);
        said.split_once("\r\n")
            .map_or("", |(_echo, output)| output)
            .replace("\r\n", "\n")
    }

    /// All that was seen since it was opened.
    pub fn transcript(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Whether virsh has turned line editing off; the PTY's two sides share that.
    fn is_raw(&self) -> bool {
        let settings = tcgetattr(&self.terminal).expect("a PTY has terminal settings");
        !settings.local_flags.contains(LocalFlags::ICANON)
    }

    /// Reads what has come; false when nothing did for `bound`.
    #[track_caller]
    fn read(&mut self, bound: Duration) -> bool {
        let timeout = PollTimeout::try_from(bound).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, timeout) {
            Ok(0) => return false,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
        let mut chunk = [0; 4096];
        match self.terminal.read(&mut chunk) {
            Ok(0) => self.fail_as_ended(),
            Ok(count) => self.seen.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A PTY answers so when its other side is closed.
            Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => self.fail_as_ended(),
            Err(error) => panic!("cannot read virsh's terminal: {error}"),
        }
        true
    }

    #[track_caller]
    fn fail_as_ended(&self) -> ! {
        panic!(
            "virsh ended: {}\nafter:\n{}",
            self.virsh.stderr(),
            self.transcript()
        )
    }
}
