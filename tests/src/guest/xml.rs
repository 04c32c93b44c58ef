//! The definition of a guest, as libvirt takes it.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{GuestOptions, Serial, VncListen};
use crate::image::CHANNEL_NAME;
use crate::libvirtd::IMAGES;
use crate::probe::{self, Accelerator};
use crate::qemu::Far;

/// The guest's memory; the kernel and its initramfs need about half of it.
const MEMORY_MIB: u32 = 128;

/// Where displays' sockets are, below the directory of the libvirtd.
const VNC_DIR: &str = "vnc";

/// The domain's definition, with this first serial port, and further sockets in `dir`.
pub(super) fn domain(
    options: &GuestOptions,
    accelerator: Accelerator,
    serial0: Option<&Far>,
    dir: &Path,
) -> String {
    let channel = options.channel.then_some(CHANNEL_NAME);
    format!(
        "<domain type='{domain_type}'>
  <name>{name}</name>
  <memory unit='MiB'>{MEMORY_MIB}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{IMAGES}/vmlinuz</kernel>
    <initrd>{IMAGES}/initrd.img</initrd>
    <cmdline>{command_line}</cmdline>
    {bios}
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>{qemu}</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    {devices}
  </devices>
</domain>
",
        domain_type = accelerator.domain_type(),
        name = options.name,
        command_line = options.kernel.command_line(options.video, channel),
        bios = match options.firmware_on_serial {
            true => "<bios useserial='yes'/>",
            false => "",
        },
        qemu = probe::QEMU,
        devices = devices(options, serial0) + &graphics(options, dir),
    )
}

/// Where the first serial port's far end is to be: a socket in `dir`, or a port that was free
/// a moment ago. `None` for a terminal, which QEMU chooses, and where it leads nowhere.
pub(super) fn far_end(options: &GuestOptions, dir: &Path) -> Option<Far> {
    let free_port = || {
        TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port is free")
    };
    match options.serial {
        Serial::Pty | Serial::Null | Serial::None => None,
        Serial::Unix => Some(Far::Unix(dir.join(format!("{}.serial0", options.name)))),
        Serial::Tcp => Some(Far::Tcp(free_port())),
        Serial::Telnet => Some(Far::Telnet(free_port())),
    }
}

fn devices(options: &GuestOptions, serial0: Option<&Far>) -> String {
    let mut devices = String::new();
    if options.serial != Serial::None {
        let (kind, source) = match options.serial {
            Serial::Null => ("null", String::new()),
            _ => source(serial0),
        };
        for (element, target) in [
            ("serial", "<target port='0'/>"),
            // libvirt's other name for the first serial port, for older programs.
            ("console", "<target type='serial' port='0'/>"),
        ] {
            let written = writeln!(
                devices,
                "<{element} type='{kind}'>{source}{target}</{element}>"
            );
            written.expect("a string takes what is written to it");
        }
    }
    let further = [
        (
            options.second_serial,
            "<serial type='pty'><target port='1'/></serial>".to_owned(),
        ),
        (
            options.virtio_console,
            "<console type='pty'><target type='virtio'/></console>".to_owned(),
        ),
        (
            options.channel,
            format!("<channel type='unix'><target type='virtio' name='{CHANNEL_NAME}'/></channel>"),
        ),
        (
            options.video || options.vnc.is_some(),
            "<video><model type='vga'/></video>".to_owned(),
        ),
    ];
    for (_, device) in further.iter().filter(|(wanted, _)| *wanted) {
        devices.push_str(device);
    }
    devices
}

/// Makes the directory for sockets of displays. QEMU makes them itself, and not as root.
pub(super) fn make_vnc_dir(dir: &Path) {
    let vnc = dir.join(VNC_DIR);
    std::fs::create_dir_all(&vnc).expect("a directory can be made");
    std::fs::set_permissions(vnc, Permissions::from_mode(0o777)).expect("it is ours");
}

/// The VNC display, if the guest has one.
fn graphics(options: &GuestOptions, dir: &Path) -> String {
    let Some(vnc) = &options.vnc else {
        return String::new();
    };
    let (port, listen) = match vnc.listen {
        VncListen::Nowhere => ("", "<listen type='none'/>".to_owned()),
        VncListen::Socket => {
            let path = dir.join(VNC_DIR).join(&options.name);
            let listen = format!("<listen type='socket' socket='{}'/>", path.display());
            ("", listen)
        }
        VncListen::Address => (
            " autoport='yes'",
            "<listen type='address' address='127.0.0.1'/>".to_owned(),
        ),
    };
    let password = vnc
        .password
        .as_ref()
        .map_or_else(String::new, |password| format!(" passwd='{password}'"));
    format!("<graphics type='vnc'{port}{password}>{listen}</graphics>")
}

/// The type and the source of a serial port.
fn source(far: Option<&Far>) -> (&'static str, String) {
    let listening = |address: &SocketAddr, protocol: &str| {
        format!(
            "<source mode='bind' host='{}' service='{}'/><protocol type='{protocol}'/>",
            address.ip(),
            address.port()
        )
    };
    match far {
        None | Some(Far::Pty(_)) => ("pty", String::new()),
        Some(Far::Unix(path)) => (
            "unix",
            format!("<source mode='bind' path='{}'/>", path.display()),
        ),
        Some(Far::Tcp(address)) => ("tcp", listening(address, "raw")),
        Some(Far::Telnet(address)) => ("tcp", listening(address, "telnet")),
    }
}
