//! The list as JSON for programs. The keys are a promise: further ones may be added, none
//! is renamed, and one that has no value is `null`.
//!
//! Refuses to lose digits: a generation is 64 random bits and no JSON number, so it is
//! text of 16 hexadecimal digits.

use serde::Serialize;
use vmconsole_proto::v1::{self as wire, ConsoleState};

use crate::output::printable_json;
use crate::words;

/// One console.
#[derive(Serialize)]
struct Console<'a> {
    /// UUID of the VM.
    vm_uuid: &'a str,
    /// Name of the VM.
    vm_name: &'a str,
    /// The console's alias.
    console: &'a str,
    /// `serial`, `virtio`, `channel`, `vnc`, `spice`, `unknown`.
    kind: String,
    /// `libvirt_stream`, `pty`, `unix_socket`, `tcp_socket`, `graphics_fd`, `unknown`.
    endpoint: String,
    /// `attached`, `ready`, `waiting`, `held_by_other`, `denied`, `unsupported`, `lost`,
    /// `unknown`.
    availability: String,
    /// Since when `availability` is so.
    since: Option<String>,
    /// When `availability` was last checked, where it is `ready`.
    checked: Option<String>,
    /// `running`, `paused`, `off`, `crashed`, `stopping`, `unknown`.
    vm_state: String,
    /// One sentence on the state; may be empty.
    detail: String,
    /// When the agent tries next, where it is `lost`.
    next_try: Option<String>,
    /// The process that holds the console, where it is `held_by_other` and known.
    holder: Option<String>,
    /// Since when it is attached with no output.
    silent_since: Option<String>,
    /// Since when input makes no progress.
    wedged_since: Option<String>,
    /// How many sessions are attached.
    viewers: u32,
    /// Who may type.
    writer: Option<Writer<'a>>,
    /// The oldest output that is kept.
    oldest: Option<Position>,
    /// The next byte of output.
    head: Option<Position>,
    /// When the guest last wrote.
    last_output: Option<String>,
    /// When the guest last took input.
    last_input: Option<String>,
}

/// Who may type.
#[derive(Serialize)]
struct Writer<'a> {
    /// The session's id.
    session_id: &'a str,
    /// The proxy's identity.
    proxy: &'a str,
    /// The user; empty where none was proved.
    subject: &'a str,
    /// Since when attached.
    since: Option<String>,
}

/// A place in the output.
#[derive(Serialize)]
struct Position {
    /// 16 hexadecimal digits.
    generation: String,
    /// Bytes since the generation's start.
    offset: u64,
}

/// A JSON array, with a line feed at its end.
///
/// # Errors
/// As the serializer fails.
pub(super) fn render(consoles: &[wire::Console]) -> Result<String, serde_json::Error> {
    let consoles: Vec<_> = consoles.iter().map(console).collect();
    let mut text = printable_json(&serde_json::to_string_pretty(&consoles)?);
    text.push('\n');
    Ok(text)
}

/// One console of the wire.
fn console(console: &wire::Console) -> Console<'_> {
    let unknown = ConsoleState::default();
    let state = console.state.as_ref().unwrap_or(&unknown);
    Console {
        vm_uuid: &console.vm_uuid,
        vm_name: &console.vm_name,
        console: &console.alias,
        kind: words::kind(console.kind),
        endpoint: words::endpoint(console.endpoint),
        availability: words::availability(state.availability),
        since: time(state.since.as_ref()),
        checked: time(state.checked.as_ref()),
        vm_state: words::vm_state(state.vm_state),
        detail: state.detail.clone(),
        next_try: time(state.next_try.as_ref()),
        holder: Some(state.holder.clone()).filter(|holder| !holder.is_empty()),
        silent_since: time(state.silent_since.as_ref()),
        wedged_since: time(state.wedged_since.as_ref()),
        viewers: console.viewers,
        writer: console.writer.as_ref().map(|writer| Writer {
            session_id: &writer.session_id,
            proxy: &writer.proxy,
            subject: &writer.subject,
            since: time(writer.since.as_ref()),
        }),
        oldest: console.oldest.map(position),
        head: console.head.map(position),
        last_output: time(console.last_output.as_ref()),
        last_input: time(console.last_input.as_ref()),
    }
}

/// A time as RFC 3339 writes it, with all the digits that were sent.
fn time(time: Option<&prost_types::Timestamp>) -> Option<String> {
    time.map(ToString::to_string)
}

/// A position of the wire.
fn position(position: wire::Position) -> Position {
    Position {
        generation: format!("{:016x}", position.generation),
        offset: position.offset,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use vmconsole_proto::v1::{Availability, ConsoleKind, EndpointKind, Participant, VmState};

    use super::*;

    #[test]
    fn keys_and_forms_are_as_promised() {
        let time = |seconds| {
            Some(prost_types::Timestamp {
                seconds,
                nanos: 500_000_000,
            })
        };
        let console = wire::Console {
            vm_uuid: "6f1f7f32-0000-4000-8000-000000000001".into(),
            vm_name: "web".into(),
            alias: "serial0".into(),
            kind: ConsoleKind::Serial.into(),
            endpoint: EndpointKind::Pty.into(),
            state: Some(ConsoleState {
                availability: Availability::Lost.into(),
                since: time(0),
                vm_state: VmState::Running.into(),
                next_try: time(1),
                ..Default::default()
            }),
            viewers: 1,
            writer: Some(Participant {
                session_id: "s".into(),
                proxy: "p".into(),
                ..Default::default()
            }),
            head: Some(wire::Position {
                generation: u64::MAX,
                offset: 7,
            }),
            ..Default::default()
        };
        let value: Value = serde_json::from_str(&render(&[console]).unwrap()).unwrap();
        let wanted = json!([{
            "vm_uuid": "6f1f7f32-0000-4000-8000-000000000001", "vm_name": "web",
            "console": "serial0", "kind": "serial", "endpoint": "pty",
            "availability": "lost", "since": "1970-01-01T00:00:00.500Z", "checked": null,
            "vm_state": "running", "detail": "", "next_try": "1970-01-01T00:00:01.500Z",
            "holder": null, "silent_since": null, "wedged_since": null, "viewers": 1,
            "writer": {"session_id": "s", "proxy": "p", "subject": "", "since": null},
            "oldest": null, "head": {"generation": "ffffffffffffffff", "offset": 7},
            "last_output": null, "last_input": null,
        }]);
        assert_eq!(value, wanted);
    }

    #[test]
    fn a_name_that_a_terminal_would_obey_is_escaped() {
        let console = wire::Console {
            vm_name: "a\u{9b}2J\u{202e}".into(),
            ..Default::default()
        };
        let text = render(&[console]).unwrap();
        assert!(text.contains(r#""vm_name": "a\u009b2J\u202e""#), "{text}");
    }

    #[test]
    fn no_consoles_are_an_empty_array() {
        assert_eq!(render(&[]).unwrap(), "[]\n");
    }
}
