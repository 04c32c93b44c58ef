//! What a domain's definition says of its consoles. Pure: text in, facts out.
//!
//! The text is treated as hostile (names and paths in it are chosen by whoever may define
//! VMs): its length, depth, and what is kept of it are bounded, a document type is refused,
//! so that no entity is ever expanded, and no input panics.

use quick_xml::XmlVersion;
use quick_xml::errors::Error as SyntaxError;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use crate::core::id::{Alias, VmUuid};
use crate::endpoint::Source;
use crate::hypervisor::{ConsoleDevice, ConsoleKind, Instance};

/// The deepest nesting that is read. libvirt's own definitions reach about twelve.
const MAX_DEPTH: usize = 64;
/// The most attributes of one element that are looked at.
const MAX_ATTRIBUTES: usize = 32;
/// The longest VM name that is kept, in bytes.
const MAX_NAME_BYTES: usize = 1024;
/// The longest backend name that is kept, in bytes. libvirt's longest is `spiceport`.
const MAX_BACKEND_BYTES: usize = 32;
/// The most consoles that one VM may have.
const MAX_CONSOLES: usize = 64;

/// What a definition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    /// The VM's UUID.
    pub(super) uuid: VmUuid,
    /// The VM's name.
    pub(super) name: String,
    /// The run of its QEMU; absent from the definition of a VM that is off.
    pub(super) instance: Option<Instance>,
    /// Its consoles, in order.
    pub(super) consoles: Vec<ConsoleDevice>,
    /// How many console devices were left out: unusable or repeated aliases, or too many.
    pub(super) left_out: usize,
}

/// Why a definition cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum XmlError {
    /// Not well-formed.
    #[error("the domain's definition is not well-formed XML")]
    Syntax(#[from] SyntaxError),
    /// A document type declaration, which libvirt never writes.
    #[error("the domain's definition has a document type, which is refused")]
    DocumentType,
    /// An entity that XML itself does not define.
    #[error("the domain's definition refers to an entity that nothing defines")]
    Entity,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("the domain's definition is nested deeper than {MAX_DEPTH} elements")]
    TooDeep,
    /// It ends before its root does, or has no root.
    #[error("the domain's definition is cut off, or is not one domain")]
    Incomplete,
    /// No usable UUID or name.
    #[error("the domain's definition has no usable {0}")]
    Missing(&'static str),
}

/// An element, as far as it matters where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Domain,
    Name,
    Uuid,
    Devices,
    Serial,
    Console,
    Other,
}

/// A `serial` or `console` element while it is being read.
#[derive(Debug, Default)]
struct Device {
    backend: String,
    target: String,
    alias: Option<String>,
}

/// What has been read so far.
#[derive(Debug, Default)]
struct State {
    path: Vec<Tag>,
    complete: bool,
    name: String,
    uuid: String,
    instance: Option<Instance>,
    device: Device,
    serials: usize,
    virtios: usize,
    consoles: Vec<ConsoleDevice>,
    left_out: usize,
}

/// Reads a definition as libvirt gives it out, of a VM that runs or one that is off.
///
/// # Errors
/// See [`XmlError`].
pub(super) fn parse(xml: &str) -> Result<Definition, XmlError> {
    let mut reader = Reader::from_str(xml);
    reader.config_mut().expand_empty_elements = true;
    let mut state = State::default();
    loop {
        match reader.read_event()? {
            Event::Start(start) => state.start(&start)?,
            Event::End(_) => state.end(),
            Event::Text(text) => state.text(&text.xml10_content()),
            Event::CData(data) => state.text(&data.xml10_content()),
            Event::GeneralRef(reference) => {
                if let Some(character) = reference.resolve_char_ref()? {
                    state.text(character.encode_utf8(&mut [0; 4]));
                } else {
                    let name = reference.xml10_content();
                    let text = resolve_predefined_entity(&name).ok_or(XmlError::Entity)?;
                    state.text(text);
                }
            }
            Event::DocType(_) => return Err(XmlError::DocumentType),
            Event::Eof => return state.finish(),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

impl State {
    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), XmlError> {
        if self.path.len() == MAX_DEPTH {
            return Err(XmlError::TooDeep);
        }
        let name = start.local_name();
        let tag = match (self.path.as_slice(), name.as_ref()) {
            ([], "domain") if !self.complete => Tag::Domain,
            ([], _) => return Err(XmlError::Incomplete),
            ([Tag::Domain], "name") => Tag::Name,
            ([Tag::Domain], "uuid") => Tag::Uuid,
            ([Tag::Domain], "devices") => Tag::Devices,
            ([Tag::Domain, Tag::Devices], "serial") => Tag::Serial,
            ([Tag::Domain, Tag::Devices], "console") => Tag::Console,
            ([Tag::Domain, Tag::Devices, Tag::Serial | Tag::Console], "target") => {
                self.device.target = attribute(start, "type", MAX_BACKEND_BYTES)?;
                Tag::Other
            }
            ([Tag::Domain, Tag::Devices, Tag::Serial | Tag::Console], "alias") => {
                self.device.alias = Some(attribute(start, "name", MAX_NAME_BYTES)?);
                Tag::Other
            }
            _ => Tag::Other,
        };
        match tag {
            Tag::Domain => {
                let id = attribute(start, "id", MAX_BACKEND_BYTES)?;
                self.instance = id.parse().ok().map(Instance);
            }
            Tag::Serial | Tag::Console => {
                self.device = Device {
                    backend: attribute(start, "type", MAX_BACKEND_BYTES)?,
                    ..Device::default()
                };
            }
            _ => {}
        }
        self.path.push(tag);
        Ok(())
    }

    /// The reader has checked that the end matches the start.
    fn end(&mut self) {
        match self.path.pop() {
            Some(Tag::Serial) => {
                let index = self.serials;
                self.serials += 1;
                self.take_device(ConsoleKind::Serial, &format!("serial{index}"));
            }
            Some(Tag::Console) => {
                let index = self.virtios;
                self.virtios += 1;
                // libvirt writes the first serial port a second time, as a console.
                if !matches!(self.device.target.as_str(), "serial" | "") {
                    self.take_device(ConsoleKind::Virtio, &format!("console{index}"));
                }
            }
            Some(Tag::Domain) => self.complete = true,
            _ => {}
        }
    }

    /// Keeps the device that ends here. A definition of a VM that is off has no aliases: there
    /// libvirt will give it `otherwise`.
    fn take_device(&mut self, kind: ConsoleKind, otherwise: &str) {
        let device = std::mem::take(&mut self.device);
        let alias = Alias::new(device.alias.as_deref().unwrap_or(otherwise));
        let Ok(alias) = alias else {
            self.left_out += 1;
            return;
        };
        let repeated = self.consoles.iter().any(|console| console.alias == alias);
        if repeated || self.consoles.len() == MAX_CONSOLES {
            self.left_out += 1;
            return;
        }
        let source = if device.backend == "pty" {
            Source::LibvirtConsole
        } else {
            Source::Unserved(format!("its backend is \"{}\": use a pty", device.backend))
        };
        self.consoles.push(ConsoleDevice {
            alias,
            kind,
            source,
            backend: device.backend,
        });
    }

    fn text(&mut self, text: &str) {
        let into = match self.path.as_slice() {
            [Tag::Domain, Tag::Name] => &mut self.name,
            [Tag::Domain, Tag::Uuid] => &mut self.uuid,
            _ => return,
        };
        push_bounded(into, text, MAX_NAME_BYTES);
    }

    fn finish(self) -> Result<Definition, XmlError> {
        if !self.complete || !self.path.is_empty() {
            return Err(XmlError::Incomplete);
        }
        if self.name.is_empty() {
            return Err(XmlError::Missing("name"));
        }
        Ok(Definition {
            uuid: self
                .uuid
                .trim()
                .parse()
                .map_err(|_| XmlError::Missing("UUID"))?,
            name: self.name,
            instance: self.instance,
            consoles: self.consoles,
            left_out: self.left_out,
        })
    }
}

/// The value of an attribute, `limit` bytes of it at most; empty if it is not there.
fn attribute(start: &BytesStart<'_>, name: &str, limit: usize) -> Result<String, XmlError> {
    let mut value = String::new();
    // Without the check for repeated names, which takes time by the square of their number.
    for found in start.attributes().with_checks(false).take(MAX_ATTRIBUTES) {
        let found = found.map_err(SyntaxError::from)?;
        if found.key.as_ref() == name {
            let text = found.normalized_value(XmlVersion::Implicit1_0)?;
            push_bounded(&mut value, &text, limit);
            break;
        }
    }
    Ok(value)
}

/// Appends what fits of `text`, at a character's border.
fn push_bounded(into: &mut String, text: &str, limit: usize) {
    let room = limit.saturating_sub(into.len());
    into.push_str(&text[..text.floor_char_boundary(room)]);
}

#[cfg(test)]
mod tests;
