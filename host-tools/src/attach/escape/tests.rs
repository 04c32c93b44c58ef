//! The machine against a second description of it that looks at the whole of the bytes.

use proptest::prelude::*;

use super::*;

const KEY: u8 = DEFAULT_KEY;

fn machine() -> Escapes {
    Escapes::new(EscapeKey::Key(KEY))
}

/// Feeds the reads one after the other; sends are joined and timers left out.
fn joined(reads: &[&[u8]]) -> Vec<Action> {
    let mut machine = machine();
    let mut joined: Vec<Action> = Vec::new();
    for action in reads.iter().flat_map(|read| machine.feed(read)) {
        match (joined.last_mut(), action) {
            (_, Action::ArmTimer) => {}
            (Some(Action::Send(before)), Action::Send(more)) => before.extend(more),
            (_, action) => joined.push(action),
        }
    }
    joined
}

/// How long a report is that the text begins with; 0 if it begins with none.
fn report_len(text: &[u8]) -> usize {
    let Some(rest) = text.strip_prefix(b"\x1b[") else {
        return 0;
    };
    let parameters = rest
        .iter()
        .take_while(|byte| b"0123456789;?>".contains(byte));
    match parameters.count() {
        len @ 1..=MAX_REPORT_PARAMETERS if rest.len() > len && b"Rnct".contains(&rest[len]) => {
            2 + len + 1
        }
        _ => 0,
    }
}

/// What the module's picture says, read off the whole text at once.
fn described(bytes: &[u8]) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut guest = Vec::new();
    let mut rest = bytes;
    let mut line_start = true;
    while !rest.is_empty() {
        let report = if line_start { report_len(rest) } else { 0 };
        let (taken, sent, action): (usize, &[u8], _) = match rest {
            _ if report > 0 => (report, &rest[..report], None),
            [b'~', b'.', ..] if line_start => (rest.len(), b"", Some(Action::Leave)),
            [b'~', b'?', ..] if line_start => (2, b"", Some(Action::Help)),
            [b'~', b'B', ..] if line_start => (2, b"", Some(Action::Break)),
            [b'~', b'w', ..] if line_start => (2, b"", Some(Action::Ask)),
            [b'~', b'r', ..] if line_start => (2, b"", Some(Action::Release)),
            [b'~', b'~', ..] if line_start => (2, b"~", None),
            [b'~'] if line_start => (1, b"", None),
            [KEY, KEY, ..] => (2, &[KEY], None),
            [KEY] => (1, b"", None),
            [KEY, ..] => (rest.len(), b"", Some(Action::Leave)),
            [byte, ..] => (1, std::slice::from_ref(byte), None),
            [] => (0, b"", None),
        };
        let stays = [Action::Help, Action::Break, Action::Ask, Action::Release];
        let at_start = action.as_ref().is_some_and(|action| stays.contains(action));
        guest.extend_from_slice(sent);
        if let Some(action) = action {
            flush(&mut guest, &mut actions);
            actions.push(action);
        }
        line_start = at_start || report > 0 || matches!(sent, b"\r" | b"\n");
        rest = &rest[taken..];
    }
    flush(&mut guest, &mut actions);
    actions
}

/// Bytes among which escapes, reports and pieces of reports are frequent.
fn typed() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => prop_oneof![Just(b'~'), Just(b'\r'), Just(b'\n')],
        2 => prop_oneof![Just(b'.'), Just(b'?'), Just(b'B'), Just(b'w'), Just(b'r'), Just(KEY)],
        2 => any::<u8>(),
    ];
    let report = "\x1b\\[[0-9;?>]{0,70}[RnctA~\r]|\x1b|\\[|[0-9;?>]|[RnctAH]";
    let piece = prop_oneof![
        3 => byte.prop_map(|byte| vec![byte]),
        1 => report.prop_map(String::into_bytes),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_cut_into_reads_gives_the_same(bytes in typed(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let reads: Vec<_> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(joined(&reads), joined(&[&bytes]));
    }

    #[test]
    fn the_machine_does_what_is_described(bytes in typed()) {
        prop_assert_eq!(joined(&[&bytes]), described(&bytes));
    }

    #[test]
    fn bytes_without_escapes_pass_unchanged(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
        let plain: Vec<_> = bytes.into_iter().map(|b| if b == KEY || b == b'~' { b'x' } else { b }).collect();
        prop_assert_eq!(joined(&[&plain]), vec![Action::Send(plain)]);
    }

    #[test]
    fn a_report_between_enter_and_the_tilde_changes_nothing(report in "\x1b\\[[0-9;?>]{1,64}[Rnct]") {
        let report = report.as_bytes();
        let sent = Action::Send([b"a\r", report].concat());
        let typed = [b"a\r", report, b"~."].concat();
        prop_assert_eq!(joined(&[&typed]), vec![sent.clone(), Action::Leave]);
        let typed = [b"a\r", report, b"~?"].concat();
        prop_assert_eq!(joined(&[&typed]), vec![sent, Action::Help]);
        let midline = [b"a", report, b"~."].concat();
        prop_assert_eq!(joined(&[&midline]), vec![Action::Send(midline)]);
    }

    #[test]
    fn nothing_but_the_tilde_and_the_key_waits_for_more(bytes in typed()) {
        let mut machine = machine();
        for byte in bytes {
            let actions = machine.feed(&[byte]);
            let held = matches!(machine.state, State::Tilde | State::Key | State::Left);
            prop_assert!(held || !actions.is_empty(), "{byte:#x} waits in {machine:?}");
        }
    }

    #[test]
    fn without_a_key_every_byte_passes(bytes in typed()) {
        let mut machine = Escapes::new(EscapeKey::Off);
        prop_assert_eq!(machine.feed(&bytes), vec![Action::Send(bytes)]);
        prop_assert_eq!(machine.elapsed(), None);
    }

    #[test]
    fn a_timer_is_armed_exactly_while_the_key_is_held(bytes in typed()) {
        let mut machine = machine();
        let armed = machine.feed(&bytes).contains(&Action::ArmTimer);
        prop_assert_eq!(armed, machine.elapsed() == Some(Action::Leave));
    }
}

#[test]
fn the_key_leaves_after_the_pause() {
    let mut machine = machine();
    assert_eq!(
        machine.feed(&[b'a', KEY]),
        [Action::Send(b"a".to_vec()), Action::ArmTimer]
    );
    assert_eq!(machine.elapsed(), Some(Action::Leave));
    assert_eq!(machine.feed(b"more"), []);
    assert_eq!(machine.elapsed(), None);
}

#[test]
fn the_key_twice_sends_it_once() {
    let mut machine = machine();
    assert_eq!(machine.feed(&[KEY]), [Action::ArmTimer]);
    assert_eq!(machine.feed(&[KEY, b'x']), [Action::Send(vec![KEY, b'x'])]);
    assert_eq!(machine.elapsed(), None);
}

#[test]
fn the_key_and_anything_else_leaves_at_once() {
    assert_eq!(joined(&[&[KEY, b'q', b'q']]), [Action::Leave]);
}

#[test]
fn tilde_is_an_escape_at_the_start_of_a_line_only() {
    assert_eq!(joined(&[b"~."]), [Action::Leave]);
    assert_eq!(joined(&[b"a~."]), [Action::Send(b"a~.".to_vec())]);
    assert_eq!(
        joined(&[b"a\r~."]),
        [Action::Send(b"a\r".to_vec()), Action::Leave]
    );
    assert_eq!(joined(&[b"\r~~."]), [Action::Send(b"\r~.".to_vec())]);
    assert_eq!(joined(&[b"~x~."]), [Action::Send(b"~x~.".to_vec())]);
    assert_eq!(joined(&[b"~?~."]), [Action::Help, Action::Leave]);
}

#[test]
fn reports_of_the_terminal_are_not_typed() {
    for report in ["24;3R", "0n", "?64;1;2;6;22c", ">1;10;0c", "8;24;80t"] {
        let report = format!("\x1b[{report}");
        let leaving = [Action::Send(report.clone().into_bytes()), Action::Leave];
        assert_eq!(joined(&[report.as_bytes(), b"~."]), leaving, "{report:?}");
    }
}

#[test]
fn keys_that_begin_with_esc_are_typed() {
    let long = format!("[{}R", "1".repeat(MAX_REPORT_PARAMETERS + 1));
    let keys = [
        "", "[A", "[D", "[H", "[F", "[3~", "[1;5A", "OR", "[R", "[c", "\x1b[1R", &long,
    ];
    for key in keys {
        let typed = format!("\r\x1b{key}~.").into_bytes();
        assert_eq!(joined(&[&typed]), [Action::Send(typed)], "{key:?}");
    }
}

#[test]
fn the_escape_key_stays_one_where_a_report_could_be() {
    let mut machine = Escapes::new(EscapeKey::Key(0x1b));
    assert_eq!(machine.feed(b"\x1b"), [Action::ArmTimer]);
    for begun in ["\x1b", "\x1b[", "\x1b[1"] {
        let actions = joined(&[begun.as_bytes(), &[KEY, b'q']]);
        assert_eq!(actions, [Action::Send(begun.into()), Action::Leave]);
    }
}

#[test]
fn keys_are_read_as_they_are_shown() {
    for (text, key) in [
        ("^]", EscapeKey::Key(0x1d)),
        ("^a", EscapeKey::Key(1)),
        ("^?", EscapeKey::Key(0x7f)),
        ("%", EscapeKey::Key(b'%')),
        ("^", EscapeKey::Key(b'^')),
        ("none", EscapeKey::Off),
    ] {
        assert_eq!(text.parse(), Ok(key), "{text}");
        assert_eq!(key.to_string().parse(), Ok(key), "{text}");
    }
    for text in ["", "~", "^M", "^J", "\n", "ab", "^]x", "é", "^1"] {
        assert_eq!(text.parse::<EscapeKey>(), Err(InvalidKey), "{text:?}");
    }
}
