//! The filter once more, message by message, and properties of any stream.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::core::rfb::fuzzing::{self, Passed};

const SYSRQ: u32 = 0xff15;

/// What a client may say.
#[derive(Clone, Debug)]
enum Said {
    Format([u8; 19]),
    Colours(u8),
    Encodings(Vec<i32>),
    Update(bool),
    Key {
        down: bool,
        keysym: u32,
    },
    ExtendedKey {
        down: bool,
        keysym: u32,
        number: u32,
    },
    Pointer([u8; 5]),
    Text(u16),
    Clipboard {
        flags: u32,
        len: u16,
    },
    NoClipboard(u8),
    Continuous(bool),
    Fence(u8),
    Xvp(u8),
    Size(u8),
    Gii {
        big: bool,
        len: u16,
    },
    Audio(bool),
    AudioFormat([u8; 6]),
}

impl Said {
    fn bytes(&self) -> Vec<u8> {
        let with = |head: &[u8], filler: usize| [head, &vec![0x2a; filler]].concat();
        match self {
            Self::Format(rest) => [&[0], &rest[..]].concat(),
            Self::Colours(count) => with(&[1, 0, 0, 0, 0, *count], 6 * usize::from(*count)),
            Self::Encodings(announced) => encodings(announced),
            Self::Update(incremental) => [&[3, u8::from(*incremental)], &UPDATE[2..]].concat(),
            Self::Key { down, keysym } => {
                [&[4, u8::from(*down), 0, 0], &keysym.to_be_bytes()[..]].concat()
            }
            Self::ExtendedKey {
                down,
                keysym,
                number,
            } => {
                let head = [255, 0, 0, u8::from(*down)];
                [head, keysym.to_be_bytes(), number.to_be_bytes()].concat()
            }
            Self::Pointer(rest) => [&[5], &rest[..]].concat(),
            Self::Text(len) => cut_text((*len).into(), &vec![b't'; (*len).into()]),
            Self::Clipboard { flags, len } => {
                let text = with(&flags.to_be_bytes(), usize::from(*len));
                cut_text(-4 - i32::from(*len), &text)
            }
            Self::NoClipboard(len) => cut_text(-i32::from(*len), &vec![0; (*len).into()]),
            Self::Continuous(on) => [&[150, u8::from(*on)], &UPDATE[2..]].concat(),
            Self::Fence(len) => with(&[248, 0, 0, 0, 0, 0, 0, 1, *len], (*len).into()),
            Self::Xvp(code) => vec![250, 0, 1, *code],
            Self::Size(screens) => with(
                &[251, 0, 4, 0, 3, 0, *screens, 0],
                16 * usize::from(*screens),
            ),
            Self::Gii { big, len } => {
                let (endian, count) = match big {
                    true => (0x80, len.to_be_bytes()),
                    false => (0, len.to_le_bytes()),
                };
                with(&[253, endian, count[0], count[1]], (*len).into())
            }
            Self::Audio(on) => vec![255, 1, 0, u8::from(*on)],
            Self::AudioFormat(rest) => [&[255, 1, 0, 2], &rest[..]].concat(),
        }
    }
}

fn said() -> impl Strategy<Value = Said> {
    let keysym = || prop_oneof![Just(SYSRQ), Just(0x61u32), Just(0xffe3)];
    let number = prop_oneof![Just(0x54u32), Just(0x1e), Just(0)];
    let announced = prop_oneof![
        Just(EXTENDED_CLIPBOARD),
        Just(EXTENDED_MOUSE_BUTTONS),
        -320..20i32,
    ];
    let flags = prop_oneof![
        Just(0x0200_0001u32),
        Just(0x0800_0001),
        Just(0x1000_0001),
        any::<u32>()
    ];
    prop_oneof![
        any::<[u8; 19]>().prop_map(Said::Format),
        any::<u8>().prop_map(Said::Colours),
        prop::collection::vec(announced, 0..8).prop_map(Said::Encodings),
        any::<bool>().prop_map(Said::Update),
        (any::<bool>(), keysym()).prop_map(|(down, keysym)| Said::Key { down, keysym }),
        (any::<bool>(), keysym(), number).prop_map(|(down, keysym, number)| Said::ExtendedKey {
            down,
            keysym,
            number
        }),
        any::<[u8; 5]>().prop_map(Said::Pointer),
        (0..600u16).prop_map(Said::Text),
        (flags, 0..600u16).prop_map(|(flags, len)| Said::Clipboard { flags, len }),
        (1..4u8).prop_map(Said::NoClipboard),
        any::<bool>().prop_map(Said::Continuous),
        any::<u8>().prop_map(Said::Fence),
        any::<u8>().prop_map(Said::Xvp),
        any::<u8>().prop_map(Said::Size),
        (any::<bool>(), 0..600u16).prop_map(|(big, len)| Said::Gii { big, len }),
        any::<bool>().prop_map(Said::Audio),
        any::<[u8; 6]>().prop_map(Said::AudioFormat),
    ]
}

/// With `sysrq` alone among the keys that may be refused.
fn rules() -> impl Strategy<Value = Rules> {
    any::<[bool; 4]>().prop_map(|[view_only, to_guest, from_guest, sysrq]| Rules {
        view_only,
        refuse_clipboard_to_guest: to_guest,
        refuse_clipboard_from_guest: from_guest,
        refused_keys: parse_refused_keys(&["sysrq"][..usize::from(sysrq)]).unwrap(),
    })
}

/// What should become of it all.
#[derive(Default)]
struct Model {
    passed: Passed,
    announced: bool,
    /// Keys that are down, and those whose press was kept back: as both readings have them.
    down: BTreeSet<(usize, &'static str)>,
    kept_back: BTreeSet<(usize, &'static str)>,
}

impl Model {
    fn hears(&mut self, said: &Said, rules: &Rules, holds_lease: bool) {
        let writes = holds_lease && !rules.view_only;
        let kind = match said {
            Said::Format(_) | Said::Update(_) | Said::Continuous(_) | Said::Fence(_) => None,
            Said::Encodings(announced) => return self.announces(announced, rules),
            Said::Key { down, keysym } => {
                let passes = writes && self.presses(*down, [typed(*keysym); 2], rules);
                (!passes).then_some(DropKind::Key)
            }
            Said::ExtendedKey {
                down,
                keysym,
                number,
            } => {
                let key = match number {
                    0x54 => Some("sysrq"),
                    0x1e => Some("a"),
                    _ => None,
                };
                let passes = writes && self.presses(*down, [key, typed(*keysym)], rules);
                (!passes).then_some(DropKind::ExtendedKey)
            }
            Said::Text(_) if writes && !rules.refuse_clipboard_to_guest => None,
            Said::Clipboard { flags, .. } if writes && self.announced => {
                let to_guest = flags & 0xF8FF_0000 != 0;
                (to_guest && rules.refuse_clipboard_to_guest).then_some(DropKind::Clipboard)
            }
            Said::Text(_) | Said::Clipboard { .. } | Said::NoClipboard(_) => {
                Some(DropKind::Clipboard)
            }
            _ if writes => None,
            Said::Pointer(_) => Some(DropKind::Pointer),
            Said::Xvp(_) => Some(DropKind::Xvp),
            Said::Size(_) => Some(DropKind::DesktopSize),
            Said::Audio(_) | Said::AudioFormat(_) => Some(DropKind::Audio),
            Said::Colours(_) | Said::Gii { .. } => Some(DropKind::Other),
        };
        match kind {
            None => self.passed.output.extend(said.bytes()),
            Some(kind) => self.passed.dropped.count(kind, 1),
        }
    }

    fn announces(&mut self, announced: &[i32], rules: &Rules) {
        let removed = |encoding: i32| match encoding {
            -316 => true,
            -1_063_131_698 => rules.view_only || rules.refuse_clipboard_from_guest,
            -309 | -305 | -259..=-257 => rules.view_only,
            _ => false,
        };
        let (gone, kept): (Vec<i32>, Vec<i32>) = announced.iter().partition(|it| removed(**it));
        self.announced = kept.contains(&-1_063_131_698);
        self.passed.output.extend(encodings(&kept));
        self.passed.dropped.count(DropKind::Encodings, gone.len());
    }

    fn presses(&mut self, down: bool, keys: [Option<&'static str>; 2], rules: &Rules) -> bool {
        if rules.refused_keys.is_empty() {
            return true;
        }
        let keys = keys.into_iter().enumerate();
        let keys: BTreeSet<_> = keys.filter_map(|(at, key)| Some((at, key?))).collect();
        let passes = if down {
            keys.iter().all(|(_, key)| *key != "sysrq")
        } else {
            !self.down.is_disjoint(&keys) || self.kept_back.is_disjoint(&keys)
        };
        self.kept_back.retain(|key| !keys.contains(key));
        if !down {
            self.down.retain(|key| !keys.contains(key));
        } else if passes {
            self.down.extend(keys);
        } else {
            self.kept_back.extend(keys);
        }
        passes
    }
}

fn typed(keysym: u32) -> Option<&'static str> {
    match keysym {
        SYSRQ => Some("sysrq"),
        0x61 => Some("a"),
        0xffe3 => Some("ctrl"),
        _ => None,
    }
}

/// Cuts `wire` at these places.
fn cut<'a>(wire: &'a [u8], at: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = at.iter().map(|at| at.index(wire.len() + 1)).collect();
    places.extend([0, wire.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|ends| &wire[ends[0]..ends[1]])
        .collect()
}

proptest! {
    #[test]
    fn however_it_is_cut_each_message_goes_its_way(
        rules in rules(),
        holds_lease: bool,
        said in prop::collection::vec(said(), 0..30),
        at in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let mut model = Model::default();
        said.iter().for_each(|said| model.hears(said, &rules, holds_lease));
        let wire: Vec<u8> = said.iter().flat_map(Said::bytes).collect();
        let mut filter = ClientFilter::new(rules.clone());
        let pieces = cut(&wire, &at).into_iter().map(|piece| (piece, holds_lease));
        let passed = fuzzing::pass(&mut filter, pieces);
        prop_assert_eq!(&passed, &model.passed);
        prop_assert_eq!(filter.held(), 0);
        if rules.view_only || !holds_lease {
            let (messages, rest) = messages(&passed.output);
            prop_assert!(messages.into_iter().all(is_harmless) && rest.is_empty());
        }
    }

    /// Each call's share is by itself what a viewer may say, unless it has the lease; and all of
    /// it is messages, with nothing left down.
    #[test]
    fn however_the_lease_goes_the_display_gets_messages(
        rules in rules(),
        said in prop::collection::vec(said(), 0..30),
        at in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..60),
    ) {
        let wire: Vec<u8> = said.iter().flat_map(Said::bytes).collect();
        let (at, leases): (Vec<_>, Vec<_>) = at.into_iter().unzip();
        let mut filter = ClientFilter::new(rules.clone());
        let mut output = Vec::new();
        for (piece, holds_lease) in cut(&wire, &at).into_iter().zip(leases.into_iter().chain([false])) {
            let mut out = Vec::new();
            filter.set_lease(holds_lease, &mut out).unwrap();
            output.extend(out.concat());
            out.clear();
            filter.filter(Bytes::copy_from_slice(piece), holds_lease, &mut out).unwrap();
            let passed = out.concat();
            if !holds_lease {
                let (messages, rest) = messages(&passed);
                prop_assert!(messages.into_iter().all(is_harmless) && rest.is_empty());
            }
            output.extend(passed);
        }
        let (messages, rest) = messages(&output);
        prop_assert_eq!(rest, [0; 0]);
        let mut guest = fuzzing::Guest::default();
        for message in messages {
            guest.takes(message, &rules);
        }
        prop_assert!(guest.let_go());
    }

    #[test]
    fn no_bytes_break_a_promise(choice: u8, wire in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzzing::check(&[&[choice], &wire[..]].concat());
    }

    #[test]
    fn nor_do_messages(choice: u8, said in prop::collection::vec(said(), 0..12)) {
        let wire: Vec<u8> = said.iter().flat_map(Said::bytes).collect();
        fuzzing::check(&[&[choice], &wire[..]].concat());
    }
}
