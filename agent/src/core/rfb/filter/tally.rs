//! How much was dropped, by kind.

use std::ops::AddAssign;

use super::super::message::Kind;

/// What was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropKind {
    /// Key events.
    Key,
    /// QEMU's extended key events.
    ExtendedKey,
    /// Pointer events.
    Pointer,
    /// Messages of the clipboard.
    Clipboard,
    /// Requests for another screen size.
    DesktopSize,
    /// Requests to shut down, reboot or reset.
    Xvp,
    /// Messages about sound.
    Audio,
    /// Encodings, each taken out of a message that passed.
    Encodings,
    /// All others.
    Other,
}

impl DropKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Key,
        Self::ExtendedKey,
        Self::Pointer,
        Self::Clipboard,
        Self::DesktopSize,
        Self::Xvp,
        Self::Audio,
        Self::Encodings,
        Self::Other,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::ExtendedKey => "extended_key",
            Self::Pointer => "pointer",
            Self::Clipboard => "clipboard",
            Self::DesktopSize => "desktop_size",
            Self::Xvp => "xvp",
            Self::Audio => "audio",
            Self::Encodings => "encodings",
            Self::Other => "other",
        }
    }

    pub(super) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Key => Self::Key,
            Kind::ExtendedKey => Self::ExtendedKey,
            Kind::Pointer => Self::Pointer,
            Kind::CutText | Kind::ExtendedCutText(_) => Self::Clipboard,
            Kind::SetDesktopSize => Self::DesktopSize,
            Kind::Xvp => Self::Xvp,
            Kind::Audio => Self::Audio,
            Kind::SetEncodings => Self::Encodings,
            Kind::SetPixelFormat
            | Kind::FixColourMapEntries
            | Kind::UpdateRequest
            | Kind::ContinuousUpdates
            | Kind::Fence
            | Kind::Gii => Self::Other,
        }
    }
}

/// How many were dropped of each kind. A message is counted when it is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped([usize; DropKind::ALL.len()]);

impl Dropped {
    /// How many of this kind.
    pub fn of(&self, kind: DropKind) -> usize {
        self.0[kind as usize]
    }

    /// Whether none.
    pub fn is_none(&self) -> bool {
        self.0.iter().all(|&count| count == 0)
    }

    /// The kinds of which there were any, with how many.
    pub fn iter(&self) -> impl Iterator<Item = (DropKind, usize)> {
        let counts = DropKind::ALL.into_iter().zip(self.0);
        counts.filter(|&(_, count)| count > 0)
    }

    pub(super) fn count(&mut self, kind: DropKind, count: usize) {
        self.0[kind as usize] += count;
    }
}

impl AddAssign for Dropped {
    fn add_assign(&mut self, other: Self) {
        for (kind, count) in other.iter() {
            self.count(kind, count);
        }
    }
}
