//! Which message of a client begins here, and where it ends. From RFC 6143, the community's list
//! of extensions, and what QEMU, noVNC, TigerVNC, gtk-vnc and vncdotool send or take.
//!
//! Refuses to keep bytes, and to judge what they ask for: it looks at a message's beginning, and
//! says how much more it must see if that does not tell.
//!
//! What is left out, and so is unknown: what UltraVNC and TightVNC add for files, chat, scaling
//! and sessions (7 to 13, 15, 20, 21, 80, 252), VMware's (127, 254) and call control (249). A
//! server has to offer these first. QEMU offers none of them, and closes the connection of a
//! client that sends one.
//!
//! A PointerEvent may be a byte longer where both sides announced `ExtendedMouseButtons`, which
//! nobody can tell without reading what the server sends. [`encodings`](super::encodings) keeps
//! that announcement back, so that it is of 6 bytes always.

/// The most encodings that a client may announce in one message. noVNC announces 22, and all
/// that were ever registered are some 500, most of which only one vendor knows.
pub const MAX_ENCODINGS: usize = 1024;

/// The most bytes of text in one message: beyond it QEMU closes the connection.
pub const MAX_CUT_TEXT: u64 = 1 << 20;

/// The longest message that is taken whole or not at all, in bytes: `SetEncodings`.
pub const MAX_WHOLE: usize = 4 + 4 * MAX_ENCODINGS;

/// The bytes of a cut text before its text.
const CUT_TEXT_HEAD: usize = 8;

/// The same of the extended clipboard, with the flags that say what it is.
const EXTENDED_HEAD: usize = 12;

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How pixels are to be sent.
    SetPixelFormat,
    /// The colours of a palette. Left out of RFC 6143: no client sends it.
    FixColourMapEntries,
    /// Which encodings the client understands, and which extensions.
    SetEncodings,
    /// Asks for the picture.
    UpdateRequest,
    /// A key, by its X keysym.
    Key,
    /// Where the pointer is, and its buttons.
    Pointer,
    /// Text for the guest's clipboard.
    CutText,
    /// The extended clipboard: which of caps, request, peek, notify and provide stands in the
    /// flags, the upper 16 bits of which say what is done, and the lower with which formats.
    /// `None` where there are no flags, which no server allows.
    ExtendedCutText(Option<u32>),
    /// Sends the picture without being asked each time.
    ContinuousUpdates,
    /// Asks the server to answer in order.
    Fence,
    /// Shuts down, reboots or resets the guest.
    Xvp,
    /// Asks the guest for another screen size.
    SetDesktopSize,
    /// Events of the general input interface: any device at all.
    Gii,
    /// A key, by its X keysym and its number on a PC keyboard (QEMU's extension).
    ExtendedKey,
    /// The guest's sound: on, off, its format (QEMU's extension).
    Audio,
}

impl Kind {
    /// Whether it is passed on in pieces, for it may be long. All others are held until they are
    /// whole, at most [`MAX_WHOLE`] bytes.
    pub fn streams(self) -> bool {
        matches!(
            self,
            Self::CutText | Self::ExtendedCutText(_) | Self::FixColourMapEntries | Self::Gii
        )
    }
}

/// A message that begins here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it says.
    pub kind: Kind,
    /// How many bytes of it were needed to know that.
    pub bytes: usize,
    /// How long it is, the head with it.
    pub len: u64,
}

/// What the bytes at a message's beginning tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// So many bytes in all must be there to tell; more than there are.
    Needs(usize),
    /// This message.
    Message(Head),
    /// One that has no known length, so that nothing is known of what follows.
    Unknown(Unknown),
    /// More encodings than [`MAX_ENCODINGS`]: how many.
    TooManyEncodings(u16),
}

/// A message of no known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Its type.
    pub number: u8,
    /// Which of QEMU's extensions it is, where `number` is 255.
    pub qemu: Option<u8>,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.qemu {
            None => write!(f, "type {}", self.number),
            Some(qemu) => write!(f, "type {}, {qemu} of QEMU's", self.number),
        }
    }
}

/// Looks at what begins with `bytes`, of which there may be more than one message.
pub fn look(bytes: &[u8]) -> Look {
    let Some(&number) = bytes.first() else {
        return Look::Needs(1);
    };
    match number {
        0 => fixed(Kind::SetPixelFormat, 20),
        1 => counted(bytes, Kind::FixColourMapEntries, 6, |head| {
            6 * u64::from(u16_at(head, 4))
        }),
        2 => encodings(bytes),
        3 => fixed(Kind::UpdateRequest, 10),
        4 => fixed(Kind::Key, 8),
        5 => fixed(Kind::Pointer, 6),
        6 => cut_text(bytes),
        150 => fixed(Kind::ContinuousUpdates, 10),
        248 => counted(bytes, Kind::Fence, 9, |head| u64::from(head[8])),
        250 => fixed(Kind::Xvp, 4),
        251 => counted(bytes, Kind::SetDesktopSize, 8, |head| {
            16 * u64::from(head[6])
        }),
        253 => counted(bytes, Kind::Gii, 4, gii),
        255 => qemu(bytes),
        _ => Look::Unknown(Unknown { number, qemu: None }),
    }
}

/// The big-endian number at `at`, which the caller has seen to be there.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// See [`u16_at`].
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

const fn fixed(kind: Kind, len: u64) -> Look {
    Look::Message(Head {
        kind,
        bytes: 1,
        len,
    })
}

/// A message whose head of `bytes` bytes says how much follows it.
fn counted(seen: &[u8], kind: Kind, bytes: usize, follows: impl Fn(&[u8]) -> u64) -> Look {
    if seen.len() < bytes {
        return Look::Needs(bytes);
    }
    Look::Message(Head {
        kind,
        bytes,
        len: bytes as u64 + follows(seen),
    })
}

fn encodings(bytes: &[u8]) -> Look {
    if bytes.len() >= 4 && usize::from(u16_at(bytes, 2)) > MAX_ENCODINGS {
        return Look::TooManyEncodings(u16_at(bytes, 2));
    }
    counted(bytes, Kind::SetEncodings, 4, |head| {
        4 * u64::from(u16_at(head, 2))
    })
}

/// A negative length is the extended clipboard's, and its flags come first.
fn cut_text(bytes: &[u8]) -> Look {
    if bytes.len() < CUT_TEXT_HEAD {
        return Look::Needs(CUT_TEXT_HEAD);
    }
    let text = u32_at(bytes, 4).cast_signed();
    let follows = u64::from(text.unsigned_abs());
    let has_flags = follows >= 4;
    let (kind, head) = match (text < 0, has_flags) {
        (false, _) => (Kind::CutText, CUT_TEXT_HEAD),
        (true, false) => (Kind::ExtendedCutText(None), CUT_TEXT_HEAD),
        (true, true) if bytes.len() < EXTENDED_HEAD => return Look::Needs(EXTENDED_HEAD),
        (true, true) => (Kind::ExtendedCutText(Some(u32_at(bytes, 8))), EXTENDED_HEAD),
    };
    Look::Message(Head {
        kind,
        bytes: head,
        len: CUT_TEXT_HEAD as u64 + follows,
    })
}

/// The interface says its endianness itself.
fn gii(head: &[u8]) -> u64 {
    let len = [head[2], head[3]];
    u64::from(if head[1] & 0x80 == 0 {
        u16::from_le_bytes(len)
    } else {
        u16::from_be_bytes(len)
    })
}

fn qemu(bytes: &[u8]) -> Look {
    let head = |kind, bytes, len| Look::Message(Head { kind, bytes, len });
    match bytes.get(1) {
        None => Look::Needs(2),
        Some(0) => head(Kind::ExtendedKey, 2, 12),
        Some(1) if bytes.len() < 4 => Look::Needs(4),
        Some(1) => match u16_at(bytes, 2) {
            0 | 1 => head(Kind::Audio, 4, 4),
            2 => head(Kind::Audio, 4, 10),
            _ => Look::Unknown(Unknown {
                number: 255,
                qemu: Some(1),
            }),
        },
        Some(&other) => Look::Unknown(Unknown {
            number: 255,
            qemu: Some(other),
        }),
    }
}

#[cfg(test)]
mod tests;
