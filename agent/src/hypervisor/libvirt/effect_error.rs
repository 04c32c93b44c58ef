//! What libvirt's errors, and those of QEMU's monitor, mean for a side effect. Pure.
//!
//! Texts are in the language that libvirtd runs in; where one is not known, the number decides.

use serde::Deserialize;

use super::calls::CallError;
use super::console_error::is_denied;
use super::ffi::{LibvirtError, code};
use crate::hypervisor::EffectError;

/// The most of a monitor's own text that goes into a message, in bytes.
const MAX_TEXT_BYTES: usize = 512;

/// What is done to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// A break on a serial line.
    Break,
    /// Keys are pressed.
    Keys,
    /// A non-maskable interrupt.
    Nmi,
    /// A picture of the screen.
    Screenshot,
}

impl Effect {
    /// What completes "libvirt could not …".
    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Break => "put a break on the line",
            Self::Keys => "press the keys",
            Self::Nmi => "send the interrupt",
            Self::Screenshot => "take the picture",
        }
    }

    /// What a VM lacks that cannot have it.
    const fn lacking(self) -> &'static str {
        match self {
            Self::Break => "its console takes no break",
            Self::Keys => "its keyboard has no such key",
            Self::Nmi => "its machine type takes no NMI",
            Self::Screenshot => "it has no such screen: add a <video> device",
        }
    }
}

/// Why a call for an effect failed.
pub(super) fn failed(effect: Effect, error: CallError) -> EffectError {
    match error {
        CallError::Libvirt { source, .. } => refused(effect, &source),
        CallError::NotStarted { source, .. } => EffectError::NotDone(source.to_string()),
        CallError::NotInTime { .. } => EffectError::NotDone(error.to_string()),
        CallError::TimedOut { .. } | CallError::Broken { .. } => {
            EffectError::Unreachable(error.to_string())
        }
    }
}

fn refused(effect: Effect, error: &LibvirtError) -> EffectError {
    let text = &error.message;
    let unsupported = || EffectError::Unsupported(format!("{}: {text}", effect.lacking()));
    match error.code {
        // As libvirt 9.0 says it: "no such screen ID", "no screens to take screenshot from".
        code::OPERATION_INVALID if text.contains(" screen") => unsupported(),
        code::OPERATION_INVALID => EffectError::NotRunning,
        code::NO_DOMAIN => EffectError::NotFound(text.clone()),
        _ if is_denied(error) => EffectError::Denied(text.clone()),
        code::NO_SUPPORT
        | code::INVALID_ARG
        | code::CONFIG_UNSUPPORTED
        | code::ARGUMENT_UNSUPPORTED
        | code::OPERATION_UNSUPPORTED => unsupported(),
        // What QEMU itself refuses; and a key that libvirt does not know.
        code::INTERNAL_ERROR
            if text.contains("unable to execute QEMU command")
                || text.contains("cannot translate keycode") =>
        {
            unsupported()
        }
        _ => EffectError::Unreachable(text.clone()),
    }
}

/// A monitor's answer, of which only an error matters.
#[derive(Deserialize)]
struct Answer {
    error: Option<MonitorError>,
    #[serde(rename = "return")]
    done: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct MonitorError {
    desc: String,
}

/// What a monitor answered to a break. libvirt hands its errors on as an answer.
///
/// # Errors
/// The monitor refused, or did not answer in its protocol.
pub(super) fn monitor_answer(answer: &str) -> Result<(), EffectError> {
    let refusal = match serde_json::from_str(answer) {
        Ok(Answer { error: None, done }) if done.is_some() => return Ok(()),
        Ok(Answer { error, .. }) => error.map(|error| error.desc),
        Err(_) => None,
    };
    let Some(desc) = refusal else {
        let why = "QEMU's monitor gave an answer that is none";
        return Err(EffectError::Unreachable(why.to_owned()));
    };
    let text: String = desc.chars().filter(|c| !c.is_control()).collect();
    let text = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
    let why = format!("{}: {text}", Effect::Break.lacking());
    Err(EffectError::Unsupported(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32, domain: i32, message: &str) -> CallError {
        CallError::Libvirt {
            what: "try",
            source: LibvirtError {
                code,
                domain,
                level: 2,
                errno: 0,
                message: message.to_owned(),
            },
        }
    }

    #[test]
    fn each_error_has_its_meaning() {
        let cases = [
            (
                Effect::Keys,
                55,
                20,
                "domain is not running",
                "the VM is not running",
            ),
            (
                Effect::Keys,
                42,
                10,
                "Domain not found",
                "no such VM or console",
            ),
            (Effect::Nmi, 88, 55, "access denied", "permission denied"),
            (
                Effect::Nmi,
                29,
                0,
                "read only access prevents",
                "permission denied",
            ),
            (
                Effect::Nmi,
                1,
                10,
                "internal error: unable to execute QEMU command 'inject-nmi': machine does not \
                 provide NMIs",
                "not supported: its machine type takes no NMI",
            ),
            (
                Effect::Keys,
                1,
                10,
                "internal error: cannot translate keycode 7 of linux codeset to qnum keycode",
                "not supported: its keyboard has no such key",
            ),
            (
                Effect::Screenshot,
                55,
                10,
                "Requested operation is not valid: no such screen ID",
                "not supported: it has no such screen",
            ),
            (
                Effect::Screenshot,
                55,
                10,
                "Requested operation is not valid: no screens to take screenshot from",
                "not supported: it has no such screen",
            ),
            (
                Effect::Screenshot,
                1,
                7,
                "client socket is closed",
                "the hypervisor did not",
            ),
            (
                Effect::Break,
                68,
                10,
                "cannot acquire state change lock",
                "the hypervisor did not",
            ),
        ];
        for (effect, code, domain, message, meaning) in cases {
            let got = failed(effect, error(code, domain, message)).to_string();
            assert!(got.starts_with(meaning), "{message}: {got}");
        }
    }

    #[test]
    fn a_monitors_answer_is_read() {
        assert_eq!(monitor_answer(r#"{"return":{},"id":"libvirt-7"}"#), Ok(()));
        let refused = r#"{"id":"7","error":{"class":"GenericError","desc":"Chardev\u001b not"}}"#;
        let why = "its console takes no break: Chardev not".to_owned();
        assert_eq!(monitor_answer(refused), Err(EffectError::Unsupported(why)));
        let long = format!("{{\"error\":{{\"desc\":\"{}\"}}}}", "ü".repeat(30_000));
        let Err(EffectError::Unsupported(why)) = monitor_answer(&long) else {
            panic!("refused");
        };
        assert!(why.len() < MAX_TEXT_BYTES + 64);
        for none in [
            "",
            "{}",
            "[]",
            "\u{0}",
            "{\"error\":null}",
            "{\"error\":{}}",
        ] {
            let answer = monitor_answer(none);
            assert!(matches!(answer, Err(EffectError::Unreachable(_))), "{none}");
        }
    }
}
