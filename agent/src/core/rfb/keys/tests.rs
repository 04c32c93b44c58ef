use proptest::prelude::*;

use super::*;
use crate::core::keys::Key;
use crate::core::rfb::rules::parse_refused_keys;

/// Control, Alt and Delete, and others, each with the keysym and the number that a client sends.
const CTRL: (u32, u32) = (0xffe3, 0x1d);
const CTRL_R: (u32, u32) = (0xffe4, 0x9d);
const ALT: (u32, u32) = (0xffe9, 0x38);
const ALTGR: (u32, u32) = (0xfe03, 0xb8);
const DELETE: (u32, u32) = (0xffff, 0xd3);
const KP_DELETE: (u32, u32) = (0xff9f, 0x53);
const SYSRQ: (u32, u32) = (0xff15, 0x54);
const A: (u32, u32) = (0x61, 0x1e);
const CAPITAL_A: (u32, u32) = (0x41, 0x1e);

fn filter(refused: &[&str]) -> KeyFilter {
    KeyFilter::new(parse_refused_keys(refused).unwrap())
}

fn plain(down: bool, (keysym, _): (u32, u32)) -> KeyEvent {
    KeyEvent {
        down,
        keysym,
        number: None,
    }
}

fn extended(down: bool, (keysym, number): (u32, u32)) -> KeyEvent {
    KeyEvent {
        down,
        keysym,
        number: Some(number),
    }
}

/// Presses and lets go as `+` and `-` say, and tells which of them pass.
fn passes(filter: &mut KeyFilter, events: &[(char, (u32, u32))]) -> Vec<bool> {
    let takes = |&(sign, key): &(char, _)| filter.takes(extended(sign == '+', key));
    events.iter().map(takes).collect()
}

#[test]
fn the_press_that_completes_a_combination_is_kept_back_with_its_release() {
    let mut keys = filter(&["ctrl-alt-delete"]);
    let events = [
        ('+', CTRL),
        ('+', ALT),
        ('+', DELETE),
        ('+', DELETE),
        ('-', DELETE),
        ('-', ALT),
        ('+', DELETE),
        ('-', DELETE),
        ('-', CTRL),
    ];
    let expected = [true, true, false, false, false, true, true, true, true];
    assert_eq!(passes(&mut keys, &events), expected);
}

#[test]
fn no_order_of_pressing_helps() {
    for order in [
        [DELETE, CTRL, ALT],
        [ALT, DELETE, CTRL],
        [CTRL_R, DELETE, ALTGR],
        [KP_DELETE, ALT, CTRL],
    ] {
        let mut keys = filter(&["ctrl-alt-delete"]);
        let events = order.map(|key| ('+', key));
        assert_eq!(passes(&mut keys, &events), [true, true, false]);
        // Another key goes on working, the one that is kept back too once it completes nothing.
        let events = [('+', A), ('-', A), ('-', order[0]), ('+', order[2])];
        assert_eq!(passes(&mut keys, &events), [true; 4]);
        assert!(!keys.takes(extended(true, order[0])));
    }
}

#[test]
fn both_of_a_modifier_count_until_both_are_let_go() {
    let mut keys = filter(&["ctrl-a"]);
    let events = [
        ('+', CTRL),
        ('+', CTRL_R),
        ('-', CTRL),
        ('+', A),
        ('-', CTRL_R),
    ];
    assert_eq!(passes(&mut keys, &events), [true, true, true, false, true]);
    assert_eq!(passes(&mut keys, &[('+', CAPITAL_A)]), [true]);
}

#[test]
fn a_key_alone_never_passes() {
    let mut keys = filter(&["sysrq"]);
    let events = [('+', SYSRQ), ('-', SYSRQ), ('+', ALT), ('+', (0, 0xb7))];
    assert_eq!(passes(&mut keys, &events), [false, false, true, false]);
    assert!(!keys.takes(plain(true, SYSRQ)));
    assert!(!keys.takes(plain(true, (0xff61, 0))), "Print");
}

#[test]
fn neither_spelling_of_a_key_passes_whichever_the_display_goes_by() {
    // The keysym tells another story than the number, for a display without a layout, and with.
    for (ctrl, a) in [
        ((A.0, CTRL.1), (CTRL.0, A.1)),
        ((0, CTRL.1), (0, A.1)),
        ((CTRL.0, 0), (A.0, 0)),
        ((CTRL.0, 0x7fff), (CAPITAL_A.0, 0x7fff)),
        // Bits that QEMU does not look at.
        ((0x5_0000 | CTRL.0, 0), (0x0100_0000 | A.0, 0)),
        ((0, 0x1_0000 | CTRL.1), (0, 0xFFFF_0000 | A.1)),
    ] {
        let mut keys = filter(&["ctrl-a"]);
        assert!(keys.takes(extended(true, ctrl)));
        assert!(!keys.takes(extended(true, a)), "{ctrl:x?} {a:x?}");
    }
    // One of each kind of event.
    let mut keys = filter(&["ctrl-a"]);
    assert!(keys.takes(plain(true, CTRL)));
    assert!(!keys.takes(extended(true, (0, A.1))));
    assert!(!keys.takes(extended(true, (A.0, 0))));
    assert!(!keys.takes(plain(true, CAPITAL_A)));
}

#[test]
fn all_that_is_down_is_let_go_as_it_was_pressed() {
    let mut keys = filter(&["ctrl-delete"]);
    let events = [('+', CTRL), ('+', DELETE), ('+', A), ('+', A), ('-', A)];
    assert_eq!(passes(&mut keys, &events), [true, false, true, true, true]);
    // Let go by a client that has let go of Shift first.
    assert!(keys.takes(plain(true, CAPITAL_A)));
    assert!(keys.takes(plain(false, A)));
    assert!(keys.takes(plain(true, ALT)));
    let mut releases = Vec::new();
    keys.release_all(&mut releases);
    let expected = [
        255, 0, 0, 0, 0, 0, 0xff, 0xe3, 0, 0, 0, 0x1d, // Control
        4, 0, 0, 0, 0, 0, 0xff, 0xe9, // Alt
    ];
    assert_eq!(releases, expected);
    releases.clear();
    keys.release_all(&mut releases);
    assert!(releases.is_empty());
    assert!(keys.takes(extended(true, DELETE)), "Control is up now");
}

#[test]
fn no_more_is_held_than_may_be() {
    for refused in [&[][..], &["ctrl-delete"]] {
        let mut keys = filter(refused);
        let fill = u32::try_from(MAX_HELD).unwrap();
        for keysym in 0..fill {
            assert!(keys.takes(plain(true, (0x1000 + keysym, 0))));
        }
        assert!(!keys.takes(plain(true, A)));
        assert!(keys.takes(plain(true, (0x1000, 0))), "it is down already");
        assert!(keys.takes(plain(false, (0x1000, 0))));
        assert!(keys.takes(plain(true, A)));
    }
}

/// A press or a release of one of a few keys, in one of both kinds of event.
fn event() -> impl Strategy<Value = (&'static str, KeyEvent)> {
    let keys = [
        ("ctrl", CTRL),
        ("ctrl_r", CTRL_R),
        ("alt", ALT),
        ("alt_r", ALTGR),
        ("delete", DELETE),
        ("kp_decimal", KP_DELETE),
        ("sysrq", SYSRQ),
        ("a", A),
    ];
    let key = prop::sample::select(keys.to_vec());
    (key, any::<bool>(), any::<bool>()).prop_map(|((name, key), down, of_qemu)| {
        let event = if of_qemu {
            extended(down, key)
        } else {
            plain(down, key)
        };
        (name, event)
    })
}

proptest! {
    /// The guest never has a refused combination, what completes none passes, and a release goes
    /// the way of its press.
    #[test]
    fn only_what_completes_a_combination_is_kept_back(
        events in prop::collection::vec(event(), 0..60)
    ) {
        let refused = ["ctrl-alt-delete", "sysrq", "ctrl-alt_r-a"];
        let mut keys = filter(&refused);
        let refused = parse_refused_keys(&refused).unwrap();
        let number = |name| Key::named(name).unwrap().linux;
        let mut guest = KeySet::default();
        let mut kept_back = KeySet::default();
        for (name, event) in events {
            let mut then = guest;
            then.set(number(name), event.down);
            let expected = if event.down {
                !refused.iter().any(|refused| refused.is_down(&then))
            } else {
                guest.has(number(name)) || !kept_back.has(number(name))
            };
            prop_assert_eq!(keys.takes(event), expected, "{} {:?}", name, event);
            if expected {
                guest = then;
            }
            kept_back.set(number(name), event.down && !expected);
        }
    }

    /// Nothing is left down by whatever was let through.
    #[test]
    fn letting_go_lets_go_of_all(events in prop::collection::vec(
        (any::<bool>(), 0xff50u32..0xff58, prop::option::of(0xc5u32..0xcd)), 0..60
    )) {
        let mut keys = filter(&["home-up"]);
        let mut down = [KeySet::default(); 2];
        let mut note = |event: KeyEvent| {
            for (down, keys) in down.iter_mut().zip(readings(event)) {
                keys.into_iter().for_each(|key| down.set(key, event.down));
            }
        };
        for (down, keysym, number) in events {
            let event = KeyEvent { down, keysym, number };
            if keys.takes(event) {
                note(event);
            }
        }
        let mut releases = Vec::new();
        keys.release_all(&mut releases);
        for release in super::super::fuzzing::messages(&releases).0 {
            note(KeyEvent::read(release));
        }
        prop_assert_eq!(down, [KeySet::default(); 2]);
    }
}
