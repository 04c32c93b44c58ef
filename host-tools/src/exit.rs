//! Exit codes, all of them in one place: scripts build on them, so a number never changes
//! its meaning.
//!
//! Refuses to know what was attempted: callers choose by reason, not by message text.

use tonic::Code;
use vmconsole_proto::v1::Reason;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; left; the guest or the caller ended it.
    Done,
    /// Anything that no other code stands for.
    Failed,
    /// The command line is wrong. Also what clap exits with.
    Usage,
    /// No connection: address, TLS, or the files with certificates and key.
    Unreachable,
    /// Not allowed, or no longer.
    Forbidden,
    /// No such VM or console.
    NotFound,
    /// Not possible as things stand: the VM is off, the console is of an unserved type or
    /// held by a process outside.
    NotPossible,
    /// Another caller holds the writer's lease, or took it.
    LeaseHeld,
    /// The stream broke after it was open, or the agent is stopping: trying again may help.
    Broken,
    /// A limit of the agent, its policy or an operator ended it.
    Limited,
    /// The guest did not take all of standard input.
    Undelivered,
    /// doctor found a warning or a problem.
    Findings,
    /// A signal, by number.
    Signal(u8),
}

/// What a signal's number is added to, as shells do.
const SIGNAL_BASE: u8 = 128;

/// Every code with its meaning, in order, as help and manual show it.
pub(crate) const TABLE: &[(&str, &str)] = &[
    (
        "0",
        "done: you left, standard input was dealt with, or the guest ended the stream",
    ),
    ("1", "any other error, a fault in the agent among them"),
    ("2", "wrong use of the command line"),
    (
        "3",
        "no connection: address, TLS, or certificate and key files",
    ),
    ("4", "permission denied, or it ended while attached"),
    ("5", "no such VM or console"),
    (
        "6",
        "not possible now: VM off, console unsupported, disabled or held from outside",
    ),
    (
        "7",
        "another caller holds the writer's lease, or took it over",
    ),
    ("8", "the stream broke, or the agent is stopping: try again"),
    (
        "9",
        "a limit, an idle or time limit, or an operator ended it",
    ),
    ("10", "the guest did not take all of standard input"),
    ("11", "doctor found a warning or a problem"),
    (
        "128+N",
        "ended by signal N (129 SIGHUP, 130 SIGINT, 131 SIGQUIT, 143 SIGTERM)",
    ),
];

impl Exit {
    /// The number that the process exits with.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Forbidden => 4,
            Self::NotFound => 5,
            Self::NotPossible => 6,
            Self::LeaseHeld => 7,
            Self::Broken => 8,
            Self::Limited => 9,
            Self::Undelivered => 10,
            Self::Findings => 11,
            Self::Signal(number) => SIGNAL_BASE.saturating_add(number),
        }
    }

    /// The exit for a reason that the agent gave, in a status or in `Closed`.
    pub(crate) const fn for_reason(reason: Reason) -> Self {
        match reason {
            Reason::VmStopped | Reason::ClientDetached => Self::Done,
            Reason::Expired
            | Reason::Revoked
            | Reason::Denied
            | Reason::Unauthenticated
            | Reason::RuleViolated => Self::Forbidden,
            Reason::VmGone | Reason::NotFound => Self::NotFound,
            Reason::VmDisabled
            | Reason::HeldByOther
            | Reason::NotRunning
            | Reason::Unsupported
            | Reason::ResumeRefused => Self::NotPossible,
            Reason::TakenOver | Reason::LeaseHeld => Self::LeaseHeld,
            Reason::Moved
            | Reason::EndpointLost
            | Reason::AgentDraining
            | Reason::TransportLost => Self::Broken,
            Reason::Superseded
            | Reason::Terminated
            | Reason::IdleTimeout
            | Reason::MaxDuration
            | Reason::LimitReached => Self::Limited,
            Reason::Unspecified | Reason::Gap | Reason::BadRequest | Reason::Internal => {
                Self::Failed
            }
        }
    }

    /// The exit for a status that carries no reason, as something between us and the agent
    /// may answer.
    pub(crate) const fn for_code(code: Code) -> Self {
        match code {
            Code::Ok => Self::Done,
            Code::Unauthenticated | Code::PermissionDenied => Self::Forbidden,
            Code::NotFound => Self::NotFound,
            Code::FailedPrecondition | Code::Unimplemented => Self::NotPossible,
            Code::Unavailable | Code::DeadlineExceeded => Self::Broken,
            Code::ResourceExhausted => Self::Limited,
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lists_every_code_once_and_in_order() {
        let all = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Unreachable,
            Exit::Forbidden,
            Exit::NotFound,
            Exit::NotPossible,
            Exit::LeaseHeld,
            Exit::Broken,
            Exit::Limited,
            Exit::Undelivered,
            Exit::Findings,
        ];
        let listed: Vec<_> = TABLE.iter().map(|(code, _)| (*code).to_owned()).collect();
        let mut wanted: Vec<_> = all.iter().map(|exit| exit.code().to_string()).collect();
        wanted.push("128+N".to_owned());
        assert_eq!(listed, wanted);
    }

    #[test]
    fn signals_are_told_as_shells_tell_them() {
        assert_eq!(Exit::Signal(15).code(), 143);
        assert_eq!(Exit::Signal(1).code(), 129);
        assert_eq!(Exit::Signal(255).code(), 255);
    }

    #[test]
    fn only_ends_that_were_wanted_are_success() {
        let success: Vec<_> = (0..=28)
            .filter_map(|number| Reason::try_from(number).ok())
            .filter(|reason| Exit::for_reason(*reason) == Exit::Done)
            .collect();
        assert_eq!(success, [Reason::VmStopped, Reason::ClientDetached]);
    }
}
