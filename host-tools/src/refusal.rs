//! A gRPC status from the agent, read for a person and for an exit code.
//!
//! The reason is `google.rpc.ErrorInfo.reason` in the domain `vmconsole`; a status without
//! one came from the transport, or from something between us and the agent. Refuses to
//! guess a reason from a message.

use std::error::Error;
use std::fmt;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use vmconsole_proto::v1::Reason;

use crate::exit::Exit;
use crate::output::{chain, printable};

/// The domain of the agent's reasons.
const DOMAIN: &str = "vmconsole";

/// How many of a reason's details are shown.
const MAX_DETAILS: usize = 16;

/// Why a call was not answered as hoped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: Code,
    /// The reason's name, where the agent gave one.
    reason: Option<String>,
    message: String,
    /// The reason's details, by key: who holds the lease, which VM, and so on.
    details: Vec<(String, String)>,
    /// Whether it never was an answer: the transport failed.
    transport: bool,
}

impl Refusal {
    /// Reads a status.
    pub(crate) fn new(status: &Status) -> Self {
        let info = status
            .get_details_error_info()
            .filter(|info| info.domain == DOMAIN);
        let (reason, mut details) = match info {
            Some(info) => (
                Some(info.reason),
                info.metadata.into_iter().collect::<Vec<_>>(),
            ),
            None => (None, Vec::new()),
        };
        details.sort();
        details.truncate(MAX_DETAILS);
        let cause = status.source().map(chain);
        let transport = reason.is_none() && cause.is_some();
        let message = match cause {
            Some(cause) if !cause.is_empty() => cause,
            _ => printable(status.message()),
        };
        Self {
            code: status.code(),
            reason,
            message,
            details,
            transport,
        }
    }

    /// The reason, where the agent gave one that this program knows.
    pub(crate) fn reason(&self) -> Option<Reason> {
        let name = self.reason.as_ref()?;
        Reason::from_str_name(&format!("REASON_{name}"))
    }

    /// What may be behind it, where the refusal came before anything was open. In TLS 1.3 a
    /// client is through before the server has looked at its certificate, and what comes
    /// back may be lost with the connection.
    pub(crate) fn hint_before_open(&self) -> Option<&'static str> {
        const HINT: &str = "the agent may not accept this proxy's certificate; its log says why";
        self.transport.then_some(HINT)
    }

    /// Whether nobody answered, or somebody who says that it may pass.
    pub(crate) fn may_pass(&self) -> bool {
        let passing = matches!(self.code, Code::Unavailable | Code::DeadlineExceeded);
        self.transport || (self.reason.is_none() && passing)
    }

    /// The exit, where the refusal came before anything was open.
    pub(crate) fn exit_before_open(&self) -> Exit {
        if self.transport {
            Exit::Unreachable
        } else {
            self.exit_after_open()
        }
    }

    /// The exit, where a stream was open already.
    pub(crate) fn exit_after_open(&self) -> Exit {
        match self.reason() {
            Some(reason) => Exit::for_reason(reason),
            None if self.transport => Exit::Broken,
            None => Exit::for_code(self.code),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{}: {}", printable(reason), self.message)?,
            None if self.transport => write!(f, "connection failed: {}", self.message)?,
            None => write!(f, "{:?}: {}", self.code, self.message)?,
        }
        let mut before = " (";
        for (key, value) in &self.details {
            write!(f, "{before}{}: {}", printable(key), printable(value))?;
            before = ", ";
        }
        if !self.details.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl Error for Refusal {}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn status(domain: &str) -> Status {
        let metadata = HashMap::from([
            ("holder_subject".to_owned(), "alice\u{1b}".to_owned()),
            ("holder_proxy".to_owned(), "spiffe://x/web".to_owned()),
        ]);
        let details = ErrorDetails::with_error_info("LEASE_HELD", domain, metadata);
        Status::with_error_details(Code::FailedPrecondition, "another session writes", details)
    }

    #[test]
    fn reason_message_and_details_are_shown() {
        let refusal = Refusal::new(&status("vmconsole"));
        assert_eq!(refusal.reason(), Some(Reason::LeaseHeld));
        assert_eq!(refusal.exit_before_open(), Exit::LeaseHeld);
        assert_eq!(
            refusal.to_string(),
            "LEASE_HELD: another session writes \
             (holder_proxy: spiffe://x/web, holder_subject: alice\\u{1b})"
        );
    }

    #[test]
    fn another_domains_reason_is_not_taken_for_ours() {
        let refusal = Refusal::new(&status("example.org"));
        assert_eq!(refusal.reason(), None);
        assert_eq!(refusal.exit_before_open(), Exit::NotPossible);
    }

    #[test]
    fn a_failed_transport_is_no_answer() {
        let broken = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset by peer");
        let refusal = Refusal::new(&Status::from_error(Box::new(broken)));
        assert_eq!(refusal.exit_before_open(), Exit::Unreachable);
        assert_eq!(refusal.exit_after_open(), Exit::Broken);
    }

    #[test]
    fn a_reason_from_the_future_falls_back_to_the_code() {
        let details = ErrorDetails::with_error_info("NEW_REASON", "vmconsole", HashMap::new());
        let status = Status::with_error_details(Code::NotFound, "gone", details);
        assert_eq!(Refusal::new(&status).exit_before_open(), Exit::NotFound);
    }
}
