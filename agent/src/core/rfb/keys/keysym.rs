//! Keysyms as QEMU reads them: which keys of a US keyboard type them. The numbers of keysyms are
//! those of X (`keysymdef.h`), the keys are Linux's numbers.

/// What the digits' and letters' rows and the signs type, from Linux's number on: without and with
/// Shift.
const ROWS: [(u16, &[u8], &[u8]); 5] = [
    (2, b"1234567890-=", b"!@#$%^&*()_+"),
    (16, b"qwertyuiop[]", b"QWERTYUIOP{}"),
    (30, b"asdfghjkl;'`", b"ASDFGHJKL:\"~"),
    (43, b"\\zxcvbnm,./", b"|ZXCVBNM<>?"),
    (57, b" ", b" "),
];

/// Those that type nothing, or are on the keypad, and the key beside the left Shift, which types
/// what others do too. Where a keysym may be either of two keys it is there twice: QEMU chooses
/// by modifiers and versions.
#[rustfmt::skip]
const KEYSYMS: &[(u16, u16)] = &[
    // The key that only ISO keyboards have.
    (0x3c, 86), (0x3e, 86), (0x7c, 86), (0xa6, 86),
    // ISO_Level3_Shift, ISO_Left_Tab.
    (0xfe03, 100), (0xfe20, 15),
    // BackSpace, Tab, Linefeed, Return, Pause, Scroll_Lock, Sys_Req, Escape, Multi_key.
    (0xff08, 14), (0xff09, 15), (0xff0a, 101), (0xff0d, 28), (0xff13, 119), (0xff14, 70),
    (0xff15, 99), (0xff1b, 1), (0xff20, 100),
    // Japanese: Muhenkan, Henkan, Hiragana, Hiragana_Katakana, Zenkaku_Hankaku, Eisu_toggle.
    (0xff22, 94), (0xff23, 92), (0xff25, 91), (0xff27, 93), (0xff2a, 41), (0xff30, 58),
    // Hangul, Hangul_Hanja.
    (0xff31, 122), (0xff34, 123),
    // Home, Left, Up, Right, Down, Prior, Next, End.
    (0xff50, 102), (0xff51, 105), (0xff52, 103), (0xff53, 106), (0xff54, 108), (0xff55, 104),
    (0xff56, 109), (0xff57, 107),
    // Print, Execute, Insert, Undo, Redo, Menu, Find, Cancel, Help, Break.
    (0xff61, 99), (0xff62, 99), (0xff63, 110), (0xff65, 131), (0xff66, 129), (0xff67, 127),
    (0xff68, 136), (0xff69, 128), (0xff6a, 138), (0xff6b, 119),
    // Mode_switch, Num_Lock.
    (0xff7e, 100), (0xff7f, 69),
    // KP_Space, KP_Tab, KP_Enter.
    (0xff80, 57), (0xff89, 15), (0xff8d, 96),
    // The keypad without Num Lock: Home, Left, Up, Right, Down, Prior, Next, End, Begin, Insert,
    // Delete.
    (0xff95, 71), (0xff96, 75), (0xff97, 72), (0xff98, 77), (0xff99, 80), (0xff9a, 73),
    (0xff9b, 81), (0xff9c, 79), (0xff9d, 76), (0xff9e, 82), (0xff9f, 83),
    // KP_Multiply, Add, Separator, Subtract, Decimal, Divide, and 0 to 9.
    (0xffaa, 55), (0xffab, 78), (0xffac, 83), (0xffac, 121), (0xffad, 74), (0xffae, 83),
    (0xffae, 121), (0xffaf, 98), (0xffb0, 82), (0xffb1, 79), (0xffb2, 80), (0xffb3, 81),
    (0xffb4, 75), (0xffb5, 76), (0xffb6, 77), (0xffb7, 71), (0xffb8, 72), (0xffb9, 73),
    (0xffbd, 117),
    // F1 to F24.
    (0xffbe, 59), (0xffbf, 60), (0xffc0, 61), (0xffc1, 62), (0xffc2, 63), (0xffc3, 64),
    (0xffc4, 65), (0xffc5, 66), (0xffc6, 67), (0xffc7, 68), (0xffc8, 87), (0xffc9, 88),
    (0xffca, 183), (0xffcb, 184), (0xffcc, 185), (0xffcd, 186), (0xffce, 187), (0xffcf, 188),
    (0xffd0, 189), (0xffd1, 190), (0xffd2, 191), (0xffd3, 192), (0xffd4, 193), (0xffd5, 194),
    // Shift_L, Shift_R, Control_L, Control_R, Caps_Lock, Shift_Lock.
    (0xffe1, 42), (0xffe2, 54), (0xffe3, 29), (0xffe4, 97), (0xffe5, 58), (0xffe6, 58),
    // Meta_L and Meta_R, which are the Alts to QEMU now and were others before; Alt_L, Alt_R.
    (0xffe7, 56), (0xffe7, 125), (0xffe8, 100), (0xffe8, 126), (0xffe9, 56), (0xffea, 100),
    // Super_L, Super_R, Hyper_L, Hyper_R.
    (0xffeb, 125), (0xffec, 126), (0xffed, 125), (0xffee, 126),
    // Delete.
    (0xffff, 111),
];

/// The keys that a keysym may be, by Linux's numbers: one, or two where QEMU chooses. None for
/// one that it does not know.
pub(super) fn keys(keysym: u32) -> Vec<u16> {
    // QEMU looks 16 bits up.
    let keysym = (keysym & 0xFFFF) as u16;
    let mut keys = Vec::with_capacity(2);
    if let Ok(character) = u8::try_from(keysym) {
        for (first, plain, shifted) in ROWS {
            let place = |row: &[u8]| row.iter().position(|&typed| typed == character);
            if let Some(place) = place(plain).or_else(|| place(shifted)) {
                // At most 12 to a row.
                keys.push(first + place as u16);
            }
        }
    }
    let beside = KEYSYMS.iter().filter(|(sym, _)| *sym == keysym);
    keys.extend(beside.map(|&(_, key)| key));
    keys
}

/// The same for a letter and its capital.
pub(super) fn folded(keysym: u32) -> u32 {
    match keysym & 0xFFFF {
        capital @ 0x41..=0x5a => capital + 0x20,
        keysym => keysym,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::keys::Key;

    fn names(keysym: u32) -> Vec<&'static str> {
        let named = |linux| Key::ALL.iter().find(|key| key.linux == linux).unwrap().name;
        keys(keysym).into_iter().map(named).collect()
    }

    #[test]
    fn letters_digits_and_signs_are_those_of_a_us_keyboard() {
        for (character, name) in [
            ('a', "a"),
            ('Z', "z"),
            ('z', "z"),
            ('q', "q"),
            ('M', "m"),
            ('1', "1"),
            ('!', "1"),
            ('0', "0"),
            (')', "0"),
            ('=', "equal"),
            ('+', "equal"),
            ('{', "bracket_left"),
            (']', "bracket_right"),
            ('"', "apostrophe"),
            ('`', "grave_accent"),
            ('~', "grave_accent"),
            ('\\', "backslash"),
            ('?', "slash"),
            (' ', "spc"),
        ] {
            assert_eq!(names(u32::from(character)), [name], "{character}");
        }
        assert_eq!(names(u32::from('<')), ["comma", "less"]);
        assert_eq!(names(u32::from('|')), ["backslash", "less"]);
    }

    #[test]
    fn keys_that_type_nothing_are_known() {
        for (keysym, name) in [
            (0xffff, "delete"),
            (0xff9f, "kp_decimal"),
            (0xff15, "sysrq"),
            (0xff61, "sysrq"),
            (0xffe3, "ctrl"),
            (0xffe4, "ctrl_r"),
            (0xffe9, "alt"),
            (0xfe03, "alt_r"),
            (0xffeb, "meta_l"),
            (0xffbe, "f1"),
            (0xffc9, "f12"),
            (0xff1b, "esc"),
        ] {
            assert_eq!(names(keysym), [name], "{keysym:#x}");
        }
        assert_eq!(names(0xffe7), ["alt", "meta_l"]);
    }

    #[test]
    fn only_16_bits_count() {
        assert_eq!(names(0x5_ffe3), ["ctrl"]);
        assert_eq!(names(0x0100_0041), ["a"]);
        assert!(keys(0).is_empty());
        assert!(keys(0xdead_0000).is_empty());
    }

    #[test]
    fn every_key_is_one_of_the_keyboard() {
        for keysym in 0..=0xFFFF {
            for key in keys(keysym) {
                assert!(Key::ALL.iter().any(|known| known.linux == key), "{key}");
            }
        }
    }
}
