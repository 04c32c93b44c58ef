//! One `graphics` element: whether it is a VNC display, and where QEMU listens for its viewers.
//! Pure.
//!
//! An attribute of the element itself says the same as its first `listen` child, for older
//! programs (`virDomainGraphicsDefFormat` of libvirt). Of a VM that is off, or that listens
//! nowhere, a port is -1 or absent and a socket has no path. What is written in no usable form is
//! left out: libvirt hands out a descriptor all the same.

use quick_xml::errors::Error as SyntaxError;
use quick_xml::events::BytesStart;

use super::attribute::attribute;
use super::device::{MAX_HOST_BYTES, MAX_PATH_BYTES, MAX_TYPE_BYTES};
use super::source::plain_host;
use crate::core::id::{Alias, InvalidId};
use crate::endpoint::{DisplayHandle, DisplaySource, Reach, Source, TcpAddress};
use crate::hypervisor::{ConsoleDevice, ConsoleKind};

/// The protocol that is served, and what its displays are called by, with their number.
pub(super) const VNC: &str = "vnc";

/// The longest port that is kept, in bytes: five digits, or `-1`.
const MAX_PORT_BYTES: usize = 5;

/// A graphics device while it is being read. Empty is what is not there.
#[derive(Debug, Default)]
pub(super) struct Graphics {
    protocol: String,
    port: String,
    listens: String,
    socket: String,
    host: String,
    has_listen: bool,
}

impl Graphics {
    /// Reads the element itself.
    pub(super) fn open(start: &BytesStart<'_>) -> Result<Self, SyntaxError> {
        // One more byte than is used of what must not be shortened unnoticed.
        let get = |name: &str, limit: usize| attribute(start, name, limit + 1);
        Ok(Self {
            protocol: get("type", MAX_TYPE_BYTES)?,
            port: get("port", MAX_PORT_BYTES)?,
            socket: get("socket", MAX_PATH_BYTES)?,
            host: get("listen", MAX_HOST_BYTES)?,
            ..Self::default()
        })
    }

    /// Reads an element right below it. QEMU listens at the first of those that say where.
    pub(super) fn child(&mut self, name: &str, start: &BytesStart<'_>) -> Result<(), SyntaxError> {
        if name != "listen" || self.has_listen {
            return Ok(());
        }
        self.has_listen = true;
        let get = |name: &str, limit: usize| attribute(start, name, limit + 1);
        self.listens = get("type", MAX_TYPE_BYTES)?;
        self.socket = get("socket", MAX_PATH_BYTES)?;
        self.host = get("address", MAX_HOST_BYTES)?;
        Ok(())
    }

    /// Whether it is a VNC display.
    pub(super) fn is_vnc(&self) -> bool {
        self.protocol == VNC
    }

    /// The display that it is, as the `number`th of its protocol and the `index`th graphics device
    /// of all.
    pub(super) fn display(self, number: u32, index: u32) -> Result<ConsoleDevice, InvalidId> {
        let source = DisplaySource {
            number,
            handle: DisplayHandle::Libvirt(index),
            socket: self.path().map(Into::into),
            address: self.address(),
            reach: Reach::ALL.to_vec(),
        };
        Ok(ConsoleDevice {
            alias: Alias::new(&format!("{VNC}{number}"))?,
            kind: ConsoleKind::Vnc,
            source: Source::Display(source),
            backend: VNC.to_owned(),
        })
    }

    fn path(&self) -> Option<&str> {
        let path = self.socket.as_str();
        let plain = path.starts_with('/')
            && path.len() <= MAX_PATH_BYTES
            && !path.chars().any(char::is_control);
        (plain && matches!(self.listens.as_str(), "socket" | "")).then_some(path)
    }

    fn address(&self) -> Option<TcpAddress> {
        // A socket stands in place of a port.
        let listens = match self.listens.as_str() {
            "address" | "network" => true,
            "" => self.socket.is_empty(),
            _ => false,
        };
        let port = self.port.parse().ok().filter(|port| *port > 0)?;
        let host = plain_host(&self.host).filter(|_| listens)?;
        Some(TcpAddress {
            host: host.to_owned(),
            port,
            telnet: false,
        })
    }
}

#[cfg(test)]
mod tests;
