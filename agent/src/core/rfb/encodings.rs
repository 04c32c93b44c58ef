//! Which announcements of a client are kept from the display. A client announces in
//! `SetEncodings` both how it can be sent the picture and which extensions it speaks; the display
//! answers by offering them.
//!
//! What QEMU does with those that have to do with input, seen in 7.2 and in the sources of its
//! `ui/vnc.c` and `ui/vnc-clipboard.c` up to 10:
//!
//! - **The extended clipboard** makes QEMU send its capabilities, and register this connection
//!   with its clipboard; from then on it tells the client of whatever the guest copies, until the
//!   connection ends, also if a later `SetEncodings` leaves it out. All that QEMU ever sends as
//!   `ServerCutText` is of the extended kind and goes to connections that have announced it: it
//!   answers a client's request only if it was told of what there is, and it is told only as one
//!   that is registered. A client that never announced it gets no clipboard. So the guest's
//!   clipboard is kept from a caller by keeping the announcement back from the first on, and
//!   nothing that the display sends need be read.
//! - **Extended keys** it only acknowledges; a client may send them unannounced.
//! - **Pointer type change** makes QEMU take a pointer's place for a movement from 0x7FFF while
//!   the guest has no absolute pointing device.
//! - **LED state** turns off QEMU's own presses of Num Lock and Caps Lock, see [`keys`](super::keys).
//! - **Audio** and **xvp** it offers if they are set up. Without the announcement a message of
//!   either closes the connection.
//! - **Extended desktop size** is how a client learns that the screen's size changed: the picture
//!   needs it. It lets clients ask for another size, which is a message of its own.
//!
//! What these announcements open stays shut for whoever may not use it, as the messages are kept
//! back; leaving them out as well means that a client does not offer to its user what will not
//! work. A session may get the lease later and a client announces only once, so what is kept back
//! depends on the rules of the session, and never on who holds the lease.

use super::rules::Rules;

/// Pointer events of more than 7 buttons.
pub const EXTENDED_MOUSE_BUTTONS: i32 = -316;
/// Reset and shutdown of the guest.
pub const XVP: i32 = -309;
/// The general input interface.
pub const GII: i32 = -305;
/// QEMU's audio.
pub const AUDIO: i32 = -259;
/// QEMU's extended key events.
pub const EXTENDED_KEY: i32 = -258;
/// QEMU's change between absolute and relative pointers.
pub const POINTER_TYPE_CHANGE: i32 = -257;
/// The extended clipboard.
pub const EXTENDED_CLIPBOARD: i32 = 0xC0A1_E5CE_u32.cast_signed();

/// Whether `encoding` is kept from the display. [`EXTENDED_MOUSE_BUTTONS`] always are, as with
/// them nobody could tell where a pointer event ends.
pub fn is_kept_back(rules: &Rules, encoding: i32) -> bool {
    match encoding {
        EXTENDED_MOUSE_BUTTONS => true,
        EXTENDED_CLIPBOARD => rules.view_only || rules.refuse_clipboard_from_guest,
        XVP | GII | AUDIO | EXTENDED_KEY | POINTER_TYPE_CHANGE => rules.view_only,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that noVNC announces, and what gtk-vnc and TigerVNC do beyond that.
    const ANNOUNCED: [i32; 30] = [
        1,
        50,
        7,
        -260,
        16,
        21,
        5,
        2,
        6,
        0,
        -26,
        -254,
        -223,
        -224,
        -258,
        -261,
        -308,
        -309,
        -312,
        -313,
        -307,
        -1_063_131_698,
        -316,
        0x574d_5664,
        -239,
        -257,
        -259,
        -314,
        -240,
        0x574d_5669,
    ];

    fn kept_back(rules: &Rules) -> Vec<i32> {
        let mut kept_back = ANNOUNCED.to_vec();
        kept_back.retain(|&encoding| is_kept_back(rules, encoding));
        kept_back
    }

    #[test]
    fn only_what_serves_what_is_refused_is_kept_back() {
        let rules = Rules::default();
        assert_eq!(kept_back(&rules), [EXTENDED_MOUSE_BUTTONS]);
        let rules = Rules {
            refuse_clipboard_from_guest: true,
            ..Rules::default()
        };
        assert_eq!(
            kept_back(&rules),
            [EXTENDED_CLIPBOARD, EXTENDED_MOUSE_BUTTONS]
        );
        let rules = Rules {
            refuse_clipboard_to_guest: true,
            ..Rules::default()
        };
        assert_eq!(kept_back(&rules), [EXTENDED_MOUSE_BUTTONS]);
    }

    #[test]
    fn who_only_views_announces_what_the_picture_needs() {
        let rules = Rules {
            view_only: true,
            ..Rules::default()
        };
        assert_eq!(
            kept_back(&rules),
            [
                EXTENDED_KEY,
                XVP,
                EXTENDED_CLIPBOARD,
                EXTENDED_MOUSE_BUTTONS,
                POINTER_TYPE_CHANGE,
                AUDIO
            ]
        );
        assert!(is_kept_back(&rules, GII));
    }
}
