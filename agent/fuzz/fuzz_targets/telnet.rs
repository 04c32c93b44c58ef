//! What a telnet server sends, cut in several ways.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| vmconsole_agent::fuzzing::telnet(bytes));
