//! What a connection does not allow, as far as that is known without trying. Pure.
//!
//! libvirt has no call that tells what one may do. A call that is made to be refused leaves an
//! error in libvirtd's log, and polkit's rules may differ from VM to VM. So only the read-only
//! socket is known beforehand, by its name. Any other right that is missing shows where it is
//! needed: a console is then denied.

/// How the names of the read-only sockets of libvirtd and virtqemud end.
const READ_ONLY_SOCKET: &str = "-sock-ro";

/// What libvirtd does not allow at this URI, for the operator; empty if nothing is known.
pub(super) fn not_allowed(uri: &str) -> &'static str {
    let (_, parameters) = uri.split_once('?').unwrap_or((uri, ""));
    let mut parameters = parameters.split(['&', ';']);
    let socket = parameters.find_map(|parameter| parameter.strip_prefix("socket="));
    if socket.is_some_and(|socket| socket.ends_with(READ_ONLY_SOCKET)) {
        "libvirtd's read-only socket lets no console be opened: have libvirt.uri name the other \
         one, whose name does not end in -ro"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_only_socket_is_told_by_its_name() {
        let read_only = [
            "qemu:///system?socket=/run/libvirt/libvirt-sock-ro",
            "qemu+unix:///system?mode=direct&socket=/run/libvirt/virtqemud-sock-ro",
        ];
        for uri in read_only {
            assert!(not_allowed(uri).contains("libvirt.uri"), "{uri}");
        }
        let others = [
            "",
            "qemu:///system",
            "qemu:///system?socket=/run/libvirt/libvirt-sock",
            "qemu:///embed?root=/a-sock-ro",
            "qemu:///system?socket=/run/a-sock-ro/libvirt-sock",
        ];
        for uri in others {
            assert_eq!(not_allowed(uri), "", "{uri}");
        }
    }
}
