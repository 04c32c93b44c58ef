//! What a display sends in the handshake, cut in several ways; its first byte says what is allowed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| vmconsole_agent::fuzzing::rfb_display(bytes));
