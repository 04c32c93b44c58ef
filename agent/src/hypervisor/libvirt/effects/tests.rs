//! The monitor's command, whatever an alias holds.

use super::*;
use proptest::prelude::*;

#[test]
fn the_command_is_what_qemu_documents() {
    let expected = r#"{"arguments":{"id":"charserial0"},"execute":"chardev-send-break"}"#;
    assert_eq!(break_command("serial0"), expected);
}

proptest! {
    #[test]
    fn an_alias_stays_a_string(alias in "\\PC{0,40}|[\"\\\\{}\u{0}\n,:]{0,20}") {
        let command: serde_json::Value = serde_json::from_str(&break_command(&alias)).unwrap();
        let id = format!("char{alias}");
        let expected = serde_json::json!({
            "execute": "chardev-send-break",
            "arguments": { "id": id },
        });
        prop_assert_eq!(command, expected);
    }
}
