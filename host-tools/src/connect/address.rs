//! The agent's address as people write it: `HOST`, `HOST:PORT`, `[IPv6]:PORT`.
//!
//! Refuses to resolve anything, and to guess what an unbracketed IPv6 address meant.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The port that the agent listens on unless told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 2223;

/// The longest DNS name, in bytes (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// Where an agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentAddress {
    host: String,
    port: u16,
}

/// What is wrong with an address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidAddress {
    /// The port is not one.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// An IPv6 address without brackets.
    #[error("write an IPv6 address in brackets: [{0}]:{DEFAULT_PORT}")]
    Brackets(Ipv6Addr),
    /// Neither a name nor an address.
    #[error(
        "write HOST:PORT, where HOST is a DNS name, an IPv4 address, or an IPv6 address in brackets"
    )]
    Host,
}

impl AgentAddress {
    /// The name or address alone, without brackets: what the agent's certificate must bear.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The address as a URI.
    pub(crate) fn uri(&self) -> String {
        format!("https://{self}")
    }
}

impl fmt::Display for AgentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for AgentAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Err(InvalidAddress::Brackets(address));
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or(InvalidAddress::Host)?;
                let host: Ipv6Addr = host.parse().map_err(|_| InvalidAddress::Host)?;
                (host.to_string(), port_of(after)?)
            }
            None => {
                let split = text.find(':').unwrap_or(text.len());
                let (host, after) = text.split_at(split);
                (plain_host(host)?, port_of(after)?)
            }
        };
        Ok(Self { host, port })
    }
}

/// The port in `:PORT`, or the default where there is none.
fn port_of(after: &str) -> Result<u16, InvalidAddress> {
    if after.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    let digits = after.strip_prefix(':').ok_or(InvalidAddress::Host)?;
    match digits.parse() {
        Ok(port) if port != 0 && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(InvalidAddress::Port),
    }
}

/// A DNS name or an IPv4 address.
fn plain_host(host: &str) -> Result<String, InvalidAddress> {
    let named = is_dns_name(host) || host.parse::<IpAddr>().is_ok();
    if named {
        Ok(host.to_owned())
    } else {
        Err(InvalidAddress::Host)
    }
}

/// Whether the text can be a DNS name: labels of 1 to 63 letters, digits, hyphens and
/// underscores, 253 bytes at most.
pub(crate) fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= MAX_NAME_BYTES && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        for (text, shown, host) in [
            ("localhost:2223", "localhost:2223", "localhost"),
            (
                "host-1.example.org",
                "host-1.example.org:2223",
                "host-1.example.org",
            ),
            ("192.0.2.7:99", "192.0.2.7:99", "192.0.2.7"),
            ("[::1]:2223", "[::1]:2223", "::1"),
            ("[2001:db8::1]", "[2001:db8::1]:2223", "2001:db8::1"),
        ] {
            let address: AgentAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.host(), host);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_write() {
        for text in ["", ":2223", "a b:1", "[::1", "[::1]2223", "[x]:1", "a..b"] {
            assert_eq!(
                text.parse::<AgentAddress>(),
                Err(InvalidAddress::Host),
                "{text}"
            );
        }
        for text in ["x:", "x:0", "x:65536", "x:+1", "https://x:1", "x:1:2"] {
            assert_eq!(
                text.parse::<AgentAddress>(),
                Err(InvalidAddress::Port),
                "{text}"
            );
        }
        let bare = "::1".parse::<AgentAddress>().unwrap_err();
        assert!(bare.to_string().ends_with("[::1]:2223"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back_the_same(text in "\\PC{0,40}") {
            if let Ok(address) = text.parse::<AgentAddress>() {
                prop_assert_eq!(address.to_string().parse::<AgentAddress>(), Ok(address));
            }
        }
    }
}
