use super::*;
use crate::core::rfb::encodings::{EXTENDED_CLIPBOARD, EXTENDED_MOUSE_BUTTONS, XVP};
use crate::core::rfb::fuzzing::{is_harmless, messages};
use crate::core::rfb::message::{MAX_CUT_TEXT, MAX_WHOLE};
use crate::core::rfb::rules::parse_refused_keys;

mod model;

/// Asks for the picture.
const UPDATE: [u8; 10] = [3, 1, 0, 0, 0, 0, 4, 0, 3, 0];
/// Presses `a`.
const KEY: [u8; 8] = [4, 1, 0, 0, 0, 0, 0, 0x61];
/// Presses the left button.
const POINTER: [u8; 6] = [5, 1, 0, 7, 0, 9];

fn encodings(announced: &[i32]) -> Vec<u8> {
    let count = u16::try_from(announced.len()).unwrap().to_be_bytes();
    let mut message = vec![2, 0, count[0], count[1]];
    message.extend(announced.iter().flat_map(|encoding| encoding.to_be_bytes()));
    message
}

fn cut_text(len: i32, text: &[u8]) -> Vec<u8> {
    let mut message = vec![6, 0, 0, 0];
    message.extend(len.to_be_bytes());
    message.extend(text);
    message
}

fn view_only() -> Rules {
    Rules {
        view_only: true,
        ..Rules::default()
    }
}

/// What passes of `bytes`, and what was dropped.
fn filtered(
    filter: &mut ClientFilter,
    bytes: &[u8],
    holds_lease: bool,
) -> Result<(Vec<u8>, Dropped), Violation> {
    let mut out = Vec::new();
    let dropped = filter.filter(Bytes::copy_from_slice(bytes), holds_lease, &mut out)?;
    Ok((out.concat(), dropped))
}

fn passes(filter: &mut ClientFilter, bytes: &[u8], holds_lease: bool) -> Vec<u8> {
    filtered(filter, bytes, holds_lease).unwrap().0
}

/// One of each message that is more than a picture's, with what it is counted as.
fn doings() -> Vec<(Vec<u8>, DropKind)> {
    let mut gii = vec![253, 0x80, 0, 3];
    gii.extend([1, 2, 3]);
    let mut size = vec![251, 0, 4, 0, 3, 0, 2, 0];
    size.extend([7; 32]);
    vec![
        (KEY.to_vec(), DropKind::Key),
        (POINTER.to_vec(), DropKind::Pointer),
        (cut_text(3, b"abc"), DropKind::Clipboard),
        (cut_text(-4, &[8, 0, 0, 1]), DropKind::Clipboard),
        (vec![250, 0, 1, 4], DropKind::Xvp),
        (size, DropKind::DesktopSize),
        (gii, DropKind::Other),
        (vec![1, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6], DropKind::Other),
        (
            vec![255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 0x1e],
            DropKind::ExtendedKey,
        ),
        (vec![255, 1, 0, 0], DropKind::Audio),
        (vec![255, 1, 0, 2, 3, 2, 0, 0, 0xac, 0x44], DropKind::Audio),
    ]
}

#[test]
fn what_passes_whole_is_not_copied() {
    let mut filter = ClientFilter::new(Rules::default());
    let bytes = Bytes::from([POINTER, POINTER].concat().repeat(1000));
    let mut out = Vec::new();
    assert!(
        filter
            .filter(bytes.clone(), true, &mut out)
            .unwrap()
            .is_none()
    );
    assert_eq!(out.len(), 1);
    assert_eq!(
        (out[0].as_ptr(), out[0].len()),
        (bytes.as_ptr(), bytes.len())
    );
}

#[test]
fn who_only_views_reaches_the_guest_with_nothing() {
    for (rules, holds_lease) in [(view_only(), true), (Rules::default(), false)] {
        let mut filter = ClientFilter::new(rules);
        let extended = encodings(&[0, EXTENDED_CLIPBOARD]);
        filtered(&mut filter, &extended, holds_lease).unwrap();
        for (message, kind) in doings() {
            let wire = [&UPDATE[..], &message, &UPDATE].concat();
            let (output, dropped) = filtered(&mut filter, &wire, holds_lease).unwrap();
            assert_eq!(output, [UPDATE, UPDATE].concat(), "{message:?}");
            assert_eq!(dropped.iter().collect::<Vec<_>>(), [(kind, 1)]);
        }
    }
}

#[test]
fn who_holds_the_lease_says_what_it_will() {
    let mut filter = ClientFilter::new(Rules::default());
    filtered(&mut filter, &encodings(&[EXTENDED_CLIPBOARD]), true).unwrap();
    for (message, _) in doings() {
        assert_eq!(passes(&mut filter, &message, true), message);
    }
    for message in doings().iter().map(|(message, _)| message) {
        for byte in message.iter().take(message.len() - 1) {
            filtered(&mut filter, &[*byte], true).unwrap();
        }
        assert!(filter.held() < MAX_WHOLE);
        filtered(&mut filter, &message[message.len() - 1..], true).unwrap();
    }
}

#[test]
fn a_pictures_messages_pass_in_every_case() {
    let mut fence = vec![248, 0, 0, 0, 0x80, 0, 0, 1, 8];
    fence.extend([9; 8]);
    let format = [&[0, 0, 0, 0, 32, 24, 0, 1][..], &[0; 12]].concat();
    let wire = [
        &format[..],
        &encodings(&[7, 0, -223, -224, -239, -308, -312, -313, -261]),
        &UPDATE,
        &[150, 1, 0, 0, 0, 0, 4, 0, 3, 0],
        &fence,
    ]
    .concat();
    assert!(messages(&wire).0.into_iter().all(is_harmless));
    for (rules, holds_lease) in [(view_only(), true), (Rules::default(), false)] {
        let mut filter = ClientFilter::new(rules);
        let passed = filtered(&mut filter, &wire, holds_lease).unwrap();
        assert_eq!(passed, (wire.clone(), Dropped::default()));
    }
}

#[test]
fn encodings_that_serve_what_is_refused_are_taken_out() {
    let announced = [XVP, 7, EXTENDED_MOUSE_BUTTONS, 0, EXTENDED_CLIPBOARD, -258];
    for (rules, kept) in [
        (Rules::default(), vec![XVP, 7, 0, EXTENDED_CLIPBOARD, -258]),
        (view_only(), vec![7, 0]),
    ] {
        // Whoever holds the lease: it may change, and the client announces once.
        for holds_lease in [false, true] {
            let mut filter = ClientFilter::new(rules.clone());
            let wire = [&UPDATE[..], &encodings(&announced), &UPDATE].concat();
            let (output, dropped) = filtered(&mut filter, &wire, holds_lease).unwrap();
            assert_eq!(output, [&UPDATE[..], &encodings(&kept), &UPDATE].concat());
            assert_eq!(
                dropped.of(DropKind::Encodings),
                announced.len() - kept.len()
            );
        }
    }
    let mut filter = ClientFilter::new(view_only());
    assert_eq!(
        passes(&mut filter, &encodings(&[XVP]), false),
        encodings(&[])
    );
}

#[test]
fn a_clipboard_goes_only_where_it_may() {
    const CAPS: u32 = 0x0100_0001;
    const REQUEST: u32 = 0x0200_0001;
    const NOTIFY: u32 = 0x0800_0001;
    const PROVIDE: u32 = 0x1000_0001;
    let both_ways = [true; 5];
    let nothing = [false; 5];
    // As caps, request, notify, provide, and plain text; refused to the guest, and from it.
    for (to_guest, from_guest, announced, expected) in [
        (false, false, true, both_ways),
        (false, false, false, [false, false, false, false, true]),
        (true, false, true, [true, true, false, false, false]),
        (true, false, false, nothing),
        (false, true, true, [false, false, false, false, true]),
        (true, true, true, nothing),
    ] {
        let mut filter = ClientFilter::new(Rules {
            refuse_clipboard_to_guest: to_guest,
            refuse_clipboard_from_guest: from_guest,
            ..Rules::default()
        });
        let announce: &[i32] = if announced {
            &[0, EXTENDED_CLIPBOARD]
        } else {
            &[0]
        };
        let reached = passes(&mut filter, &encodings(announce), true);
        let asked = messages(&reached).0[0].len() > 8;
        assert_eq!(asked, announced && !from_guest);
        let extended = [CAPS, REQUEST, NOTIFY, PROVIDE];
        let mut wires: Vec<_> = extended
            .map(|flags| cut_text(-4, &flags.to_be_bytes()))
            .into();
        wires.push(cut_text(2, b"hi"));
        for (wire, expected) in wires.into_iter().zip(expected) {
            let passed = !passes(&mut filter, &wire, true).is_empty();
            assert_eq!(
                passed, expected,
                "{to_guest} {from_guest} {announced} {wire:?}"
            );
        }
    }
    // Shorter than its flags: QEMU has read beyond it.
    let mut filter = ClientFilter::new(Rules::default());
    filtered(&mut filter, &encodings(&[EXTENDED_CLIPBOARD]), true).unwrap();
    assert_eq!(passes(&mut filter, &cut_text(-3, b"abc"), true), b"");
    // With an action that is not known, nobody knows where it goes.
    let mut filter = ClientFilter::new(Rules {
        refuse_clipboard_to_guest: true,
        ..Rules::default()
    });
    filtered(&mut filter, &encodings(&[EXTENDED_CLIPBOARD]), true).unwrap();
    assert_eq!(
        passes(&mut filter, &cut_text(-4, &[0x22, 0, 0, 1]), true),
        b""
    );
    assert_eq!(passes(&mut filter, &cut_text(-4, &[2, 1, 0, 1]), true), b"");
}

#[test]
fn text_is_taken_up_to_what_qemu_takes_and_dropped_at_any_length() {
    let most = i32::try_from(MAX_CUT_TEXT).unwrap();
    let mut filter = ClientFilter::new(Rules::default());
    let long = cut_text(most, &vec![b'x'; 1 << 20]);
    assert_eq!(passes(&mut filter, &long, true).len(), long.len());
    let violation = Violation::CutTextTooLong(MAX_CUT_TEXT + 1);
    let longer = [&KEY[..], &cut_text(most + 1, &[])].concat();
    let mut out = Vec::new();
    let answer = filter.filter(Bytes::from(longer), true, &mut out);
    assert_eq!(answer, Err(violation));
    assert_eq!(out.concat(), KEY, "what came before it");
    assert_eq!(filtered(&mut filter, &KEY, true), Err(violation));

    let mut filter = ClientFilter::new(Rules::default());
    let (output, dropped) = filtered(&mut filter, &cut_text(i32::MAX, b"xyz"), false).unwrap();
    assert_eq!((output, dropped.of(DropKind::Clipboard)), (Vec::new(), 1));
    for _ in 0..32 {
        assert_eq!(passes(&mut filter, &vec![4; 1 << 16], true), b"");
    }
    assert_eq!(filter.held(), 0);
}

#[test]
fn the_rest_of_a_text_is_zeros_once_the_lease_is_lost() {
    let mut filter = ClientFilter::new(Rules::default());
    let mut wire = passes(&mut filter, &KEY, true);
    wire.extend(passes(&mut filter, &POINTER, true));
    wire.extend(passes(&mut filter, &cut_text(100_000, b"secret"), true));
    let mut out = Vec::new();
    filter.set_lease(false, &mut out).unwrap();
    wire.extend(out.concat());
    // What it goes on with does not reach the guest, nor with the lease again.
    wire.extend(passes(&mut filter, &[b'x'; 50_000], false));
    wire.extend(passes(&mut filter, &[b'x'; 49_994], true));
    wire.extend(passes(&mut filter, &KEY, true));
    let (said, cut) = messages(&wire);
    assert_eq!(cut, [0; 0]);
    assert_eq!(said[..2], [&KEY[..], &POINTER]);
    assert_eq!(said[2][..14], cut_text(100_000, b"secret"));
    assert!(said[2][14..].iter().all(|&byte| byte == 0));
    // The key and the button are let go.
    let releases: [&[u8]; 2] = [&[4, 0, 0, 0, 0, 0, 0, 0x61], &[5, 0, 0, 7, 0, 9]];
    assert_eq!(said[3..5], releases);
    assert_eq!(said[5..], [KEY]);
}

#[test]
fn a_message_is_judged_by_who_holds_the_lease_when_it_is_whole() {
    for message in [&KEY[..], &POINTER, &[250, 0, 1, 4]] {
        for (at_first, then) in [(true, false), (false, true), (false, false), (true, true)] {
            for cut in 1..message.len() {
                let mut filter = ClientFilter::new(Rules::default());
                assert_eq!(passes(&mut filter, &message[..cut], at_first), b"");
                let passed = passes(&mut filter, &message[cut..], then);
                assert_eq!(passed, if then { message } else { b"" });
            }
        }
    }
}

#[test]
fn an_unknown_message_passes_only_while_nothing_is_to_be_looked_into() {
    let unknown = Unknown {
        number: 7,
        qemu: None,
    };
    let wire = [&KEY[..], &[7, 1, 2], &KEY].concat();
    let mut filter = ClientFilter::new(Rules::default());
    assert_eq!(passes(&mut filter, &wire, true), wire);
    assert_eq!(passes(&mut filter, &[6, 6, 6], true), [6, 6, 6]);
    let violation = Violation::LeaseLost(unknown);
    assert_eq!(filter.set_lease(false, &mut Vec::new()), Err(violation));
    assert_eq!(filtered(&mut filter, &UPDATE, true), Err(violation));
    assert_eq!(violation.message_type(), 7);

    let one = |rule: fn(&mut Rules)| {
        let mut rules = Rules::default();
        rule(&mut rules);
        (rules, true)
    };
    for (rules, holds_lease) in [
        (Rules::default(), false),
        one(|rules| rules.view_only = true),
        one(|rules| rules.refuse_clipboard_to_guest = true),
        one(|rules| rules.refuse_clipboard_from_guest = true),
        one(|rules| rules.refused_keys = parse_refused_keys(&["sysrq"]).unwrap()),
    ] {
        let mut filter = ClientFilter::new(rules);
        let mut out = Vec::new();
        let wire = [&UPDATE[..], &[7]].concat();
        let answer = filter.filter(wire.into(), holds_lease, &mut out);
        assert_eq!(answer, Err(Violation::Unknown(unknown)));
        assert_eq!(out.concat(), UPDATE);
    }
}

#[test]
fn one_that_turns_out_unknown_later_passes_with_its_beginning() {
    let mut filter = ClientFilter::new(Rules::default());
    assert_eq!(passes(&mut filter, &[255], true), b"");
    assert_eq!(passes(&mut filter, &[9, 1], true), [255, 9, 1]);
}

#[test]
fn too_many_encodings_are_refused_before_they_are_there() {
    for holds_lease in [false, true] {
        let mut filter = ClientFilter::new(Rules::default());
        let violation = Violation::TooManyEncodings(1025);
        assert_eq!(
            filtered(&mut filter, &[2, 0, 4, 1], holds_lease),
            Err(violation)
        );
    }
}
