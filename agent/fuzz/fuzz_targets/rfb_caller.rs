//! What a caller of a display sends in the handshake, cut in several ways.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| vmconsole_agent::fuzzing::rfb_caller(bytes));
