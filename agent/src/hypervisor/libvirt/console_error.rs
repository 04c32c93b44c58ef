//! What libvirt's errors mean for a console. Pure.
//!
//! libvirt numbers them coarsely, so some are told apart by their text, which is in the
//! language that libvirtd runs in. Where the text is not known, the number decides, for the
//! meaning that passes by trying again.

use super::ffi::{LibvirtError, code};
use crate::endpoint::{EndpointEnd, EndpointError};

/// The system's number for "permission denied".
const EACCES: i32 = 13;
/// The system's number for "operation not permitted".
const EPERM: i32 = 1;

/// What an error says that came of opening a console, or of the connection for it.
pub(super) fn opening(error: &LibvirtError) -> EndpointError {
    let text = error.message.clone();
    match error.code {
        code::OPERATION_INVALID => EndpointError::NotRunning,
        code::NO_DOMAIN => EndpointError::NotFound(text),
        code::OPERATION_FAILED if text.contains("not yet assigned") => {
            EndpointError::NotReady(text)
        }
        code::OPERATION_FAILED => EndpointError::HeldByOther(text),
        _ if is_denied(error) => EndpointError::Denied(text),
        code::NO_SUPPORT => EndpointError::Unsupported(text),
        code::INTERNAL_ERROR if text.contains("is not using a") => EndpointError::Unsupported(text),
        code::INTERNAL_ERROR if text.contains("cannot find ch") => EndpointError::NotFound(text),
        _ => EndpointError::Unreachable(text),
    }
}

/// What an error says that came of opening a display.
pub(super) fn display(error: &LibvirtError) -> EndpointError {
    let text = error.message.clone();
    match error.code {
        code::OPERATION_INVALID => EndpointError::NotRunning,
        code::NO_DOMAIN => EndpointError::NotFound(text),
        _ if is_denied(error) => EndpointError::Denied(text),
        code::NO_SUPPORT
        | code::CONFIG_UNSUPPORTED
        | code::ARGUMENT_UNSUPPORTED
        | code::OPERATION_UNSUPPORTED => EndpointError::Unsupported(text),
        code::INTERNAL_ERROR if text.contains("No graphics backend") => {
            EndpointError::NotFound(text)
        }
        // What QEMU itself refuses.
        code::INTERNAL_ERROR if text.contains("unable to execute QEMU command") => {
            EndpointError::Unsupported(text)
        }
        _ => EndpointError::Unreachable(text),
    }
}

/// Whether an error says that the agent lacks a permission.
pub(super) fn is_denied(error: &LibvirtError) -> bool {
    match error.code {
        code::OPERATION_DENIED
        | code::ACCESS_DENIED
        | code::AUTH_FAILED
        | code::AUTH_CANCELLED
        | code::AUTH_UNAVAILABLE => true,
        code::SYSTEM_ERROR => matches!(error.errno, EACCES | EPERM),
        code::INTERNAL_ERROR => matches!(error.domain, code::FROM_DBUS | code::FROM_POLKIT),
        _ => false,
    }
}

/// What an error says that ended an open stream. libvirtd sends the same number when it aborts
/// a stream because somebody else takes the console, and when QEMU hung up.
pub(super) fn ending(error: &LibvirtError) -> EndpointEnd {
    let aborted = (error.code, error.domain) == (code::RPC, code::FROM_STREAMS);
    if aborted && !error.message.contains("unexpected termination") {
        EndpointEnd::Displaced
    } else {
        EndpointEnd::Lost(error.message.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32, domain: i32, errno: i32, message: &str) -> LibvirtError {
        LibvirtError {
            code,
            domain,
            level: 2,
            errno,
            message: message.to_owned(),
        }
    }

    /// Messages as libvirt 9.0 gave them.
    #[test]
    fn each_error_has_its_meaning() {
        let cases = [
            (55, 20, 0, "domain is not running", "the VM is not running"),
            (
                42,
                10,
                0,
                "Domain not found: no domain with",
                "no such console",
            ),
            (
                9,
                10,
                0,
                "PTY device is not yet assigned",
                "the console does not exist yet",
            ),
            (
                9,
                10,
                0,
                "Active console session exists",
                "another process holds the console",
            ),
            (
                9,
                10,
                0,
                "in another language",
                "another process holds the console",
            ),
            (
                29,
                10,
                0,
                "read only access prevents it",
                "permission denied",
            ),
            (88, 55, 0, "access denied", "permission denied"),
            (
                1,
                47,
                0,
                "Unable to get system bus connection",
                "permission denied",
            ),
            (38, 7, 13, "Failed to connect socket", "permission denied"),
            (
                38,
                7,
                2,
                "Failed to connect socket",
                "the hypervisor did not serve the console",
            ),
            (
                1,
                10,
                0,
                "character device serial0 is not using a PTY",
                "not supported",
            ),
            (
                1,
                10,
                0,
                "cannot find character device serial9",
                "no such console",
            ),
            (
                1,
                10,
                0,
                "channel org.a is not using a UNIX socket",
                "not supported",
            ),
            (1, 10, 0, "cannot find channel org.a", "no such console"),
            (
                9,
                10,
                0,
                "Active channel stream exists for this domain",
                "another process holds the console",
            ),
            (
                1,
                7,
                0,
                "client socket is closed",
                "the hypervisor did not serve the console",
            ),
        ];
        for (code, domain, errno, message, meaning) in cases {
            let got = opening(&error(code, domain, errno, message)).to_string();
            assert!(got.starts_with(meaning), "{message}: {got}");
        }
    }

    /// Messages as libvirt 9.0 has them.
    #[test]
    fn each_error_of_a_display_has_its_meaning() {
        let cases = [
            (55, 10, "domain is not running", "the VM is not running"),
            (42, 10, "Domain not found", "no such console"),
            (1, 10, "No graphics backend with index 7", "no such console"),
            (29, 10, "read only access prevents", "permission denied"),
            (88, 55, "access denied", "permission denied"),
            (3, 7, "this function is not supported", "not supported"),
            (
                74,
                7,
                "fd passing is not supported by this connection",
                "not supported",
            ),
            (
                1,
                10,
                "unable to execute QEMU command 'add_client': refused",
                "not supported",
            ),
            (
                1,
                7,
                "client socket is closed",
                "the hypervisor did not serve",
            ),
            (
                68,
                10,
                "cannot acquire state change lock",
                "the hypervisor did not serve",
            ),
        ];
        for (code, domain, message, meaning) in cases {
            let got = display(&error(code, domain, 0, message)).to_string();
            assert!(got.starts_with(meaning), "{message}: {got}");
        }
    }

    #[test]
    fn being_thrown_out_is_told_from_being_lost() {
        assert_eq!(
            ending(&error(39, 38, 0, "stream aborted")),
            EndpointEnd::Displaced
        );
        assert_eq!(
            ending(&error(39, 38, 0, "stream had I/O failure")),
            EndpointEnd::Displaced
        );
        let hung_up = "stream had unexpected termination";
        assert_eq!(
            ending(&error(39, 38, 0, hung_up)),
            EndpointEnd::Lost(hung_up.to_owned())
        );
        assert_eq!(
            ending(&error(39, 7, 0, "broken")),
            EndpointEnd::Lost("broken".to_owned())
        );
    }
}
