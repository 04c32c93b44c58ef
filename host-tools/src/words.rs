//! The words that enumerations of the interface are shown by, in tables, JSON and messages.
//!
//! Refuses to invent a word for a number that this program does not know: it is shown as
//! `unknown`.

use prost_types::Timestamp;
use vmconsole_proto::v1::{Availability, ConsoleKind, EndpointKind, Participant, VmState};

use crate::output::printable;

/// What is shown for a number that is newer than this program.
const UNKNOWN: &str = "unknown";

/// The last part of an enumeration's name, as a lower-case word.
fn word(name: Option<&'static str>, prefix: &str) -> String {
    let bare = name
        .and_then(|name| name.strip_prefix(prefix))
        .unwrap_or("UNSPECIFIED");
    if bare == "UNSPECIFIED" {
        UNKNOWN.to_owned()
    } else {
        bare.to_ascii_lowercase()
    }
}

/// `serial`, `virtio`, `channel`, `vnc`, `spice`.
pub(crate) fn kind(number: i32) -> String {
    word(
        ConsoleKind::try_from(number).ok().map(|k| k.as_str_name()),
        "CONSOLE_KIND_",
    )
}

/// `libvirt_stream`, `pty`, `unix_socket`, `tcp_socket`, `graphics_fd`.
pub(crate) fn endpoint(number: i32) -> String {
    word(
        EndpointKind::try_from(number).ok().map(|k| k.as_str_name()),
        "ENDPOINT_KIND_",
    )
}

/// `attached`, `ready`, `waiting`, `held_by_other`, `denied`, `unsupported`, `lost`.
pub(crate) fn availability(number: i32) -> String {
    word(
        Availability::try_from(number).ok().map(|a| a.as_str_name()),
        "AVAILABILITY_",
    )
}

/// `running`, `paused`, `off`, `crashed`, `stopping`.
pub(crate) fn vm_state(number: i32) -> String {
    word(
        VmState::try_from(number).ok().map(|s| s.as_str_name()),
        "VM_STATE_",
    )
}

/// Who somebody is: the user, where one is known, and the proxy that they came through.
pub(crate) fn participant(who: &Participant) -> String {
    let proxy = printable(&who.proxy);
    if who.subject.is_empty() {
        proxy
    } else {
        format!("{} through {proxy}", printable(&who.subject))
    }
}

/// A time as RFC 3339 writes it, in UTC, to the second.
pub(crate) fn seconds(time: &Timestamp) -> String {
    Timestamp {
        seconds: time.seconds,
        nanos: 0,
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_interfaces_own() {
        assert_eq!(kind(ConsoleKind::Virtio.into()), "virtio");
        assert_eq!(
            endpoint(EndpointKind::LibvirtStream.into()),
            "libvirt_stream"
        );
        assert_eq!(
            availability(Availability::HeldByOther.into()),
            "held_by_other"
        );
        assert_eq!(vm_state(VmState::Off.into()), "off");
    }

    #[test]
    fn numbers_from_the_future_are_unknown() {
        for shown in [kind(99), endpoint(0), availability(-1), vm_state(i32::MAX)] {
            assert_eq!(shown, "unknown");
        }
    }

    #[test]
    fn times_are_told_in_utc() {
        let time = Timestamp {
            seconds: 1_800_000_000,
            nanos: 123,
        };
        assert_eq!(seconds(&time), "2027-01-15T08:00:00Z");
    }

    #[test]
    fn people_are_told_with_their_proxy() {
        let mut who = Participant {
            proxy: "spiffe://x/web".into(),
            ..Default::default()
        };
        assert_eq!(participant(&who), "spiffe://x/web");
        who.subject = "alice".into();
        assert_eq!(participant(&who), "alice through spiffe://x/web");
    }
}
