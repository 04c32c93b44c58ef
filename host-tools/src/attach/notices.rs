//! What is told on stderr while attached: one text per thing that can happen.
//!
//! Refuses to pass on control characters: names and reasons are other people's text.

use vmconsole_proto::v1::{
    Availability, Closed, ConsoleState, Expiring, Gap, GapReason, InputRefused, Moved, Opened,
    Participant, Reason, SideEffect, SideEffectKind, VmState, WriterChanged,
};

use super::escape::EscapeKey;
use super::window::Fault;
use crate::output::printable;
use crate::refusal::Refusal;
use crate::words;

/// A reason's name as the agent writes it, without the prefix of the enumeration.
pub(super) fn reason(number: i32) -> &'static str {
    let name = Reason::try_from(number)
        .unwrap_or(Reason::Unspecified)
        .as_str_name();
    match name.strip_prefix("REASON_") {
        Some("UNSPECIFIED") | None => "a reason that this version does not know",
        Some(name) => name,
    }
}

/// Somebody, or somebody unknown.
fn somebody(who: Option<&Participant>) -> String {
    who.map_or_else(|| "somebody unknown".to_owned(), words::participant)
}

/// `VM/ALIAS` of what was opened.
pub(super) fn console_name(opened: &Opened) -> String {
    let console = opened.console.clone().unwrap_or_default();
    let vm = if console.vm_name.is_empty() {
        console.vm_uuid
    } else {
        console.vm_name
    };
    format!("{}/{}", printable(&vm), printable(&console.alias))
}

/// The first line of a session at a terminal.
pub(super) fn attached(console: &str, session: &str, key: EscapeKey) -> String {
    let leave = match key {
        EscapeKey::Off => "no escapes: leave by a signal".to_owned(),
        key => format!("leave with {key} or Enter ~ . and see Enter ~ ? for help"),
    };
    format!(
        "attached to {console}, session {}; {leave}",
        printable(session)
    )
}

/// Opened as a viewer though writing was asked for.
pub(super) fn somebody_else_writes(writer: Option<&Participant>) -> String {
    let who = somebody(writer);
    format!("{who} holds the writer's lease: you only watch (--takeover takes it from them)")
}

/// What `Enter ~ ?` shows.
pub(super) fn help(key: EscapeKey, console: &str, writer: &str, attached: u32) -> String {
    format!(
        "escapes:\n  {key}          leave\n  {key} {key}       send one {key} (within 0.3 s)\n  \
         Enter ~ .   leave\n  Enter ~ B   send a break\n  Enter ~ ?   this help\n  Enter ~ ~   send one ~\n\
         on {console}: {writer}; attached in all: {attached}"
    )
}

/// Output was lost.
pub(super) fn gap(gap: &Gap) -> String {
    let (from, to) = (gap.from.unwrap_or_default(), gap.to.unwrap_or_default());
    let lost = match (gap.length_known, to.offset.checked_sub(from.offset)) {
        (true, Some(bytes)) => format!("{bytes} bytes of output"),
        _ => "an unknown amount of output".to_owned(),
    };
    let why = match gap.reason() {
        GapReason::Overrun => "they are no longer kept, as this viewer came too late for them",
        GapReason::NotAttached => "the agent was not attached to the console for a while",
        GapReason::GenerationPassed => "the VM was started anew in between",
        GapReason::Unspecified => "the agent did not say why",
    };
    format!("gap: {lost} missing here: {why}")
}

/// Who writes has changed; `wrote` is whether it was this session.
pub(super) fn writer_changed(change: &WriterChanged, wrote: bool) -> Option<String> {
    let why = reason(change.reason);
    match (wrote, change.you_write, &change.writer) {
        (true, true, _) => None,
        (false, true, _) => {
            Some("you hold the writer's lease now: what you type is sent".to_owned())
        }
        (true, false, Some(writer)) => {
            let given = match change.takeover_reason.as_str() {
                "" => String::new(),
                given => format!(", saying \"{}\"", printable(given)),
            };
            let who = words::participant(writer);
            Some(format!(
                "you lost the writer's lease to {who} ({why}){given}: what you type is not sent"
            ))
        }
        (true, false, None) => Some(format!(
            "you lost the writer's lease ({why}): what you type is not sent"
        )),
        (false, false, Some(writer)) => Some(format!("{} writes now", words::participant(writer))),
        (false, false, None) => Some(format!("nobody writes now ({why})")),
    }
}

/// The console's state, where it is anything but usual.
pub(super) fn state(state: &ConsoleState) -> String {
    let mut text = match (state.availability(), state.vm_state()) {
        (_, VmState::Off) => "the VM is off; waiting for it to start".to_owned(),
        (_, VmState::Crashed) => "the VM crashed".to_owned(),
        (_, VmState::Moved) => "the VM went on to another host".to_owned(),
        (_, VmState::Stopping) => "the VM is shutting down".to_owned(),
        (Availability::Attached, VmState::Paused) => "the VM is paused".to_owned(),
        (Availability::Attached, _) => "the console is attached".to_owned(),
        (Availability::Lost, _) => {
            "the way to the console is lost; the agent tries again".to_owned()
        }
        (Availability::Waiting, _) => "waiting for the VM".to_owned(),
        (Availability::HeldByOther, _) => format!(
            "another process holds the console {}",
            printable(&state.holder)
        ),
        (_, _) => format!(
            "the console is {} now",
            words::availability(state.availability)
        ),
    };
    if !state.detail.is_empty() {
        text = format!("{} ({})", text.trim_end(), printable(&state.detail));
    }
    text
}

/// Input that was not written.
pub(super) fn input_refused(refused: &InputRefused) -> String {
    let bytes = refused.to.saturating_sub(refused.from);
    format!(
        "{bytes} bytes of input were not written: {}",
        reason(refused.reason)
    )
}

/// The session will end.
pub(super) fn expiring(expiring: &Expiring) -> String {
    // What is left of a minute once the message has come is a minute to a person.
    let whole = |left: &prost_types::Duration| left.seconds + i64::from(left.nanos > 0);
    let seconds = expiring.r#in.as_ref().map_or(0, whole);
    format!(
        "this session ends in {seconds} s: {}",
        reason(expiring.reason)
    )
}

/// Somebody did something to the VM.
pub(super) fn side_effect(effect: &SideEffect) -> String {
    let what = match effect.kind() {
        SideEffectKind::Break => "a break was sent",
        SideEffectKind::Keys => "keys were sent to the VM's keyboard",
        SideEffectKind::Nmi => "an NMI was sent to the VM",
        SideEffectKind::Screenshot => "a picture of the screen was taken",
        SideEffectKind::Unspecified => {
            "something that this version does not know was done to the VM"
        }
    };
    format!("{what} by {}", somebody(effect.by.as_ref()))
}

/// A break that was asked for did not get through, or may not have.
pub(super) fn no_break(refusal: &Refusal) -> String {
    format!("the break was not sent, as far as is known: {refusal}")
}

/// The VM went to another host.
pub(super) fn moved(moved: &Moved) -> String {
    match moved.host.as_str() {
        "" => "the VM moved to another host".to_owned(),
        host => format!("the VM moved to {}", printable(host)),
    }
}

/// The agent closed the stream.
pub(super) fn closed(closed: &Closed) -> String {
    let again = if closed.retryable {
        "; attaching again may help"
    } else {
        ""
    };
    match closed.detail.as_str() {
        "" => format!(
            "the agent ended the stream: {}{again}",
            reason(closed.reason)
        ),
        detail => {
            format!(
                "the agent ended the stream: {}: {}{again}",
                reason(closed.reason),
                printable(detail)
            )
        }
    }
}

/// The agent broke the interface: the text of a bug report.
pub(super) fn fault(fault: &Fault) -> String {
    format!("bug of the agent, please report it with the agent's log: {fault}")
}

#[cfg(test)]
mod tests {
    use vmconsole_proto::v1::Position;

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
}
