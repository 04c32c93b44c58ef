//! Against what QEMU was seen to do, against a server that keeps to the RFCs, and against none.

use proptest::prelude::*;

use super::fuzzing::Heard;
use super::*;

/// Hears `wire` in one piece.
fn hear(wire: &[u8]) -> Heard {
    fuzzing::hear([wire])
}

fn heard(output: &[u8], reply: &[u8]) -> Heard {
    Heard {
        output: output.to_vec(),
        reply: reply.to_vec(),
        error: None,
    }
}

fn sent(bytes: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    Telnet::send(bytes, &mut wire);
    wire
}

/// What QEMU 7.2 makes of what a client sends: the guest's input, with `None` for a break.
fn as_qemu(wire: &[u8]) -> Vec<Option<u8>> {
    let (mut guest, mut wire) = (Vec::new(), wire.iter());
    while let Some(byte) = wire.next() {
        match byte {
            255 => match wire.next() {
                Some(255) => guest.push(Some(255)),
                Some(243) => guest.push(None),
                _ => _ = wire.next(),
            },
            _ => guest.push(Some(*byte)),
        }
    }
    guest
}

/// Pieces that telnet is made of, so that chance finds more than data.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let command = prop_oneof![240..=255_u8, any::<u8>()];
    let option = prop_oneof![0..4_u8, any::<u8>()];
    let piece = prop_oneof![
        4 => (command, option).prop_map(|(command, option)| vec![IAC, command, option]),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => (0..=OPENING.len()).prop_map(|len| OPENING[..len].to_vec()),
        1 => Just(vec![IAC, SE]),
        1 => Just(vec![IAC, IAC]),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

#[test]
fn qemu_is_not_answered_and_its_guest_is_not_decoded() {
    // As recorded: the guest wrote a lone FF, two of them, FF 41, and what looks like a request.
    let guest = b"login: \xff\xff\xff\xff\x41\xff\xfd\x01\r\0\r\n";
    let wire = [OPENING.as_slice(), guest].concat();
    assert_eq!(hear(&wire), heard(guest, b""));
    assert_eq!(hear(&OPENING), heard(b"", b""));
}

#[test]
fn a_guest_of_qemu_cannot_use_up_its_connection() {
    let guest = [[IAC, WILL, 99]; 10_000].concat();
    let wire = [OPENING.as_slice(), &guest].concat();
    assert_eq!(hear(&wire), heard(&guest, b""));
}

#[test]
fn another_server_is_decoded_and_answered_once_it_is_known_for_one() {
    let begun = &OPENING[..9];
    assert_eq!(hear(begun), heard(b"", b""), "may be QEMU");
    let answers = [IAC, DO, ECHO, IAC, DO, SUPPRESS_GO_AHEAD, IAC, DO, BINARY];
    let wire = [begun, b"a\xff\xffb"].concat();
    assert_eq!(hear(&wire), heard(b"a\xffb", &answers));
}

#[test]
fn a_server_that_says_more_than_qemu_before_its_data_is_another_one() {
    let wire = [&[IAC, DO, 24], OPENING.as_slice(), b"\xff\xff"].concat();
    let answers = [
        [IAC, WONT, 24],
        [IAC, DO, ECHO],
        [IAC, DO, SUPPRESS_GO_AHEAD],
        [IAC, DO, BINARY],
        [IAC, WILL, BINARY],
    ];
    assert_eq!(hear(&wire), heard(b"\xff", &answers.concat()));
}

#[test]
fn a_server_without_options_is_plain_bytes() {
    assert_eq!(hear(b"login: "), heard(b"login: ", b""));
}

#[test]
fn answers_are_not_answered_and_states_are_not_confirmed() {
    let wire = [
        [IAC, WONT, ECHO],
        [IAC, DONT, 99],
        [IAC, WILL, ECHO],
        [IAC, WILL, ECHO],
        [IAC, WONT, ECHO],
        [IAC, WONT, ECHO],
    ];
    let answers = [[IAC, DO, ECHO], [IAC, DONT, ECHO]];
    assert_eq!(hear(&wire.concat()), heard(b"", &answers.concat()));
}

#[test]
fn we_never_echo_what_the_guest_says() {
    assert_eq!(hear(&[IAC, DO, ECHO]), heard(b"", &[IAC, WONT, ECHO]));
}

#[test]
fn commands_and_subnegotiations_are_no_output() {
    let wire = b"a\xff\xf1b\xff\xfa\x18\x01\xff\xff\xff\xf0c\xff\xf9d";
    assert_eq!(hear(wire), heard(b"abcd", b""));
}

#[test]
fn a_flood_of_negotiation_ends_the_connection_and_loses_nothing_before_it() {
    let flood = [[IAC, WILL, 99]; MAX_NEGOTIATIONS as usize].concat();
    let all = [b"a".as_slice(), &flood, b"b"].concat();
    let answered = hear(&all);
    assert_eq!((answered.error, answered.output), (None, b"ab".to_vec()));
    for one_more in [[IAC, DO, 1].as_slice(), &[IAC, SB]] {
        let answered = hear(&[&all, one_more, b"c"].concat());
        assert_eq!(answered.error, Some(TelnetError::Flood));
        assert_eq!(answered.output, b"ab");
    }
}

#[test]
fn an_endless_subnegotiation_ends_the_connection() {
    let inside = [b"\xff\xfa".as_slice(), &[0; MAX_SUBNEGOTIATION]].concat();
    let whole = [&inside, b"\xff\xf0a".as_slice()].concat();
    assert_eq!(hear(&whole), heard(b"a", b""));
    for one_more in [b"a".as_slice(), b"\xff\xff", b"\xffa"] {
        let answered = hear(&[&inside, one_more].concat());
        assert_eq!(answered.error, Some(TelnetError::Subnegotiation));
    }
}

#[test]
fn an_error_stays() {
    let mut telnet = Telnet::new();
    let flood = [IAC, SB, IAC, SE].repeat(MAX_NEGOTIATIONS as usize + 1);
    let (mut output, mut reply) = (Vec::new(), Vec::new());
    let error = telnet.receive(&flood, &mut output, &mut reply).unwrap_err();
    assert_eq!(telnet.receive(b"a", &mut output, &mut reply), Err(error));
    assert_eq!((output, reply), (vec![], vec![]));
}

#[test]
fn a_break_is_one() {
    let mut wire = sent(b"a\xff");
    Telnet::send_break(&mut wire);
    Telnet::send(b"h", &mut wire);
    let expected = [Some(b'a'), Some(0xff), None, Some(b'h')];
    assert_eq!(as_qemu(&wire), expected);
}

#[test]
fn another_server_that_does_as_we_do_comes_to_rest() {
    let (mut here, mut there) = (Telnet::new(), Telnet::new());
    (here.phase, there.phase) = (Phase::Protocol, Phase::Protocol);
    let mut wire: Vec<u8> = (0..64)
        .flat_map(|option| [[IAC, WILL, option], [IAC, DO, option]].concat())
        .collect();
    let (mut turns, mut output) = (0, Vec::new());
    while !wire.is_empty() {
        let mut reply = Vec::new();
        let hearer = if turns % 2 == 0 {
            &mut here
        } else {
            &mut there
        };
        hearer.receive(&wire, &mut output, &mut reply).unwrap();
        (wire, turns) = (reply, turns + 1);
        assert!(turns < 6, "each answers the other's answers");
    }
    assert_eq!(output, b"");
}

proptest! {
    #[test]
    fn cuts_change_nothing(
        wire in pieces(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        cuts.extend([0, wire.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &wire[cut[0]..cut[1]]);
        prop_assert_eq!(hear(&wire), fuzzing::hear(pieces));
    }

    #[test]
    fn promises_hold_whatever_comes(wire in pieces()) {
        fuzzing::check(&wire);
    }

    #[test]
    fn qemu_gives_its_guest_what_was_sent(bytes in prop::collection::vec(240..=255_u8, 0..50)) {
        let guest: Vec<_> = bytes.iter().copied().map(Some).collect();
        prop_assert_eq!(as_qemu(&sent(&bytes)), guest);
    }
}
