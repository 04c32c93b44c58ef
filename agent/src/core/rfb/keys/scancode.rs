//! The numbers that extended key events have for keys: XT scancodes, with 0x80 added where the
//! keyboard sends a prefix. All that QEMU 7.2 answers to, and the further function keys of 8.0.
//! The names are in `core::keys`.

/// Those that are not Linux's number too, as 1 to 83, 86, 87 and 88 are.
#[rustfmt::skip]
const NUMBERS: &[(u16, u16)] = &[
    (0x54, 99), (0xb7, 99), (0x59, 117), (0x5b, 101), (0x64, 134), (0x65, 135), (0x70, 93),
    (0x71, 123), (0x72, 122), (0x73, 89), (0x77, 91), (0x79, 92), (0x7b, 94), (0x7d, 124),
    (0x7e, 121), (0x85, 129), (0x86, 130), (0x87, 131), (0x8c, 132), (0x90, 165), (0x99, 163),
    (0x9c, 96), (0x9d, 97), (0x9e, 139), (0xa0, 113), (0xa1, 140), (0xa2, 164), (0xa4, 166),
    (0xae, 114), (0xb0, 115), (0xb2, 172), (0xb5, 98), (0xb8, 100), (0xbc, 137), (0xc1, 136),
    (0xc6, 119), (0xc7, 102), (0xc8, 103), (0xc9, 104), (0xcb, 105), (0xcd, 106), (0xcf, 107),
    (0xd0, 108), (0xd1, 109), (0xd2, 110), (0xd3, 111), (0xdb, 125), (0xdc, 126), (0xdd, 127),
    (0xde, 116), (0xdf, 142), (0xe3, 143), (0xe6, 156), (0xe7, 173), (0xe8, 128), (0xe9, 159),
    (0xea, 158), (0xeb, 157), (0xec, 155), (0xed, 226), (0xf5, 138), (0xf8, 133),
    // f13 to f24.
    (0x5d, 183), (0x5e, 184), (0x5f, 185), (0x55, 186), (0x83, 187), (0xf7, 188), (0x84, 189),
    (0x5a, 190), (0x74, 191), (0xf9, 192), (0x6d, 193), (0x6f, 194),
];

/// The key of this number, by Linux's.
pub(super) fn key(number: u32) -> Option<u16> {
    // QEMU keeps 16 bits.
    let number = (number & 0xFFFF) as u16;
    match number {
        1..=83 | 86..=88 => Some(number),
        _ => NUMBERS
            .iter()
            .find(|(xt, _)| *xt == number)
            .map(|&(_, linux)| linux),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::core::keys::Key;

    #[test]
    fn every_key_has_a_number_and_every_number_a_key() {
        let keys: BTreeSet<u16> = (0..=0xFFFF).filter_map(key).collect();
        let named: BTreeSet<u16> = Key::ALL.iter().map(|key| key.linux).collect();
        assert_eq!(keys, named);
        let numbers: BTreeSet<u16> = NUMBERS.iter().map(|(xt, _)| *xt).collect();
        assert_eq!(numbers.len(), NUMBERS.len(), "each once");
        assert_eq!(key(0), None);
    }

    #[test]
    fn only_16_bits_count() {
        for (number, name) in [
            (0x1d, "ctrl"),
            (0x1_001d, "ctrl"),
            (0x38, "alt"),
            (0xdead_00d3, "delete"),
        ] {
            assert_eq!(key(number), Key::named(name).map(|key| key.linux));
        }
        assert_eq!(key(0x401d), None);
    }
}
