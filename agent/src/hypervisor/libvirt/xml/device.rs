//! One `serial`, `console` or `channel` element: what is read of it, and which console it is.
//! Pure. It keeps nothing without a bound, and shortens nothing that is used as a name or a
//! path: what is too long is refused.

use quick_xml::errors::Error as SyntaxError;
use quick_xml::events::BytesStart;

use super::attribute::attribute;
use super::source::{Backend, channel, terminal};
use crate::core::id::{Alias, InvalidId, MAX_ALIAS_BYTES};
use crate::hypervisor::{ConsoleDevice, ConsoleKind};

/// The longest name of a type that is kept, in bytes. libvirt's longest is `qemu-vdagent`.
pub(super) const MAX_TYPE_BYTES: usize = 32;
/// The longest path that is kept, in bytes: what fits into a unix socket's address.
pub(super) const MAX_PATH_BYTES: usize = 107;
/// The longest host that is kept, in bytes: the longest name that DNS knows.
pub(super) const MAX_HOST_BYTES: usize = 253;
/// The longest service that is kept, in bytes. A port has five.
const MAX_SERVICE_BYTES: usize = 32;
/// What a channel's alias begins with; its name follows.
pub(in crate::hypervisor::libvirt) const CHANNEL_PREFIX: &str = "channel:";

/// A device while it is being read.
#[derive(Debug, Default)]
pub(super) struct Device {
    backend: Backend,
    has_source: bool,
    target_type: String,
    target_name: String,
    alias: Option<String>,
}

impl Device {
    /// Reads the element itself.
    pub(super) fn open(start: &BytesStart<'_>) -> Result<Self, SyntaxError> {
        let mut device = Self::default();
        let name = attribute(start, "type", MAX_TYPE_BYTES)?;
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        device.backend.name = name.chars().filter(plain).collect();
        Ok(device)
    }

    /// Reads an element right below it.
    pub(super) fn child(&mut self, name: &str, start: &BytesStart<'_>) -> Result<(), SyntaxError> {
        // One more byte than is used of what must not be shortened unnoticed.
        let get = |name: &str, limit: usize| attribute(start, name, limit + 1);
        match name {
            // UDP has two; what is served has one.
            "source" if !self.has_source => {
                self.has_source = true;
                self.backend.path = get("path", MAX_PATH_BYTES)?;
                self.backend.mode = get("mode", MAX_TYPE_BYTES)?;
                self.backend.host = get("host", MAX_HOST_BYTES)?;
                self.backend.service = get("service", MAX_SERVICE_BYTES)?;
                self.backend.tls = get("tls", MAX_TYPE_BYTES)?;
            }
            "protocol" => self.backend.protocol = get("type", MAX_TYPE_BYTES)?,
            "target" => {
                self.target_type = get("type", MAX_TYPE_BYTES)?;
                self.target_name = get("name", MAX_ALIAS_BYTES)?;
            }
            "alias" => self.alias = Some(get("name", MAX_ALIAS_BYTES)?),
            _ => {}
        }
        Ok(())
    }

    /// Whether it is the first serial port, which libvirt writes a second time as a console.
    pub(super) fn is_mirror(&self) -> bool {
        matches!(self.target_type.as_str(), "serial" | "")
    }

    /// Whether it is a channel with one of these names, or with a name that begins as one that
    /// ends in `*` does.
    pub(super) fn is_channel_of(&self, names: &[String]) -> bool {
        let name = self.target_name.as_str();
        self.target_type == "virtio"
            && names.iter().any(|wanted| match wanted.strip_suffix('*') {
                Some(stem) => !name.is_empty() && name.starts_with(stem),
                None => name == wanted,
            })
    }

    /// The serial port or virtio console that it is. Without an alias of its own (in the
    /// definition of a VM that is off) it has the one that libvirt will give it: `otherwise`.
    /// `running` says whether the definition is of a VM that runs.
    pub(super) fn console(
        self,
        kind: ConsoleKind,
        otherwise: &str,
        running: bool,
    ) -> Result<ConsoleDevice, InvalidId> {
        Ok(ConsoleDevice {
            alias: Alias::new(self.alias.as_deref().unwrap_or(otherwise))?,
            kind,
            source: terminal(&self.backend, running),
            backend: self.backend.name,
        })
    }

    /// The channel that it is. Its alias here is of its name, by which guest and host know it,
    /// and not the one that libvirt numbers.
    pub(super) fn channel(self) -> Result<ConsoleDevice, InvalidId> {
        Ok(ConsoleDevice {
            alias: Alias::new(&format!("{CHANNEL_PREFIX}{}", self.target_name))?,
            kind: ConsoleKind::Channel,
            source: channel(&self.backend, &self.target_name),
            backend: self.backend.name,
        })
    }
}
