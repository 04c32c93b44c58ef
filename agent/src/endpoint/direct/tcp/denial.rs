//! Why a TCP port is not connected to, in words that can be told apart again: a console's state
//! keeps nothing but the sentence. It decides nothing.

use std::net::SocketAddr;

use crate::endpoint::EndpointError;

/// How each sentence ends. What comes before has names in it that others chose.
const OFF: &str = "; \"loopback\" would allow this host's own";
const NOT_LOOPBACK: &str = "; endpoints.tcp = \"any\" would allow it";
const LISTENER: &str = "; add that user to endpoints.owners, if it runs this VM";
const UNSEEN: &str = " (sock_diag, which the agent's sandbox must allow: AF_NETLINK)";

/// Why a TCP port is not connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpDenial {
    /// The configuration keeps the agent from the address.
    Address,
    /// Whoever listens there is not trusted.
    Listener,
    /// The kernel does not tell who listens there.
    Unseen,
}

impl TcpDenial {
    /// No TCP is allowed at all.
    pub(crate) fn off(host: &str, port: u16) -> EndpointError {
        let why = format!("tcp {host} port {port}: endpoints.tcp is \"off\"{OFF}");
        EndpointError::Denied(why)
    }

    /// Only this host's loopback is.
    pub(crate) fn not_loopback(host: &str, port: u16) -> EndpointError {
        let what = "not an address of this host's loopback";
        EndpointError::Denied(format!("tcp {host} port {port}: {what}{NOT_LOOPBACK}"))
    }

    /// This user listens there.
    pub(crate) fn listener(place: SocketAddr, user: u32) -> EndpointError {
        let why = format!("tcp {place}: user {user} listens there{LISTENER}");
        EndpointError::Denied(why)
    }

    /// Who listens there is not told.
    pub(crate) fn unseen(place: SocketAddr) -> EndpointError {
        let what = "the kernel does not tell who listens there";
        EndpointError::Denied(format!("tcp {place}: {what}{UNSEEN}"))
    }

    /// Which of them a sentence tells of; `None` for one that is none of these.
    pub(crate) fn told_by(sentence: &str) -> Option<Self> {
        let known = [
            (OFF, Self::Address),
            (NOT_LOOPBACK, Self::Address),
            (LISTENER, Self::Listener),
            (UNSEEN, Self::Unseen),
        ];
        let ends = |(end, _): &(&str, Self)| sentence.ends_with(end);
        known.into_iter().find(ends).map(|(_, denial)| denial)
    }
}
