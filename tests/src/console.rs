//! A guest's console by way of `virsh console` on a PTY of the test's own: what
//! an operator without the agent would see.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::dialogue::{Dialogue, Line};
use crate::guest::Guest;
use crate::libvirtd::Libvirtd;
use crate::process::{Process, tied};
use crate::{ready, setup, wait};

pub use crate::dialogue::PROMPT;

/// How long virsh may take to connect.
const CONNECT_BOUND: Duration = Duration::from_secs(60);

/// A conversation over a `virsh console`.
pub type VirshConsole = Dialogue<VirshTerminal>;

/// A `virsh console` that is attached to one console of a guest.
#[derive(Debug)]
pub struct VirshTerminal {
    virsh: Process,
    terminal: File,
}

impl VirshConsole {
    /// Attaches to the console of this alias and waits until virsh takes input.
    ///
    /// # Panics
    /// When virsh cannot connect, with what it said. That the console itself is
    /// refused, virsh says only afterwards: the next wait then panics.
    pub fn open(libvirtd: &Libvirtd, guest: &Guest, alias: &str) -> Self {
        Self::open_with(libvirtd, guest, alias, &[])
    }

    /// As [`Self::open`], with further options of `virsh console`, such as `--force`.
    ///
    /// # Panics
    /// As [`Self::open`].
    pub fn open_with(libvirtd: &Libvirtd, guest: &Guest, alias: &str, more: &[&str]) -> Self {
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
            .args(more)
            .stdin(slave())
            .stdout(slave());
        let virsh = Process::spawn(format!("virsh console {alias}"), command);
        drop(pty.slave);
        let terminal = File::from(pty.master);
        let mut console = Self::over(VirshTerminal { virsh, terminal });
        console.wait_for("Escape character is", CONNECT_BOUND);
        console.wait_for("\n", CONNECT_BOUND);
        // virsh says so first, and throws away what was typed when it then takes
        // its terminal over.
        wait::until("virsh to take its terminal over", CONNECT_BOUND, || {
            console.line().is_raw()
        });
        console
    }
}

impl VirshTerminal {
    /// virsh's process id.
    pub fn pid(&self) -> u32 {
        self.virsh.pid().as_raw().cast_unsigned()
    }

    /// Whether virsh has turned line editing off; the PTY's two sides share that.
    fn is_raw(&self) -> bool {
        let settings = tcgetattr(&self.terminal).expect("a PTY has terminal settings");
        !settings.local_flags.contains(LocalFlags::ICANON)
    }
}

impl Line for VirshTerminal {
    fn send(&mut self, bytes: &[u8]) {
        self.terminal
            .write_all(bytes)
            .expect("virsh reads its terminal");
    }

    fn receive(&mut self, bound: Duration) -> Result<Vec<u8>, String> {
        match ready::read(&mut self.terminal, bound) {
            ready::Read::Bytes(bytes) => Ok(bytes),
            ready::Read::Nothing => Ok(Vec::new()),
            ready::Read::Ended => Err(format!("virsh ended: {}", self.virsh.stderr())),
        }
    }
}
