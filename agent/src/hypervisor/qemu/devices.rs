//! Which of a QEMU's chardevs are consoles, and what they are called. Pure.
//!
//! QMP has no list of serial ports. The devices' own properties tell which chardev is behind
//! which: `isa-serial` and its like have `chardev`, a `pci-serial-4x` has four. They are found
//! below `/machine/unattached` (those of `-serial`), `/machine/peripheral` (`-device` with an
//! id) and `/machine/peripheral-anon` (`-device` without). Only on boards that keep their ports
//! deeper does the label count, `serialN`, which `-serial` gives them. So a chardev that is a
//! monitor's is never a console, and neither is one that no device uses.
//!
//! Aliases go by an order that does not change while the command line does not: `serial0`,
//! `serial1`, … and `console0`, `console1`, …

use std::collections::BTreeMap;
use std::path::Path;

use super::chardev;
use super::qmp::command::{Chardev, SocketAddress};
use crate::core::id::Alias;
use crate::hypervisor::{ConsoleDevice, ConsoleKind};

/// The most consoles that one VM may have, and the most devices that are asked.
pub(super) const MAX_CONSOLES: usize = 64;
/// The longest label, and the longest device name, that is taken, in bytes.
pub(super) const MAX_LABEL_BYTES: usize = 256;
/// What a QEMU's own monitors' chardevs are called (`-qmp`, `-monitor`).
const MONITOR_LABEL: &str = "compat_monitor";

/// Where a sort of device stands among the serial ports, and how its chardevs are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// What sort of console it is.
    pub(super) kind: ConsoleKind,
    /// Its properties that name a chardev.
    pub(super) chardevs: &'static [&'static str],
    /// Its property that numbers it among its like.
    pub(super) number: Option<&'static str>,
    /// Lower ones come first.
    rank: u8,
}

impl Model {
    const fn serial(chardevs: &'static [&'static str], rank: u8) -> Self {
        Self {
            kind: ConsoleKind::Serial,
            chardevs,
            number: None,
            rank,
        }
    }

    /// The model of a device of this type (`child<TYPE>`), if it is a console.
    pub(super) fn of(property_type: &str) -> Option<Self> {
        let device = property_type.strip_prefix("child<")?.strip_suffix('>')?;
        let model = match device {
            // The guest's ttyS0 is the one of index 0, wherever it stands.
            "isa-serial" => Self {
                number: Some("index"),
                ..Self::serial(&["chardev"], 0)
            },
            "pl011" | "pl011_luminary" | "serial-mm" | "cadence_uart" | "imx.serial"
            | "spapr-vty" | "sclpconsole" | "sclplmconsole" | "goldfish_tty"
            | "riscv.sifive.uart" => Self::serial(&["chardev"], 0),
            "pci-serial" => Self::serial(&["chardev"], 1),
            "pci-serial-2x" => Self::serial(&["chardev1", "chardev2"], 1),
            "pci-serial-4x" => Self::serial(&["chardev1", "chardev2", "chardev3", "chardev4"], 1),
            "usb-serial" => Self::serial(&["chardev"], 2),
            "virtconsole" => Self {
                kind: ConsoleKind::Virtio,
                chardevs: &["chardev"],
                number: Some("nr"),
                rank: 0,
            },
            _ => return None,
        };
        Some(model)
    }
}

/// A device's place among all: what is compared first comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    kind: ConsoleKind,
    rank: u8,
    bus: String,
    number: u64,
    parent: usize,
    name: (String, u64),
    port: usize,
}

/// A port of a device, with a chardev behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    place: Place,
    chardev: String,
}

impl Port {
    /// The `port`th chardev of the device called `name` below the `parent`th of the places
    /// that are looked through. `bus` and `number` are the device's, or empty and 0.
    pub(super) fn new(
        model: Model,
        (parent, name): (usize, &str),
        (bus, number): (&str, u64),
        (port, chardev): (usize, String),
    ) -> Self {
        let place = Place {
            kind: model.kind,
            rank: model.rank,
            bus: bus.to_owned(),
            number,
            parent,
            name: numbered(name),
            port,
        };
        Self { place, chardev }
    }
}

/// A console, and by which label QEMU knows its chardev.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Console {
    /// The console as others see it.
    pub(super) device: ConsoleDevice,
    /// The chardev's label.
    pub(super) label: String,
}

/// The consoles among `chardevs`, in their order: those behind `ports`, and if no serial port
/// was found, those labelled as such. `addresses` are the chardevs' property `addr`, by label;
/// `monitor` is the socket over which QEMU was asked.
pub(super) fn consoles(
    mut ports: Vec<Port>,
    chardevs: &[Chardev],
    addresses: &BTreeMap<String, SocketAddress>,
    monitor: &Path,
) -> Vec<Console> {
    let known: BTreeMap<&str, &Chardev> = chardevs
        .iter()
        .filter(|chardev| is_possible(chardev, monitor))
        .map(|chardev| (chardev.label.as_str(), chardev))
        .collect();
    if !ports
        .iter()
        .any(|port| port.place.kind == ConsoleKind::Serial)
    {
        ports.extend(known.values().filter_map(|chardev| labelled(chardev)));
    }
    ports.sort_by(|one, other| one.place.cmp(&other.place));
    let (mut serials, mut virtios) = (0, 0);
    let mut consoles = Vec::new();
    for port in &ports {
        let Some(chardev) = known.get(port.chardev.as_str()) else {
            continue;
        };
        let (prefix, count) = match port.place.kind {
            ConsoleKind::Virtio => ("console", &mut virtios),
            // No model is of the other two.
            ConsoleKind::Serial | ConsoleKind::Channel | ConsoleKind::Vnc => {
                ("serial", &mut serials)
            }
        };
        let Ok(alias) = Alias::new(&format!("{prefix}{count}")) else {
            continue;
        };
        *count += 1;
        let (backend, source) = chardev::backend(&chardev.filename, addresses.get(&chardev.label));
        consoles.push(Console {
            device: ConsoleDevice {
                alias,
                kind: port.place.kind,
                source,
                backend,
            },
            label: chardev.label.clone(),
        });
    }
    consoles.truncate(MAX_CONSOLES);
    consoles
}

fn is_possible(chardev: &Chardev, monitor: &Path) -> bool {
    let unix = chardev.filename.strip_prefix("unix:").unwrap_or_default();
    let path = unix.strip_suffix(",server=on").unwrap_or(unix);
    chardev.label.len() <= MAX_LABEL_BYTES
        && !chardev.label.starts_with(MONITOR_LABEL)
        && Path::new(path) != monitor
}

/// A serial port by its chardev's label alone: `serialN`, or `charserialN` as libvirt has it.
fn labelled(chardev: &Chardev) -> Option<Port> {
    let label = chardev.label.as_str();
    let number = label
        .strip_prefix("char")
        .unwrap_or(label)
        .strip_prefix("serial")?;
    let number = number.parse().ok()?;
    let model = Model::serial(&[], 0);
    chardev
        .frontend_open
        .then(|| Port::new(model, (0, ""), ("", number), (0, label.to_owned())))
}

/// A name with its last number apart, so that `device[9]` comes before `device[10]`.
fn numbered(name: &str) -> (String, u64) {
    let Some(last) = name.rfind(|character: char| character.is_ascii_digit()) else {
        return (name.to_owned(), 0);
    };
    let (upto, _) = name.split_at(last + 1);
    let stem = upto.trim_end_matches(|character: char| character.is_ascii_digit());
    let number = upto
        .get(stem.len()..)
        .and_then(|digits| digits.parse().ok());
    (stem.to_owned(), number.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
