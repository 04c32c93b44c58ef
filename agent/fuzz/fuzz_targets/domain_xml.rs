//! A domain's definition, as libvirt gives it out.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| vmconsole_agent::fuzzing::domain_xml(bytes));
