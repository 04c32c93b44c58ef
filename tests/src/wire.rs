//! The far end of a guest's console, opened by the test itself with nothing between: what
//! the agent would open, without the agent.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use crate::dialogue::{Dialogue, Line};
use crate::qemu::Far;
use crate::ready;

/// How long the guest may take to take what is typed.
const WRITE_BOUND: Duration = Duration::from_secs(60);

/// What the kernel keeps of what comes by TCP and was not read, in bytes.
const TCP_BUFFER: usize = 16 * 1024;

/// Telnet's "interpret as command".
const IAC: u8 = 255;
/// Begins a subnegotiation.
const SB: u8 = 250;
/// The first of the commands that are followed by an option.
const WILL: u8 = 251;
/// Ends a subnegotiation.
const SE: u8 = 240;

/// A conversation over a far end.
pub type WireConsole = Dialogue<Wire>;

impl WireConsole {
    /// Begins one.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn open(far: &Far) -> Self {
        Self::over(Wire::open(far))
    }
}

/// An opened far end. Dropping it closes it.
#[derive(Debug)]
pub struct Wire {
    file: Opened,
    telnet: Option<Telnet>,
}

#[derive(Debug)]
enum Opened {
    Pty(File),
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Wire {
    /// Opens it. A terminal is made raw, and does not become ours.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn open(far: &Far) -> Self {
        let file = match far {
            Far::Pty(path) => {
                let mut options = File::options();
                options.read(true).write(true);
                options.custom_flags(OFlag::O_NOCTTY.bits());
                let terminal = options.open(path).expect("QEMU's terminal can be opened");
                let mut settings = tcgetattr(&terminal).expect("it has settings");
                cfmakeraw(&mut settings);
                tcsetattr(&terminal, SetArg::TCSANOW, &settings).expect("it can be raw");
                Opened::Pty(terminal)
            }
            Far::Unix(path) => Opened::Unix(UnixStream::connect(path).expect("QEMU listens")),
            Far::Tcp(address) | Far::Telnet(address) => {
                let socket = TcpStream::connect(address).expect("QEMU listens");
                // One that is given does not grow: a reader that stops reading is to be felt
                // before megabytes have come.
                setsockopt(&socket, sockopt::RcvBuf, &TCP_BUFFER).expect("it has a buffer");
                Opened::Tcp(socket)
            }
        };
        let telnet = matches!(far, Far::Telnet(_)).then(Telnet::default);
        Self { file, telnet }
    }

    /// What has come, waiting for it for at most `bound`: empty when nothing did, `None` at
    /// the end.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn read(&mut self, bound: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + bound;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut bytes = match ready::read(&mut self.file, left) {
                ready::Read::Bytes(bytes) => bytes,
                ready::Read::Nothing => return Some(Vec::new()),
                ready::Read::Ended => return None,
            };
            if let Some(telnet) = &mut self.telnet {
                bytes.retain(|&byte| telnet.is_data(byte));
            }
            if !bytes.is_empty() {
                return Some(bytes);
            }
        }
    }
}

impl Line for Wire {
    fn send(&mut self, bytes: &[u8]) {
        let deadline = Instant::now() + WRITE_BOUND;
        let mut left = bytes;
        while !left.is_empty() {
            assert!(Instant::now() < deadline, "the guest takes no input");
            let count = self.file.write(left).expect("QEMU takes input");
            left = &left[count..];
        }
    }

    fn receive(&mut self, bound: Duration) -> Result<Vec<u8>, String> {
        self.read(bound)
            .ok_or_else(|| "QEMU closed the line".to_owned())
    }
}

impl Read for Opened {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Pty(file) => file.read(into),
            Self::Unix(socket) => socket.read(into),
            Self::Tcp(socket) => socket.read(into),
        }
    }
}

impl Opened {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Pty(file) => file.write(bytes),
            Self::Unix(socket) => socket.write(bytes),
            Self::Tcp(socket) => socket.write(bytes),
        }
    }
}

impl AsFd for Opened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Pty(file) => file.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
            Self::Tcp(socket) => socket.as_fd(),
        }
    }
}

/// What of a telnet stream (RFC 854) is data. It answers no negotiation: QEMU waits for none.
#[derive(Debug, Default)]
enum Telnet {
    #[default]
    Data,
    Command,
    Option,
    Subnegotiation,
    SubnegotiationCommand,
}

impl Telnet {
    fn is_data(&mut self, byte: u8) -> bool {
        let (next, data) = match (&self, byte) {
            (Self::Data, IAC) => (Self::Command, false),
            (Self::Data, _) => (Self::Data, true),
            (Self::Command, IAC) => (Self::Data, true),
            (Self::Command, SB) => (Self::Subnegotiation, false),
            (Self::Command, WILL..) => (Self::Option, false),
            (Self::Command | Self::Option, _) => (Self::Data, false),
            (Self::Subnegotiation, IAC) => (Self::SubnegotiationCommand, false),
            (Self::SubnegotiationCommand, SE) => (Self::Data, false),
            (Self::Subnegotiation | Self::SubnegotiationCommand, _) => {
                (Self::Subnegotiation, false)
            }
        };
        *self = next;
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telnet_commands_are_no_data() {
        let mut telnet = Telnet::default();
        let mut bytes =
            b"a\xff\xfd\x03b\xff\xffc\xff\xfa\x18\x01\xff\xff\xff\xf0d\xff\xf3e".to_vec();
        bytes.retain(|&byte| telnet.is_data(byte));
        assert_eq!(bytes, b"ab\xffcde");
    }
}
