//! Reasons as gRPC statuses.
//!
//! Every status carries `google.rpc.ErrorInfo` with the reason, so that a client never has
//! to read the sentence beside it.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::console::JoinError;
use crate::core::reason::Reason;
use crate::session::OpenError;
use crate::session::relay::RelayError;

/// `google.rpc.ErrorInfo.domain`.
const DOMAIN: &str = "vmconsole";

/// The code that goes with a reason; see `reason.proto`.
pub(super) const fn code(reason: Reason) -> Code {
    match reason {
        Reason::VmStopped | Reason::ClientDetached => Code::Ok,
        Reason::TakenOver | Reason::Superseded | Reason::Terminated => Code::Aborted,
        Reason::Expired | Reason::Unauthenticated => Code::Unauthenticated,
        Reason::Revoked | Reason::RuleViolated | Reason::Denied => Code::PermissionDenied,
        Reason::IdleTimeout | Reason::MaxDuration => Code::DeadlineExceeded,
        Reason::VmGone | Reason::NotFound => Code::NotFound,
        Reason::VmDisabled
        | Reason::HeldByOther
        | Reason::LeaseHeld
        | Reason::NotRunning
        | Reason::ResumeRefused => Code::FailedPrecondition,
        Reason::Moved | Reason::EndpointLost | Reason::AgentDraining | Reason::TransportLost => {
            Code::Unavailable
        }
        Reason::Unsupported => Code::Unimplemented,
        Reason::Gap => Code::OutOfRange,
        Reason::LimitReached => Code::ResourceExhausted,
        Reason::BadRequest => Code::InvalidArgument,
        Reason::Internal => Code::Internal,
    }
}

/// A status for `reason`.
pub(super) fn status(reason: Reason, message: impl Into<String>) -> Status {
    status_with(reason, message, HashMap::new())
}

/// A status for `reason`, with facts for a program to read.
pub(super) fn status_with(
    reason: Reason,
    message: impl Into<String>,
    metadata: HashMap<String, String>,
) -> Status {
    let details = ErrorDetails::with_error_info(reason.name(), DOMAIN, metadata);
    Status::with_error_details(code(reason), message, details)
}

/// The status of a relay that could not be opened.
pub(super) fn relay_refused(error: &RelayError) -> Status {
    match error {
        RelayError::Session(error) => open_refused(error),
        RelayError::Display(_) | RelayError::NoDisplay => status(error.reason(), error.to_string()),
    }
}

/// The status of a session that could not be opened.
pub(super) fn open_refused(error: &OpenError) -> Status {
    let metadata = match error {
        OpenError::Join(JoinError::LeaseHeld(holder) | JoinError::Occupied(holder)) => {
            HashMap::from([
                ("holder_session".to_owned(), holder.session.to_string()),
                ("holder_proxy".to_owned(), holder.proxy.to_string()),
            ])
        }
        OpenError::Join(JoinError::Unavailable(state)) => state
            .holder
            .iter()
            .map(|holder| ("holder".to_owned(), holder.to_string()))
            .collect(),
        OpenError::Join(JoinError::Moved(Some(host))) => {
            HashMap::from([("host".to_owned(), host.to_string())])
        }
        _ => HashMap::new(),
    };
    status_with(error.reason(), error.to_string(), metadata)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::console::{Availability, ConsoleState};
    use crate::endpoint::Holder;
    use crate::hypervisor::VmState;

    #[test]
    fn every_reason_but_the_two_good_ends_is_an_error_that_names_it() {
        for reason in Reason::ALL {
            let status = status(*reason, "said");
            let info = status.get_details_error_info().unwrap();
            assert_eq!(
                (info.reason.as_str(), info.domain.as_str()),
                (reason.name(), DOMAIN)
            );
            let good = matches!(reason, Reason::VmStopped | Reason::ClientDetached);
            assert_eq!(code(*reason) == Code::Ok, good, "{reason}");
        }
    }

    #[test]
    fn the_interface_and_the_agent_know_the_same_reasons() {
        use vmconsole_proto::v1;
        for reason in Reason::ALL {
            let name = format!("REASON_{}", reason.name());
            assert!(
                v1::Reason::from_str_name(&name).is_some(),
                "{name} is not in reason.proto"
            );
        }
        let numbers = 1..;
        let named = numbers
            .map_while(|number| v1::Reason::try_from(number).ok())
            .count();
        assert_eq!(named, Reason::ALL.len());
    }

    #[test]
    fn who_holds_a_console_can_be_read_by_a_program() {
        let holder = Holder {
            process: 4711,
            command: "virsh".to_owned(),
            user: 0,
        };
        let state = ConsoleState {
            availability: Availability::HeldByOther,
            checked: None,
            since: SystemTime::UNIX_EPOCH,
            vm_state: VmState::Running,
            detail: "it is in use".to_owned(),
            next_try: None,
            holder: Some(holder),
            silent_since: None,
            wedged_since: None,
            generation: None,
            booted: None,
        };
        let error = OpenError::Join(JoinError::Unavailable(Box::new(state)));
        let status = open_refused(&error);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.reason, "HELD_BY_OTHER");
        let named = "virsh (process 4711 of user 0)";
        assert_eq!(info.metadata["holder"], named);
        assert!(status.message().contains(named), "{}", status.message());
    }
}
