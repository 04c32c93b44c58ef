use proptest::prelude::*;

use super::*;
use crate::core::keys::Key;
use crate::core::rfb::keys::KeySet;

fn combination(text: &str) -> Combination {
    text.parse().unwrap()
}

/// Whether `combination` is down where `names` are, each with QEMU's name of one key.
fn is_down(text: &str, names: &[&str]) -> bool {
    let keys = names.iter().map(|name| Key::named(name).unwrap().linux);
    combination(text).is_down(&KeySet::of(keys))
}

#[test]
fn a_modifier_is_either_of_both_unless_a_side_is_named() {
    for modifier in ["ctrl", "alt", "shift", "meta"] {
        let names: Vec<_> = Key::ALL
            .iter()
            .filter(|key| is_down(modifier, &[key.name]))
            .map(|key| key.name)
            .collect();
        assert_eq!(names.len(), 2, "{modifier}: {names:?}");
        assert!(names.iter().all(|name| name.starts_with(modifier)));
    }
    assert!(is_down("ctrl_r", &["ctrl_r"]));
    assert!(!is_down("ctrl_r", &["ctrl"]));
    assert!(is_down("lctrl", &["ctrl"]));
    assert!(!is_down("lctrl", &["ctrl_r"]));
    assert!(!is_down("meta_l", &["meta_r"]));
}

#[test]
fn all_keys_of_a_combination_must_be_down_and_others_may() {
    let text = "ctrl-alt-delete";
    assert!(is_down(text, &["ctrl", "alt_r", "delete"]));
    assert!(is_down(text, &["ctrl_r", "alt", "delete", "shift", "a"]));
    for missing in [["ctrl", "alt"], ["ctrl", "delete"], ["alt", "delete"]] {
        assert!(!is_down(text, &missing));
    }
    assert!(is_down("sysrq", &["print"]), "one key with two names");
    assert!(!is_down("sysrq", &[]));
}

#[test]
fn together_with_others_a_key_of_the_keypad_is_what_it_is_without_num_lock() {
    assert!(is_down("ctrl-alt-delete", &["ctrl", "alt", "kp_decimal"]));
    assert!(is_down("alt-ret", &["alt", "kp_enter"]));
    assert!(is_down("ctrl-kp_4", &["ctrl", "left"]));
    assert!(!is_down("delete", &["kp_decimal"]));
    assert!(!is_down("ctrl-a", &["ctrl", "kp_0"]));
}

#[test]
fn combinations_are_read_and_written_in_one_form() {
    for (written, read) in [
        ("ctrl-alt-delete", "ctrl-alt-delete"),
        ("del-alt-control", "ctrl-alt-delete"),
        ("win-l", "meta-l"),
        ("super", "meta"),
        ("lctrl-rctrl", "ctrl_r-lctrl"),
        ("meta_l", "meta_l"),
        ("prtsc", "print"),
        ("a-a-a-a", "a"),
    ] {
        assert_eq!(combination(written).to_string(), read, "{written}");
        assert_eq!(combination(read), combination(written));
    }
    for key in Key::ALL {
        let told = combination(key.name).to_string();
        assert_eq!(combination(&told), combination(key.name));
    }
}

#[test]
fn what_is_no_combination_is_refused() {
    let error = |text: &str| text.parse::<Combination>().unwrap_err();
    for (text, name) in [
        ("", ""),
        ("-", ""),
        ("ctrl-", ""),
        ("Ctrl", "Ctrl"),
        ("ctrl+c", "ctrl+c"),
        ("ctrl-alt-dele", "dele"),
    ] {
        assert_eq!(error(text), RuleError::UnknownKey(name.into()), "{text}");
    }
    assert_eq!(
        error(&"é".repeat(1000)),
        RuleError::UnknownKey("é".repeat(32))
    );
    assert!(["a"; 8].join("-").parse::<Combination>().is_ok());
    assert_eq!(error(&["a"; 9].join("-")), RuleError::TooManyKeys(9));
    assert_eq!(parse_refused_keys(&["a"; 33]), Err(RuleError::TooMany(33)));
    assert_eq!(parse_refused_keys(&["a"; 32]).unwrap().len(), 1);
}

fn rules() -> impl Strategy<Value = Rules> {
    let keys = prop::sample::subsequence(vec!["ctrl-a", "sysrq", "alt-f4", "meta"], 0..=4);
    (any::<[bool; 3]>(), keys).prop_map(|([view, to, from], keys)| Rules {
        view_only: view,
        refuse_clipboard_to_guest: to,
        refuse_clipboard_from_guest: from,
        refused_keys: parse_refused_keys(&keys).unwrap(),
    })
}

proptest! {
    #[test]
    fn the_stricter_of_two_refuses_what_either_does(one in rules(), other in rules()) {
        let both = one.stricter(&other);
        prop_assert_eq!(both.view_only, one.view_only || other.view_only);
        prop_assert_eq!(
            both.refuse_clipboard_to_guest,
            one.refuse_clipboard_to_guest || other.refuse_clipboard_to_guest
        );
        prop_assert_eq!(
            both.refuse_clipboard_from_guest,
            one.refuse_clipboard_from_guest || other.refuse_clipboard_from_guest
        );
        for keys in one.refused_keys.iter().chain(&other.refused_keys) {
            let times = both.refused_keys.iter().filter(|there| *there == keys).count();
            prop_assert_eq!(times, 1);
        }
        prop_assert_eq!(both.need_looking(), one.need_looking() || other.need_looking());
        prop_assert_eq!(&both.stricter(&one), &both);
        prop_assert_eq!(&Rules::default().stricter(&one), &one);
    }
}
