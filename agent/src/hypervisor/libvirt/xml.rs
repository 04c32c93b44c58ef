//! What a domain's definition says of its consoles and displays. Pure: text in, facts out.
//!
//! The text is treated as hostile (names and paths in it are chosen by whoever may define
//! VMs): its length, depth, and what is kept of it are bounded, a document type is refused,
//! so that no entity is ever expanded, and no input panics.

mod attribute;
mod device;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod graphics;
mod source;

use quick_xml::errors::Error as SyntaxError;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use self::attribute::{attribute, push_bounded};
pub(super) use self::device::CHANNEL_PREFIX;
use self::device::{Device, MAX_TYPE_BYTES};
use self::graphics::Graphics;
use crate::core::id::{InvalidId, VmUuid};
use crate::hypervisor::{ConsoleDevice, ConsoleKind, Instance};

/// The deepest nesting that is read. libvirt's own definitions reach about twelve.
const MAX_DEPTH: usize = 64;
/// The longest VM name that is kept, in bytes.
const MAX_NAME_BYTES: usize = 1024;
/// The most consoles that one VM may have, channels and displays included.
const MAX_CONSOLES: usize = 64;

/// What a definition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The VM's UUID.
    pub uuid: VmUuid,
    /// The VM's name.
    pub name: String,
    /// The run of its QEMU; absent from the definition of a VM that is off.
    pub instance: Option<Instance>,
    /// Its consoles, in order.
    pub consoles: Vec<ConsoleDevice>,
    /// Whether it has a keyboard that keys can be sent to.
    pub keyboard: bool,
    /// How many console devices were left out: unusable or repeated aliases, or too many.
    pub left_out: usize,
}

/// Why a definition cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum XmlError {
    /// Not well-formed.
    #[error("the domain's definition is not well-formed XML")]
    Syntax(#[from] SyntaxError),
    /// A document type declaration, which libvirt never writes.
    #[error("the domain's definition has a document type, which is refused")]
    DocumentType,
    /// An entity that XML itself does not define.
    #[error("the domain's definition refers to an entity that nothing defines")]
    Entity,
    /// Nested deeper than is read.
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
    Channel,
    Graphics,
    Input,
    Other,
}

/// What has been read so far.
#[derive(Debug, Default)]
struct State<'a> {
    /// The names of the channels that are served.
    channels: &'a [String],
    path: Vec<Tag>,
    complete: bool,
    name: String,
    uuid: String,
    instance: Option<Instance>,
    device: Device,
    graphics: Graphics,
    /// How many graphics devices there were, and how many of them were VNC displays.
    graphics_seen: u32,
    displays: u32,
    serials: usize,
    virtios: usize,
    keyboard: bool,
    consoles: Vec<ConsoleDevice>,
    left_out: usize,
}

/// Reads a definition as libvirt gives it out, of a VM that runs or one that is off. Of its
/// channels those are consoles that have one of these names, or, where one ends in `*`, a name
/// that begins so.
///
/// # Errors
/// See [`XmlError`].
pub fn parse(xml: &str, channels: &[String]) -> Result<Definition, XmlError> {
    let mut reader = Reader::from_str(xml);
    reader.config_mut().expand_empty_elements = true;
    let mut state = State {
        channels,
        ..State::default()
    };
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

impl State<'_> {
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
            ([Tag::Domain, Tag::Devices], "channel") => Tag::Channel,
            ([Tag::Domain, Tag::Devices], "graphics") => Tag::Graphics,
            ([Tag::Domain, Tag::Devices], "input") => Tag::Input,
            ([Tag::Domain, Tag::Devices, Tag::Graphics], name) => {
                self.graphics.child(name, start)?;
                Tag::Other
            }
            (
                [
                    Tag::Domain,
                    Tag::Devices,
                    Tag::Serial | Tag::Console | Tag::Channel,
                ],
                name,
            ) => {
                self.device.child(name, start)?;
                Tag::Other
            }
            _ => Tag::Other,
        };
        match tag {
            Tag::Domain => {
                let id = attribute(start, "id", MAX_TYPE_BYTES)?;
                self.instance = id.parse().ok().map(Instance);
            }
            Tag::Input => {
                self.keyboard |= attribute(start, "type", MAX_TYPE_BYTES)? == "keyboard";
            }
            Tag::Serial | Tag::Console | Tag::Channel => self.device = Device::open(start)?,
            Tag::Graphics => self.graphics = Graphics::open(start)?,
            _ => {}
        }
        self.path.push(tag);
        Ok(())
    }

    /// The reader has checked that the end matches the start.
    fn end(&mut self) {
        let running = self.instance.is_some();
        match self.path.pop() {
            Some(Tag::Serial) => {
                let alias = format!("serial{}", self.serials);
                self.serials += 1;
                let device = std::mem::take(&mut self.device);
                self.take(device.console(ConsoleKind::Serial, &alias, running));
            }
            Some(Tag::Console) => {
                let alias = format!("console{}", self.virtios);
                self.virtios += 1;
                let device = std::mem::take(&mut self.device);
                if !device.is_mirror() {
                    self.take(device.console(ConsoleKind::Virtio, &alias, running));
                }
            }
            Some(Tag::Channel) => {
                let device = std::mem::take(&mut self.device);
                if device.is_channel_of(self.channels) {
                    self.take(device.channel());
                }
            }
            Some(Tag::Graphics) => self.end_graphics(),
            Some(Tag::Domain) => self.complete = true,
            _ => {}
        }
    }

    fn end_graphics(&mut self) {
        let index = self.graphics_seen;
        self.graphics_seen += 1;
        let graphics = std::mem::take(&mut self.graphics);
        if graphics.is_vnc() {
            let number = self.displays;
            self.displays += 1;
            self.take(graphics.display(number, index));
        }
    }

    /// Keeps a console, unless its alias is none or repeated, or there are too many.
    fn take(&mut self, console: Result<ConsoleDevice, InvalidId>) {
        let repeated = |new: &ConsoleDevice| self.consoles.iter().any(|it| it.alias == new.alias);
        match console {
            Ok(console) if self.consoles.len() < MAX_CONSOLES && !repeated(&console) => {
                self.consoles.push(console);
            }
            _ => self.left_out += 1,
        }
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
            keyboard: self.keyboard,
            left_out: self.left_out,
        })
    }
}

#[cfg(test)]
mod tests;
