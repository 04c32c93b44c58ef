//! What is told on stderr while attached: one text per thing that can happen.
//!
//! Refuses to pass on control characters: names and reasons are other people's text.

use std::time::Duration;

use vmconsole_proto::v1::{
    Availability, Closed, ConsoleState, Expiring, Gap, GapReason, InputRefused, Moved, Opened,
    Participant, Position, Reason, Roster, SideEffect, SideEffectKind, VmState, WriterChanged,
    WriterRefused,
};

use super::escape::EscapeKey;
use super::typed::Undelivered;
use super::window::Fault;
use crate::output::printable;
use crate::refusal::Refusal;
use crate::words;

/// How many of those who are attached are shown in help.
const MAX_SHOWN: usize = 16;

/// This session has got the lease.
pub(crate) const YOU_WRITE: &str = "you hold the writer's lease now: what you type is sent";

/// A reason's name as the agent writes it, without the prefix of the enumeration.
pub(crate) fn reason(number: i32) -> &'static str {
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
pub(crate) fn console_name(opened: &Opened) -> String {
    let console = opened.console.clone().unwrap_or_default();
    let vm = if console.vm_name.is_empty() {
        console.vm_uuid
    } else {
        console.vm_name
    };
    format!("{}/{}", printable(&vm), printable(&console.alias))
}

/// The first line of a session at a terminal.
pub(crate) fn attached(console: &str, session: &str, key: EscapeKey) -> String {
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
pub(crate) fn somebody_else_writes(writer: Option<&Participant>) -> String {
    let who = somebody(writer);
    format!("{who} holds the writer's lease: you only watch (--takeover takes it from them)")
}

/// Who waits for the lease, or asked for it in vain.
pub(crate) fn writer_refused(refused: &WriterRefused) -> String {
    let who = somebody(refused.holder.as_ref());
    match refused.queue_place {
        0 => format!("{who} holds the writer's lease: you only watch"),
        place => format!("{who} holds the writer's lease: you wait for it, at place {place}"),
    }
}

/// The writer's stream broke.
pub(crate) fn writer_is_away(writer: &Participant) -> String {
    let who = words::participant(writer);
    format!("{who}, who writes, has lost the connection and is waited for")
}

/// The writer's stream is there again.
pub(crate) fn writer_is_back(writer: &Participant) -> String {
    format!("{}, who writes, is back", words::participant(writer))
}

/// What `Enter ~ ?` shows; `own` is the session's id.
pub(crate) fn help(
    key: EscapeKey,
    console: &str,
    writer: &str,
    roster: &Roster,
    own: &str,
) -> String {
    let mut text = format!(
        "escapes:\n  {key}          leave\n  {key} {key}       send one {key} (within 0.3 s)\n  \
         Enter ~ .   leave\n  Enter ~ B   send a break\n  Enter ~ w   ask for the writer's lease\n  \
         Enter ~ r   give it back\n  Enter ~ ?   this help\n  Enter ~ ~   send one ~\n\
         on {console}: {writer}; attached in all: {}",
        roster.total.max(1)
    );
    let others = roster.participants.iter().filter(|p| p.session_id != own);
    for other in others.take(MAX_SHOWN) {
        let writes = if other.writer { ", writes" } else { "" };
        let away = if other.away_since.is_some() {
            ", away"
        } else {
            ""
        };
        text.push_str("\n  ");
        text.push_str(&words::participant(other));
        text.push_str(writes);
        text.push_str(away);
    }
    text
}

/// Output was lost.
pub(crate) fn gap(gap: &Gap) -> String {
    let (from, to) = (gap.from.unwrap_or_default(), gap.to.unwrap_or_default());
    let lost = match (gap.length_known, to.offset.checked_sub(from.offset)) {
        (true, Some(bytes)) => format!("{bytes} bytes of output"),
        _ => "an unknown amount of output".to_owned(),
    };
    let why = match gap.reason() {
        GapReason::Overrun => "they are no longer kept, as this viewer came too late for them",
        GapReason::NotAttached => "the agent was not attached to the console for a while",
        GapReason::GenerationPassed => {
            "what was kept of it is gone, as the VM or the agent was started anew"
        }
        GapReason::Unspecified => "the agent did not say why",
    };
    format!("gap: {lost} missing here: {why}")
}

/// Who writes has changed; `wrote` is whether it was this session.
pub(crate) fn writer_changed(change: &WriterChanged, wrote: bool) -> Option<String> {
    let why = reason(change.reason);
    match (wrote, change.you_write, &change.writer) {
        (true, true, _) => None,
        (false, true, _) => Some(YOU_WRITE.to_owned()),
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
pub(crate) fn state(state: &ConsoleState) -> String {
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
pub(crate) fn input_refused(refused: &InputRefused) -> String {
    let bytes = refused.to.saturating_sub(refused.from);
    format!(
        "{bytes} bytes of input were not written: {}",
        reason(refused.reason)
    )
}

/// The session will end.
pub(crate) fn expiring(expiring: &Expiring) -> String {
    // What is left of a minute once the message has come is a minute to a person.
    let whole = |left: &prost_types::Duration| left.seconds + i64::from(left.nanos > 0);
    let seconds = expiring.r#in.as_ref().map_or(0, whole);
    format!(
        "this session ends in {seconds} s: {}",
        reason(expiring.reason)
    )
}

/// Somebody did something to the VM.
pub(crate) fn side_effect(effect: &SideEffect) -> String {
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
pub(crate) fn no_break(refusal: &Refusal) -> String {
    format!("the break was not sent, as far as is known: {refusal}")
}

/// The VM went to another host.
pub(crate) fn moved(moved: &Moved) -> String {
    match moved.host.as_str() {
        "" => "the VM moved to another host".to_owned(),
        host => format!("the VM moved to {}", printable(host)),
    }
}

/// The agent closed the stream.
pub(crate) fn closed(closed: &Closed) -> String {
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

/// The stream broke, and another is tried for up to so long.
pub(crate) fn lost(why: &str, limit: Duration) -> String {
    let seconds = limit.as_secs_f64();
    format!("connection lost, trying again for {seconds} s at most: {why}")
}

/// A stream is there again, `down` after the last broke. What is missing of the output, a Gap
/// tells next, in its place.
pub(crate) fn back(down: Duration, opened: &Opened, expected: Position, same: bool) -> String {
    let oldest = opened.oldest.unwrap_or_default();
    let kept = oldest.generation == expected.generation && oldest.offset <= expected.offset;
    let output = if kept {
        "nothing was missed"
    } else {
        "some output was missed"
    };
    let session = match same {
        true => String::new(),
        false => format!(", as a new session {}", printable(&opened.session_id)),
    };
    let seconds = down.as_secs_f64();
    format!("back after {seconds:.1} s{session}: {output}")
}

/// Typing that is not sent again, or at all.
pub(crate) fn undelivered(lost: Undelivered) -> String {
    let Undelivered { in_doubt, unsent } = lost;
    let doubt = format!("{in_doubt} typed bytes may not have arrived");
    match (in_doubt, unsent) {
        (_, 0) => format!("{doubt}, and are not sent again"),
        (0, _) => format!("{unsent} typed bytes were not sent"),
        _ => format!("{doubt}, and the {unsent} typed after them were not sent"),
    }
}

/// Somebody else got the lease while there was no stream.
pub(crate) fn lease_lost_meanwhile(writer: Option<&Participant>) -> String {
    let now = match writer {
        Some(writer) => format!("{} writes", words::participant(writer)),
        None => "nobody writes".to_owned(),
    };
    format!("you lost the writer's lease meanwhile ({now}): what you type is not sent")
}

/// The agent broke the interface: the text of a bug report.
pub(crate) fn fault(fault: &Fault) -> String {
    format!("bug of the agent, please report it with the agent's log: {fault}")
}

#[cfg(test)]
mod tests;
