//! The keys themselves: QEMU's names for them with Linux's numbers.
//!
//! The names are those of `QKeyCode` in QEMU's `qapi/ui.json`, all but `unmapped`; `f13` to
//! `f24` are there since QEMU 8.0. The numbers are those that Linux's
//! `input-event-codes.h` gives to the same keys.

use super::Key;

const fn key(name: &'static str, linux: u16) -> Key {
    Key { name, linux }
}

/// Every key, each name once. Two pairs share a number, as QEMU has two names for what
/// Linux takes for one key: `print` and `sysrq`, `asterisk` and `kp_multiply`.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    // Modifiers.
    key("shift", 42), key("shift_r", 54), key("ctrl", 29), key("ctrl_r", 97), key("alt", 56),
    key("alt_r", 100), key("meta_l", 125), key("meta_r", 126), key("menu", 139),
    key("compose", 127),
    // The digits above the letters.
    key("1", 2), key("2", 3), key("3", 4), key("4", 5), key("5", 6), key("6", 7), key("7", 8),
    key("8", 9), key("9", 10), key("0", 11),
    // Letters, by their place on a US keyboard.
    key("q", 16), key("w", 17), key("e", 18), key("r", 19), key("t", 20), key("y", 21),
    key("u", 22), key("i", 23), key("o", 24), key("p", 25), key("a", 30), key("s", 31),
    key("d", 32), key("f", 33), key("g", 34), key("h", 35), key("j", 36), key("k", 37),
    key("l", 38), key("z", 44), key("x", 45), key("c", 46), key("v", 47), key("b", 48),
    key("n", 49), key("m", 50),
    // Signs, likewise.
    key("minus", 12), key("equal", 13), key("bracket_left", 26), key("bracket_right", 27),
    key("semicolon", 39), key("apostrophe", 40), key("grave_accent", 41), key("backslash", 43),
    key("comma", 51), key("dot", 52), key("slash", 53), key("less", 86), key("asterisk", 55),
    key("spc", 57),
    // What edits and moves.
    key("esc", 1), key("backspace", 14), key("tab", 15), key("ret", 28), key("insert", 110),
    key("delete", 111), key("home", 102), key("end", 107), key("pgup", 104), key("pgdn", 109),
    key("up", 103), key("down", 108), key("left", 105), key("right", 106),
    // Locks, and what a PC keyboard has beside them.
    key("caps_lock", 58), key("num_lock", 69), key("scroll_lock", 70), key("sysrq", 99),
    key("print", 99), key("pause", 119),
    // Function keys.
    key("f1", 59), key("f2", 60), key("f3", 61), key("f4", 62), key("f5", 63), key("f6", 64),
    key("f7", 65), key("f8", 66), key("f9", 67), key("f10", 68), key("f11", 87), key("f12", 88),
    key("f13", 183), key("f14", 184), key("f15", 185), key("f16", 186), key("f17", 187),
    key("f18", 188), key("f19", 189), key("f20", 190), key("f21", 191), key("f22", 192),
    key("f23", 193), key("f24", 194),
    // The keypad.
    key("kp_divide", 98), key("kp_multiply", 55), key("kp_subtract", 74), key("kp_add", 78),
    key("kp_enter", 96), key("kp_decimal", 83), key("kp_comma", 121), key("kp_equals", 117),
    key("kp_0", 82), key("kp_1", 79), key("kp_2", 80), key("kp_3", 81), key("kp_4", 75),
    key("kp_5", 76), key("kp_6", 77), key("kp_7", 71), key("kp_8", 72), key("kp_9", 73),
    // What Sun and other keyboards have.
    key("stop", 128), key("again", 129), key("props", 130), key("undo", 131), key("front", 132),
    key("copy", 133), key("open", 134), key("paste", 135), key("find", 136), key("cut", 137),
    key("help", 138), key("lf", 101),
    // Japanese and Korean keyboards.
    key("ro", 89), key("hiragana", 91), key("henkan", 92), key("katakanahiragana", 93),
    key("muhenkan", 94), key("yen", 124), key("lang1", 122), key("lang2", 123),
    // Power, sound, programs and the web.
    key("power", 116), key("sleep", 142), key("wake", 143), key("audionext", 163),
    key("audioprev", 165), key("audiostop", 166), key("audioplay", 164), key("audiomute", 113),
    key("volumeup", 115), key("volumedown", 114), key("mediaselect", 226), key("mail", 155),
    key("calculator", 140), key("computer", 157), key("ac_home", 172), key("ac_back", 158),
    key("ac_forward", 159), key("ac_refresh", 173), key("ac_bookmarks", 156),
];

/// Other names that people use, each with QEMU's.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("control", "ctrl"),
    ("lctrl", "ctrl"),
    ("rctrl", "ctrl_r"),
    ("lalt", "alt"),
    ("ralt", "alt_r"),
    ("altgr", "alt_r"),
    ("lshift", "shift"),
    ("rshift", "shift_r"),
    ("win", "meta_l"),
    ("super", "meta_l"),
    ("meta", "meta_l"),
    ("escape", "esc"),
    ("enter", "ret"),
    ("return", "ret"),
    ("space", "spc"),
    ("del", "delete"),
    ("ins", "insert"),
    ("bksp", "backspace"),
    ("pageup", "pgup"),
    ("pagedown", "pgdn"),
    ("capslock", "caps_lock"),
    ("numlock", "num_lock"),
    ("scrolllock", "scroll_lock"),
    ("printscreen", "print"),
    ("prtsc", "print"),
    ("period", "dot"),
    ("quote", "apostrophe"),
    ("grave", "grave_accent"),
];
