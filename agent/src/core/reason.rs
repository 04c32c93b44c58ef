//! Why something was refused, ended or lost.

use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident => $name:literal, $retryable:literal;)+) => {
        /// Why something was refused, ended or lost: one closed set for status, log,
        /// metric and audit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The reason's name on the wire, in logs and in metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Whether opening again may help without anything else being changed.
            pub const fn retryable(self) -> bool {
                match self { $(Self::$variant => $retryable,)+ }
            }
        }
    };
}

reasons! {
    /// Another caller took the writer's lease over.
    TakenOver => "TAKEN_OVER", false;
    /// The same session was resumed on another stream.
    Superseded => "SUPERSEDED", false;
    /// The permission ended with its time.
    Expired => "EXPIRED", false;
    /// The permission was revoked.
    Revoked => "REVOKED", false;
    /// An operator ended the session.
    Terminated => "TERMINATED", false;
    /// Nothing was typed for too long.
    IdleTimeout => "IDLE_TIMEOUT", false;
    /// The session lasted as long as it may.
    MaxDuration => "MAX_DURATION", false;
    /// The VM stopped and the caller had asked to end with it.
    VmStopped => "VM_STOPPED", false;
    /// The VM is no longer known to this host.
    VmGone => "VM_GONE", false;
    /// The VM's consoles are switched off.
    VmDisabled => "VM_DISABLED", false;
    /// The VM moved to another host.
    Moved => "MOVED", true;
    /// The way to the console broke.
    EndpointLost => "ENDPOINT_LOST", true;
    /// Another process holds the console.
    HeldByOther => "HELD_BY_OTHER", true;
    /// Another caller holds the writer's lease.
    LeaseHeld => "LEASE_HELD", true;
    /// The VM is not running.
    NotRunning => "NOT_RUNNING", true;
    /// This agent does not serve what was asked for.
    Unsupported => "UNSUPPORTED", false;
    /// Output was lost and the caller had asked to close on that.
    Gap => "GAP", true;
    /// The resume token is spent, unknown or somebody else's.
    ResumeRefused => "RESUME_REFUSED", false;
    /// The caller sent what its session's rules forbid.
    RuleViolated => "RULE_VIOLATED", false;
    /// The caller may not do this.
    Denied => "DENIED", false;
    /// The caller did not prove who it is.
    Unauthenticated => "UNAUTHENTICATED", false;
    /// No such VM or console, or none that the caller may know of.
    NotFound => "NOT_FOUND", false;
    /// A configured limit is reached.
    LimitReached => "LIMIT_REACHED", true;
    /// The agent is stopping; its successor serves on.
    AgentDraining => "AGENT_DRAINING", true;
    /// The caller left.
    ClientDetached => "CLIENT_DETACHED", false;
    /// The connection to the caller broke or fell silent.
    TransportLost => "TRANSPORT_LOST", true;
    /// The caller's message was malformed or came out of turn.
    BadRequest => "BAD_REQUEST", false;
    /// A fault in the agent.
    Internal => "INTERNAL", false;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
