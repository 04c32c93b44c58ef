//! What the fuzz targets in `agent/fuzz` run, and what a test runs over their corpus. Each takes
//! any bytes as the outside world may send them, and panics where a promise is broken. Not for
//! use by anything else.

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

/// What a telnet server sends.
pub fn telnet(bytes: &[u8]) {
    telnet::fuzzing::check(bytes);
}

#[cfg(test)]
mod tests;
