//! What a VNC client sends after its handshake, cut in several ways, under rules.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| vmconsole_agent::fuzzing::rfb_client(bytes));
