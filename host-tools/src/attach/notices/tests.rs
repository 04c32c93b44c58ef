//! What the texts say, and what they do not.

use super::*;

fn alice() -> Participant {
    Participant {
        subject: "alice".into(),
        proxy: "web".into(),
        ..Default::default()
    }
}

#[test]
fn a_takeover_tells_by_whom_and_why_and_hides_control_characters() {
    let change = WriterChanged {
        writer: Some(alice()),
        reason: Reason::TakenOver.into(),
        takeover_reason: "incident\u{1b}[2J".into(),
        ..Default::default()
    };
    let text = writer_changed(&change, true).unwrap();
    assert!(
        text.contains("alice through web (TAKEN_OVER), saying \"incident\\u{1b}[2J\""),
        "{text}"
    );
}

#[test]
fn a_change_among_others_is_told_and_an_epoch_of_ones_own_is_not() {
    let change = WriterChanged {
        writer: Some(alice()),
        ..Default::default()
    };
    assert_eq!(
        writer_changed(&change, false).unwrap(),
        "alice through web writes now"
    );
    let mine = WriterChanged {
        you_write: true,
        ..change
    };
    assert_eq!(writer_changed(&mine, true), None);
}

#[test]
fn coming_back_claims_no_more_than_is_known() {
    let position = |generation, offset| Position { generation, offset };
    let opened = |oldest| Opened {
        session_id: "s2".into(),
        oldest: Some(oldest),
        ..Default::default()
    };
    let told = |oldest, same| {
        let down = Duration::from_millis(3210);
        back(down, &opened(oldest), position(1, 50), same)
    };
    assert_eq!(
        told(position(1, 50), true),
        "back after 3.2 s: nothing was missed"
    );
    assert_eq!(
        told(position(1, 51), true),
        "back after 3.2 s: some output was missed"
    );
    assert_eq!(
        told(position(2, 0), false),
        "back after 3.2 s, as a new session s2: some output was missed"
    );
}

#[test]
fn a_gap_tells_its_length_where_it_is_known() {
    let position = |offset| {
        Some(Position {
            generation: 1,
            offset,
        })
    };
    let known = Gap {
        from: position(10),
        to: position(15),
        length_known: true,
        reason: GapReason::Overrun.into(),
    };
    assert!(gap(&known).starts_with("gap: 5 bytes of output missing"));
    let unknown = Gap {
        length_known: false,
        to: position(10),
        ..known
    };
    assert!(gap(&unknown).starts_with("gap: an unknown amount"));
}

#[test]
fn a_session_that_will_end_says_when_and_why() {
    let left = |seconds, nanos| Expiring {
        r#in: Some(prost_types::Duration { seconds, nanos }),
        reason: Reason::IdleTimeout.into(),
    };
    let expected = "this session ends in 60 s: IDLE_TIMEOUT";
    assert_eq!(expiring(&left(59, 999_000_000)), expected);
    assert_eq!(expiring(&left(60, 0)), expected);
}

#[test]
fn reasons_from_the_future_are_said_to_be_unknown() {
    assert_eq!(reason(Reason::TakenOver.into()), "TAKEN_OVER");
    assert_eq!(reason(999), "a reason that this version does not know");
}
