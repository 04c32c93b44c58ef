//! Tells what a QMP message is. Pure. It keeps nothing of a message that nobody asked for.

use std::borrow::Cow;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::text::printable;

/// The longest explanation that is kept of a refusal, in bytes.
const MAX_REFUSAL_BYTES: usize = 256;

/// A message, as far as it matters to whoever waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hypervisor::qemu) enum Message {
    /// The first message: who serves.
    Greeting,
    /// Something happened; whether it may have changed what the agent knows of the VM.
    Event {
        /// Whether the VM ought to be asked again.
        news: bool,
        /// Whether the VM was reset.
        reset: bool,
    },
    /// The answer to the command of this number; an answer with none is of no use.
    Reply {
        /// The command's number.
        id: Option<u64>,
        /// Why the command was refused, if it was.
        refusal: Option<Refusal>,
    },
}

/// Why QEMU refused a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hypervisor::qemu) struct Refusal {
    /// What sort of refusal it is.
    pub(in crate::hypervisor::qemu) class: RefusalClass,
    /// QEMU's words, printable and at most 256 bytes long.
    pub(in crate::hypervisor::qemu) text: String,
}

/// QEMU's classes of errors (`QapiErrorClass`), as far as they are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hypervisor::qemu) enum RefusalClass {
    /// QEMU has no such command.
    CommandNotFound,
    /// The VM has no such device.
    DeviceNotFound,
    /// Any other.
    Generic,
}

/// Why a message cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::hypervisor::qemu) enum MessageError {
    /// Not JSON, or not of the shape that QEMU gives it.
    #[error("it sent a message that is not QMP")]
    Shape(#[from] serde_json::Error),
    /// An answer, and not to what was asked. The connection is still of use.
    #[error("it sent an answer of another type than was asked for")]
    Answer(#[source] serde_json::Error),
    /// JSON, and neither greeting nor event nor answer.
    #[error("it sent a message that is neither event nor answer")]
    Unknown,
}

/// Events after which a VM is asked again: those of its run state and of its devices. Others
/// (of disks, clocks, balloons, displays) change nothing that the agent shows.
const NEWS: [&str; 14] = [
    "DEVICE_DELETED",
    "DEVICE_UNPLUG_GUEST_ERROR",
    "GUEST_CRASHLOADED",
    "GUEST_PANICKED",
    "MIGRATION",
    "POWERDOWN",
    "RESET",
    "RESUME",
    "SHUTDOWN",
    "STOP",
    "SUSPEND",
    "SUSPEND_DISK",
    "VSERPORT_CHANGE",
    "WAKEUP",
];

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "QMP")]
    greeting: Option<IgnoredAny>,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(rename = "return", default, deserialize_with = "present")]
    answer: Option<IgnoredAny>,
    #[serde(borrow)]
    error: Option<Error<'a>>,
    id: Option<u64>,
}

/// Whatever stands there, `null` too, which is an answer like any other.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<IgnoredAny>, D::Error> {
    serde::Deserialize::deserialize(value).map(Some)
}

#[derive(Deserialize)]
struct Error<'a> {
    #[serde(borrow)]
    class: Cow<'a, str>,
    #[serde(borrow)]
    desc: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Answered<A> {
    #[serde(rename = "return")]
    answer: A,
}

/// Tells what a message is.
///
/// # Errors
/// [`MessageError`] if it is none that QEMU would send.
pub(in crate::hypervisor::qemu) fn parse(bytes: &[u8]) -> Result<Message, MessageError> {
    let envelope: Envelope<'_> = serde_json::from_slice(bytes)?;
    let id = envelope.id;
    match envelope {
        Envelope {
            event: Some(name), ..
        } => Ok(Message::Event {
            news: NEWS.contains(&&*name),
            reset: name == "RESET",
        }),
        Envelope {
            error: Some(error), ..
        } => Ok(Message::Reply {
            id,
            refusal: Some(refusal(&error)),
        }),
        Envelope {
            answer: Some(_), ..
        } => Ok(Message::Reply { id, refusal: None }),
        Envelope {
            greeting: Some(_), ..
        } => Ok(Message::Greeting),
        _ => Err(MessageError::Unknown),
    }
}

/// Reads the answer in a message that is one.
///
/// # Errors
/// [`MessageError::Answer`] if it is not of the type that was asked for.
pub(in crate::hypervisor::qemu) fn answer<A: DeserializeOwned>(
    bytes: &[u8],
) -> Result<A, MessageError> {
    let answered: Answered<A> = serde_json::from_slice(bytes).map_err(MessageError::Answer)?;
    Ok(answered.answer)
}

fn refusal(error: &Error<'_>) -> Refusal {
    let class = match &*error.class {
        "CommandNotFound" => RefusalClass::CommandNotFound,
        "DeviceNotFound" => RefusalClass::DeviceNotFound,
        _ => RefusalClass::Generic,
    };
    Refusal {
        class,
        text: printable(&error.desc, MAX_REFUSAL_BYTES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Message> {
        parse(text.as_bytes()).ok()
    }

    #[test]
    fn what_qemu_sends_is_told_apart() {
        let greeting = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7},
            "package": "Debian"}, "capabilities": ["oob"]}}"#;
        assert_eq!(parsed(greeting), Some(Message::Greeting));
        let event = |name| {
            let text = format!(
                r#"{{"timestamp": {{"seconds": 1, "microseconds": 2}}, "event": "{name}"}}"#
            );
            parsed(&text)
        };
        let told = |news, reset| Some(Message::Event { news, reset });
        assert_eq!(event("STOP"), told(true, false));
        assert_eq!(event("RTC_CHANGE"), told(false, false));
        assert_eq!(event("RESET"), told(true, true));
        let (id, refusal) = (Some(7), None);
        let reply = parsed(r#"{"return": {}, "id": 7}"#);
        let expected = Some(Message::Reply { id, refusal });
        assert_eq!(reply, expected);
        assert_eq!(parsed(r#"{"return": null, "id": 7}"#), expected);
    }

    #[test]
    fn a_refusal_keeps_its_class_and_printable_words() {
        let long = "x".repeat(1000);
        let text = format!(
            r#"{{"id": 1, "error": {{"class": "DeviceNotFound", "desc": "no\u001b[2J {long}"}}}}"#
        );
        let Some(Message::Reply {
            id: Some(1),
            refusal: Some(refusal),
        }) = parsed(&text)
        else {
            panic!("not a refusal");
        };
        assert_eq!(refusal.class, RefusalClass::DeviceNotFound);
        assert!(refusal.text.starts_with("no[2J xxx"), "{}", refusal.text);
        assert_eq!(refusal.text.len(), MAX_REFUSAL_BYTES);
    }

    #[test]
    fn what_qemu_would_not_send_is_refused() {
        for text in [
            "{}",
            "{\"a\":1}",
            "{\"event\":7}",
            "{\"return\":{},\"id\":\"x\"}",
            "{\"error\":{}}",
            "{\"return\":{},\"return\":{}}",
            "{",
            "{\"id\":-1,\"return\":{}}",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
