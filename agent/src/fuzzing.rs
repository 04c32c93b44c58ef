//! What the fuzz targets in `agent/fuzz` run, and what a test runs over their corpus. Each takes
//! any bytes as the outside world may send them, and panics where a promise is broken. Not for
//! use by anything else.

use crate::core::rfb;
use crate::endpoint::telnet;
use crate::hypervisor::libvirt::xml;
use crate::hypervisor::qemu::qmp;

/// A domain's definition, as libvirt gives it out.
pub fn domain_xml(bytes: &[u8]) {
    xml::fuzzing::check(bytes);
}

/// What a QMP server sends.
pub fn qmp(bytes: &[u8]) {
    qmp::fuzzing::check(bytes);
}

/// What a caller of a display sends before its screen.
pub fn rfb_caller(bytes: &[u8]) {
    rfb::caller::fuzzing::check(bytes);
}

/// What a display sends before its screen, after a byte for what may be taken of it.
pub fn rfb_display(bytes: &[u8]) {
    rfb::display::fuzzing::check(bytes);
}

/// What a telnet server sends.
pub fn telnet(bytes: &[u8]) {
    telnet::fuzzing::check(bytes);
}

/// What a VNC client sends after its handshake, and under which rules: the first byte says.
pub fn rfb_client(bytes: &[u8]) {
    rfb::fuzzing::check(bytes);
}

#[cfg(test)]
mod tests;
