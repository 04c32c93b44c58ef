//! The list as a table for people.
//!
//! Refuses to be parsed: columns and widths may change, the JSON does not.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use vmconsole_proto::v1::{Console, Participant};

use crate::output::printable;
use crate::words;

/// What is shown where there is nothing to show.
const NONE: &str = "-";

/// The table, with a line feed at its end.
pub(super) fn render(consoles: &[Console]) -> String {
    if consoles.is_empty() {
        return "no consoles\n".to_owned();
    }
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header([
        "VM",
        "CONSOLE",
        "KIND",
        "STATE",
        "VIEWERS",
        "WRITER",
        "LAST OUTPUT",
    ]);
    for console in consoles {
        table.add_row(row(console));
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// One console.
fn row(console: &Console) -> [String; 7] {
    let vm = if console.vm_name.is_empty() {
        &console.vm_uuid
    } else {
        &console.vm_name
    };
    let state = match &console.state {
        Some(state) => {
            let since = state
                .silent_since
                .as_ref()
                .map(|_| " (silent)")
                .unwrap_or_default();
            let wedged = state
                .wedged_since
                .as_ref()
                .map(|_| " (wedged)")
                .unwrap_or_default();
            format!("{}{since}{wedged}", words::availability(state.availability))
        }
        None => NONE.to_owned(),
    };
    [
        printable(vm),
        printable(&console.alias),
        words::kind(console.kind),
        state,
        console.viewers.to_string(),
        console
            .writer
            .as_ref()
            .map_or_else(|| NONE.to_owned(), writer),
        console
            .last_output
            .as_ref()
            .map_or_else(|| NONE.to_owned(), words::seconds),
    ]
}

/// Who writes, short.
fn writer(who: &Participant) -> String {
    printable(if who.subject.is_empty() {
        &who.proxy
    } else {
        &who.subject
    })
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;
    use vmconsole_proto::v1::{Availability, ConsoleKind, ConsoleState};

    use super::*;

    #[test]
    fn a_console_is_a_row() {
        let console = Console {
            vm_name: "web-1".into(),
            alias: "serial0".into(),
            kind: ConsoleKind::Serial.into(),
            state: Some(ConsoleState {
                availability: Availability::Attached.into(),
                ..Default::default()
            }),
            viewers: 2,
            writer: Some(Participant {
                subject: "al\u{1b}ice".into(),
                ..Default::default()
            }),
            last_output: Some(Timestamp {
                seconds: 1_800_000_000,
                nanos: 0,
            }),
            ..Default::default()
        };
        let text = render(&[console]);
        let lines: Vec<_> = text.lines().collect();
        let words: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(
            words,
            [
                "web-1",
                "serial0",
                "serial",
                "attached",
                "2",
                "al\\u{1b}ice",
                "2027-01-15T08:00:00Z"
            ]
        );
        assert!(lines[0].trim_start().starts_with("VM "));
    }

    #[test]
    fn what_is_unset_is_a_dash() {
        let text = render(&[Console {
            vm_uuid: "u".into(),
            ..Default::default()
        }]);
        let words: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["u", "unknown", "-", "0", "-", "-"]);
    }
}
