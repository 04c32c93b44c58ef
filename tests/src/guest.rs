//! A real Linux guest under a test's libvirtd: login prompts on `serial0`, `serial1` and
//! `console1`, or what a test asks for instead. It has no disk and no network.

mod xml;

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::image::Kernel;
use crate::libvirtd::Libvirtd;
use crate::namespace::NamespaceId;
use crate::probe;
use crate::qemu::Far;
use crate::virsh::Virsh;
use crate::wait;

/// How long a signalled QEMU may take to stop or go on.
const SIGNAL_BOUND: Duration = Duration::from_secs(10);

/// The alias of the first serial port, the guest's `ttyS0`, with the kernel's messages.
pub const SERIAL0: &str = "serial0";
/// The alias of the second serial port, the guest's `ttyS1`.
pub const SERIAL1: &str = "serial1";
/// The alias of the virtio console, the guest's `hvc0`.
pub const CONSOLE1: &str = "console1";

/// The alias of the channel, on which there is a shell and no terminal.
pub const CHANNEL: &str = "channel:org.example.shell.0";

/// The far end of a guest's first serial port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serial {
    /// A terminal.
    Pty,
    /// A unix socket in the directory of the libvirtd, on which QEMU listens.
    Unix,
    /// A free TCP port of the loopback, on which QEMU listens.
    Tcp,
    /// The same, speaking telnet.
    Telnet,
    /// Nowhere: nobody can reach it.
    Null,
    /// There is no serial port at all.
    None,
}

/// The alias of the VNC display.
pub const VNC0: &str = "vnc0";

/// Where a guest's VNC display listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VncListen {
    /// Nowhere: whoever wants it asks libvirtd.
    Nowhere,
    /// On a unix socket below the directory of the libvirtd.
    Socket,
    /// On a TCP port of 127.0.0.1 that libvirt chooses.
    Address,
}

/// A guest's VNC display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vnc {
    /// Where it listens.
    pub listen: VncListen,
    /// Its password, if it has one: up to eight letters and digits.
    pub password: Option<String>,
}

/// What a guest is made of.
#[derive(Debug, Clone)]
pub struct GuestOptions {
    /// The domain's name: ASCII letters, digits and dashes.
    pub name: String,
    /// Its first serial port, `serial0`.
    pub serial: Serial,
    /// Whether it has a second serial port, `serial1`.
    pub second_serial: bool,
    /// Whether it has a virtio console, `console1`.
    pub virtio_console: bool,
    /// Whether it has a channel with a shell, [`CHANNEL`].
    pub channel: bool,
    /// Whether it has a screen, on which its kernel writes too.
    pub video: bool,
    /// Its VNC display; it has a screen then.
    pub vnc: Option<Vnc>,
    /// Whether its firmware writes to the first serial port.
    pub firmware_on_serial: bool,
    /// What its kernel is told.
    pub kernel: Kernel,
}

impl GuestOptions {
    /// A guest of this name with all three consoles, each on a terminal.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            serial: Serial::Pty,
            second_serial: true,
            virtio_console: true,
            channel: false,
            video: false,
            vnc: None,
            firmware_on_serial: false,
            kernel: Kernel::default(),
        }
    }
}

/// A defined domain. It ends with its libvirtd, not with this value.
#[derive(Debug, Clone)]
pub struct Guest {
    name: String,
    uuid: String,
    serial0: Option<Far>,
    virsh: Virsh,
    namespace: NamespaceId,
}

impl Guest {
    /// Defines a domain and leaves it off.
    ///
    /// # Panics
    /// When libvirt refuses, or the name is not of letters, digits and dashes.
    pub fn define(libvirtd: &Libvirtd, options: GuestOptions) -> Self {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        assert!(
            options.name.bytes().all(plain),
            "{:?} is no plain name",
            options.name
        );
        if let Some(vnc) = &options.vnc
            && vnc.listen == VncListen::Socket
        {
            xml::make_vnc_dir(libvirtd.dir());
        }
        let xml = libvirtd.dir().join(format!("{}.xml", options.name));
        let serial0 = xml::far_end(&options, libvirtd.dir());
        let text = xml::domain(
            &options,
            probe::accelerator(),
            serial0.as_ref(),
            libvirtd.dir(),
        );
        std::fs::write(&xml, text).expect("the domain's XML can be written");
        let virsh = libvirtd.virsh_handle();
        let path = xml.to_str().expect("a temporary path is UTF-8");
        run(&virsh, &["define", path]);
        libvirtd.keep_capabilities();
        let uuid = run(&virsh, &["domuuid", &options.name]).trim().to_owned();
        Self {
            name: options.name,
            uuid,
            serial0,
            virsh,
            namespace: libvirtd.namespace_id(),
        }
    }

    /// Defines a domain and starts it; it then takes a few seconds to boot.
    ///
    /// # Panics
    /// When libvirt refuses.
    pub fn define_and_start(libvirtd: &Libvirtd, options: GuestOptions) -> Self {
        let guest = Self::define(libvirtd, options);
        guest.start();
        guest
    }

    /// The domain's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The domain's UUID, in lower case with dashes.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// Where the far end of `serial0` is, unless it is a terminal.
    pub const fn serial0(&self) -> Option<&Far> {
        self.serial0.as_ref()
    }

    /// Starts the domain.
    ///
    /// # Panics
    /// When libvirt refuses.
    pub fn start(&self) {
        run(&self.virsh, &["start", &self.name]);
    }

    /// Ends the domain's QEMU at once.
    ///
    /// # Panics
    /// When libvirt refuses.
    pub fn destroy(&self) {
        run(&self.virsh, &["destroy", &self.name]);
    }

    /// The domain's state in libvirt's words, such as `running` or `shut off`.
    ///
    /// # Panics
    /// When libvirt refuses.
    pub fn state(&self) -> String {
        run(&self.virsh, &["domstate", &self.name])
            .trim()
            .to_owned()
    }

    /// The process id of its QEMU.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> Pid {
        self.try_pid()
            .unwrap_or_else(|| panic!("guest {} has no QEMU", self.name))
    }

    /// The process id of its QEMU, or `None` when it is off.
    pub fn try_pid(&self) -> Option<Pid> {
        let uuid = format!("-uuid {}", self.uuid);
        let is_ours = |line: &str| line.starts_with(probe::QEMU) && line.contains(&uuid);
        self.namespace
            .inhabitants()
            .into_iter()
            .find(|inhabitant| is_ours(&inhabitant.command_line))
            .map(|inhabitant| inhabitant.pid)
    }

    /// Stops all of its QEMU with SIGSTOP: it answers neither guest nor libvirt.
    ///
    /// # Panics
    /// When it does not run.
    pub fn stop_cpu(&self) {
        let pid = self.pid();
        kill(pid, Signal::SIGSTOP).expect("QEMU can be stopped");
        wait::until("QEMU to stop", SIGNAL_BOUND, || is_stopped(pid));
    }

    /// Lets a stopped QEMU go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn cont(&self) {
        let pid = self.pid();
        kill(pid, Signal::SIGCONT).expect("QEMU can go on");
        wait::until("QEMU to go on", SIGNAL_BOUND, || !is_stopped(pid));
    }
}

fn run(virsh: &Virsh, args: &[&str]) -> String {
    virsh.run(args).unwrap_or_else(|error| panic!("{error}"))
}

fn is_stopped(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("QEMU runs");
    stat.rsplit_once(") ")
        .is_some_and(|(_, after_name)| after_name.starts_with('T'))
}
