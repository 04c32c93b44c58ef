//! What a guest without libvirt is made of, and how QEMU is told so.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Chardev, Paths};
use crate::image::{CHANNEL_NAME, Kernel};

/// The first serial port, the guest's `ttyS0`, with the kernel's messages.
pub const SERIAL0: &str = "serial0";
/// The second serial port, the guest's `ttyS1`.
pub const SERIAL1: &str = "serial1";
/// The virtio console, the guest's `hvc0`.
pub const CONSOLE0: &str = "console0";
/// The virtio channel, the guest's port [`CHANNEL_NAME`].
pub const CHANNEL: &str = "channel0";

/// The guest's memory; the kernel and its initramfs need about half of it.
const MEMORY_MIB: u32 = 128;

/// Where and how a QEMU serves its screen.
#[derive(Debug, Clone)]
pub enum Vnc {
    /// On a unix socket, to anybody.
    Unix,
    /// Nowhere: to whom its monitor hands a connection.
    Nowhere,
    /// On this port of the loopback, counted from 5900, to whoever knows this password.
    Password(u16, &'static str),
    /// On this port of the loopback, counted from 5900, within TLS with the certificates in this
    /// directory (`ca-cert.pem`, `server-cert.pem`, `server-key.pem`), and to whoever knows the
    /// password, if there is one.
    X509(u16, PathBuf, Option<&'static str>),
}

impl Vnc {
    fn options(&self, arguments: &mut Arguments, socket: &Path) {
        let secret = |arguments: &mut Arguments, password: &str| {
            arguments.pair("-object", format!("secret,id=vncpassword,data={password}"));
        };
        let vnc = match self {
            Self::Unix => format!("unix:{}", socket.display()),
            Self::Nowhere => "none".to_owned(),
            Self::Password(display, password) => {
                secret(arguments, password);
                format!("127.0.0.1:{display},password-secret=vncpassword")
            }
            Self::X509(display, dir, password) => {
                let tls = "tls-creds-x509,id=vnctls,endpoint=server,verify-peer=off";
                arguments.pair("-object", format!("{tls},dir={}", dir.display()));
                let vnc = format!("127.0.0.1:{display},tls-creds=vnctls");
                match password {
                    None => vnc,
                    Some(password) => {
                        secret(arguments, password);
                        format!("{vnc},password-secret=vncpassword")
                    }
                }
            }
        };
        arguments.pair("-vnc", vnc);
    }
}

/// What a QEMU begins with.
#[derive(Debug, Clone)]
pub enum Boot {
    /// The guest's kernel and initramfs.
    Linux(Kernel),
    /// Its firmware alone, which finds nothing to boot and waits: a guest that costs little.
    Firmware,
    /// Nothing, and its processor does not run: a QEMU for who needs no guest.
    Nothing,
}

/// What a guest is made of.
#[derive(Debug, Clone)]
pub struct QemuOptions {
    /// Its name: ASCII letters, digits and dashes.
    pub name: String,
    /// Its UUID, if QEMU is told one.
    pub uuid: Option<String>,
    /// Whether QEMU has a QMP socket for the agent.
    pub qmp: bool,
    /// The far end of its first serial port.
    pub serial0: Option<Chardev>,
    /// The far end of its second serial port.
    pub serial1: Option<Chardev>,
    /// The far end of its virtio console.
    pub console0: Option<Chardev>,
    /// The far end of its virtio channel.
    pub channel: Option<Chardev>,
    /// Whether it has a screen, on which its kernel writes too.
    pub vga: bool,
    /// Whether its firmware writes to the first serial port.
    pub firmware_on_serial: bool,
    /// How its screen is served by VNC, if it is.
    pub vnc: Option<Vnc>,
    /// Whether its keyboard and its pointer are virtio's, and count what they are told: see
    /// [`crate::image::Kernel`].
    pub virtio_input: bool,
    /// An event of QEMU's own that it writes to its log each time, as `-trace` takes it.
    pub trace: Option<&'static str>,
    /// Where it waits for a guest that comes from another QEMU, as `-incoming` takes it.
    pub incoming: Option<String>,
    /// What it boots.
    pub boot: Boot,
}

impl QemuOptions {
    /// A guest of this name, with a QMP socket and a terminal as its only serial port.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            uuid: None,
            qmp: true,
            serial0: Some(Chardev::Pty),
            serial1: None,
            console0: None,
            channel: None,
            vga: false,
            firmware_on_serial: false,
            vnc: None,
            virtio_input: false,
            trace: None,
            incoming: None,
            boot: Boot::Linux(Kernel::default()),
        }
    }

    pub(super) fn vnc_socket(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.vnc", self.name))
    }

    pub(super) fn arguments(&self, paths: &Paths) -> Vec<OsString> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        assert!(
            !self.name.is_empty() && self.name.bytes().all(plain),
            "{:?} is no plain name",
            self.name
        );
        let mut arguments = Arguments::default();
        arguments.pair("-accel", "tcg");
        let graphics = if self.firmware_on_serial { "off" } else { "on" };
        arguments.pair("-machine", format!("pc,graphics={graphics}"));
        arguments.pair("-m", MEMORY_MIB.to_string());
        arguments.pair("-name", format!("guest={}", self.name));
        arguments.pair("-display", "none");
        arguments.words("-nodefaults -no-user-config");
        // The test's own monitor; the agent's is another, since a socket serves one client.
        arguments.pair("-chardev", "stdio,id=tests,signal=off");
        arguments.pair("-mon", "chardev=tests,mode=control");
        if let Some(uuid) = &self.uuid {
            arguments.pair("-uuid", uuid);
        }
        if self.qmp {
            arguments.pair("-qmp", listening(&paths.qmp));
        }
        self.consoles(&mut arguments, &paths.consoles);
        if let Some(from) = &self.incoming {
            arguments.pair("-incoming", from);
        }
        if let Some(event) = self.trace {
            arguments.pair("-trace", event);
        }
        if self.vga {
            arguments.pair("-vga", "std");
        }
        if let Some(vnc) = &self.vnc {
            vnc.options(&mut arguments, &self.vnc_socket(&paths.consoles));
        }
        if self.virtio_input {
            arguments.pair("-device", "virtio-keyboard-pci");
            arguments.pair("-device", "virtio-tablet-pci");
        }
        match &self.boot {
            Boot::Linux(kernel) => {
                arguments.pair("-kernel", &paths.kernel);
                arguments.pair("-initrd", &paths.initrd);
                let channel = self.channel.map(|_| CHANNEL_NAME);
                arguments.pair("-append", kernel.command_line(self.vga, channel));
            }
            Boot::Firmware => {}
            Boot::Nothing => arguments.words("-S"),
        }
        arguments.0
    }

    fn consoles(&self, arguments: &mut Arguments, dir: &Path) {
        let socket = |label: &str| dir.join(format!("{}.{label}", self.name));
        for (label, serial) in [(SERIAL0, self.serial0), (SERIAL1, self.serial1)] {
            if let Some(chardev) = serial {
                arguments.pair("-chardev", chardev.option(label, &socket(label)));
                arguments.pair("-serial", format!("chardev:{label}"));
            }
        }
        if self.console0.is_some() || self.channel.is_some() {
            arguments.pair("-device", "virtio-serial-pci");
        }
        if let Some(chardev) = self.console0 {
            arguments.pair("-chardev", chardev.option(CONSOLE0, &socket(CONSOLE0)));
            arguments.pair(
                "-device",
                format!("virtconsole,chardev={CONSOLE0},id={CONSOLE0}"),
            );
        }
        if let Some(chardev) = self.channel {
            arguments.pair("-chardev", chardev.option(CHANNEL, &socket(CHANNEL)));
            let port = format!("virtserialport,chardev={CHANNEL},name={CHANNEL_NAME},id={CHANNEL}");
            arguments.pair("-device", port);
        }
    }
}

/// A listening socket, as QEMU's `-qmp` takes it.
fn listening(path: &Path) -> String {
    format!("unix:{},server=on,wait=off", path.display())
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn pair(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.push(option.into());
        self.0.push(value.into());
    }

    fn words(&mut self, words: &str) {
        self.0.extend(words.split_whitespace().map(OsString::from));
    }
}
