//! What becomes of one message of a client, by the rules and the lease. Where messages begin and
//! end, and how they get to the display, is not decided here.

use super::super::encodings::{EXTENDED_CLIPBOARD, is_kept_back};
use super::super::keys::KeyEvent;
use super::super::message::{Head, Kind, MAX_CUT_TEXT, u16_at};
use super::{ClientFilter, DropKind, Dropped, Violation};

/// Actions of the extended clipboard that carry nothing of the caller's to the guest: caps,
/// request and peek.
const ACTIONS_FROM_GUEST: u32 = 0x0700_0000;

/// The bits of a cut text's flags that are actions, or may become some.
const ACTIONS: u32 = 0xFFFF_0000;

/// The bytes of a cut text that are not counted as text.
const CUT_TEXT_HEAD: u64 = 8;

/// What becomes of a message.
pub(super) enum Verdict {
    /// It passes as it is.
    Pass,
    /// None of it passes.
    Drop,
    /// This message in its place.
    Instead(Vec<u8>),
}

impl ClientFilter {
    /// What becomes of a message of which `seen` is there. Counts what it takes out of one; one
    /// that is dropped whole is for the caller to count.
    pub(super) fn verdict(
        &mut self,
        head: Head,
        seen: &[u8],
        dropped: &mut Dropped,
    ) -> Result<Verdict, Violation> {
        let passes = match head.kind {
            Kind::SetPixelFormat | Kind::UpdateRequest | Kind::ContinuousUpdates | Kind::Fence => {
                true
            }
            Kind::SetEncodings => return Ok(self.encodings(seen, dropped)),
            _ if self.rules.view_only || !self.holds_lease => false,
            Kind::Key | Kind::ExtendedKey => self.keys.takes(KeyEvent::read(seen)),
            Kind::Pointer => {
                self.pressed_pointer = seen.try_into().ok().filter(|event: &[u8; 6]| event[1] != 0);
                true
            }
            Kind::CutText | Kind::ExtendedCutText(_) => return self.cut_text(head),
            Kind::FixColourMapEntries
            | Kind::Xvp
            | Kind::SetDesktopSize
            | Kind::Gii
            | Kind::Audio => true,
        };
        if !passes {
            return Ok(Verdict::Drop);
        }
        // What changes the guest, and not only the picture of it.
        self.typed |= matches!(
            head.kind,
            Kind::Key | Kind::ExtendedKey | Kind::Pointer | Kind::Xvp | Kind::SetDesktopSize
        );
        Ok(Verdict::Pass)
    }

    fn cut_text(&self, head: Head) -> Result<Verdict, Violation> {
        let refused = self.rules.refuse_clipboard_to_guest;
        let passes = match head.kind {
            Kind::ExtendedCutText(Some(flags)) => {
                let from_guest = flags & ACTIONS & !ACTIONS_FROM_GUEST == 0;
                self.clipboard_announced && (from_guest || !refused)
            }
            Kind::ExtendedCutText(None) => false,
            _ => !refused,
        };
        if !passes {
            return Ok(Verdict::Drop);
        }
        let text = head.len - CUT_TEXT_HEAD;
        if text > MAX_CUT_TEXT {
            return Err(Violation::CutTextTooLong(text));
        }
        Ok(Verdict::Pass)
    }

    /// Takes out of `SetEncodings` what the display is not to know.
    fn encodings(&mut self, message: &[u8], dropped: &mut Dropped) -> Verdict {
        let (all, _) = message[4..].as_chunks::<4>();
        let kept: Vec<i32> = all
            .iter()
            .map(|bytes| i32::from_be_bytes(*bytes))
            .filter(|&encoding| !is_kept_back(&self.rules, encoding))
            .collect();
        self.clipboard_announced = kept.contains(&EXTENDED_CLIPBOARD);
        let removed = usize::from(u16_at(message, 2)) - kept.len();
        if removed == 0 {
            return Verdict::Pass;
        }
        dropped.count(DropKind::Encodings, removed);
        let mut instead = Vec::with_capacity(4 + 4 * kept.len());
        instead.extend_from_slice(&message[..2]);
        instead.extend_from_slice(&(kept.len() as u16).to_be_bytes());
        instead.extend(kept.into_iter().flat_map(i32::to_be_bytes));
        Verdict::Instead(instead)
    }
}
