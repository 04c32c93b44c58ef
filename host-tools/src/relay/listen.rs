//! Where local connections come from: a TCP port or a unix socket.
//!
//! Refuses to ask who connects: to a TCP port everybody may who can reach it, to a unix socket
//! its owner.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use tokio::net::{TcpListener, UnixListener};

use super::local::Local;
use super::socket_file::{self, SocketError, SocketFile};
use crate::connect::is_dns_name;

/// What a unix socket's address begins with.
const UNIX: &str = "unix:";

/// Where to listen, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenAddress {
    /// A name or address, and a port; 0 for a free one.
    Tcp(String, u16),
    /// A path.
    Unix(PathBuf),
}

/// What is wrong with an address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("write HOST:PORT, with an IPv6 address in brackets, or unix:PATH")]
pub(crate) struct InvalidListenAddress;

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, InvalidListenAddress> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return match path {
                "" => Err(InvalidListenAddress),
                path => Ok(Self::Unix(path.into())),
            };
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Tcp(address.ip().to_string(), address.port()));
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidListenAddress)?;
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if digits && is_dns_name(host) => Ok(Self::Tcp(host.to_owned(), port)),
            _ => Err(InvalidListenAddress),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// Why nobody listens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// A port.
    #[error(
        "cannot listen on {address}: choose another with --listen HOST:PORT, or port 0 for a free one"
    )]
    Tcp {
        /// Where.
        address: ListenAddress,
        /// Why.
        source: io::Error,
    },
    /// A unix socket.
    #[error(transparent)]
    Unix(#[from] SocketError),
}

/// Where it is listened.
#[derive(Debug)]
pub(super) enum Listener {
    /// A port.
    Tcp(TcpListener, SocketAddr),
    /// A unix socket.
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Listens.
    ///
    /// # Errors
    /// [`ListenError`].
    ///
    /// # Cancel safety
    /// A stale unix socket may have been removed if dropped.
    pub(super) async fn bind(address: &ListenAddress) -> Result<Self, ListenError> {
        match address {
            ListenAddress::Tcp(host, port) => {
                let bound = async {
                    let listener = TcpListener::bind((host.as_str(), *port)).await?;
                    let address = listener.local_addr()?;
                    Ok(Self::Tcp(listener, address))
                };
                bound.await.map_err(|source| ListenError::Tcp {
                    address: address.clone(),
                    source,
                })
            }
            ListenAddress::Unix(path) => {
                let (listener, file) = socket_file::listen(path)?;
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// The next connection, and where it is from.
    ///
    /// # Errors
    /// As there is none: the client left, or files or memory are short.
    ///
    /// # Cancel safety
    /// No connection is lost.
    pub(super) async fn accept(&self) -> io::Result<(Local, String)> {
        match self {
            Self::Tcp(listener, _) => {
                let (stream, from) = listener.accept().await?;
                // Only a connection that is gone already takes no options.
                let local = Local::tcp(stream).map_err(|_| io::ErrorKind::ConnectionAborted)?;
                Ok((local, from.to_string()))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let from = stream.peer_cred();
                let from = from.map(|peer| format!("user {}", peer.uid()));
                Ok((Local::Unix(stream), from.unwrap_or_default()))
            }
        }
    }

    /// The port's address, if it is one.
    pub(super) const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(_, address) => Some(*address),
            Self::Unix(..) => None,
        }
    }

    /// Whether only this host reaches it.
    pub(super) fn is_local(&self) -> bool {
        self.tcp().is_none_or(|address| match address.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.to_canonical().is_loopback(),
        })
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(_, address) => write!(f, "{address}"),
            Self::Unix(_, file) => write!(f, "{UNIX}{}", file.path().display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        for (text, shown) in [
            ("127.0.0.1:5901", "127.0.0.1:5901"),
            ("localhost:0", "localhost:0"),
            ("[::1]:5901", "[::1]:5901"),
            ("0.0.0.0:5901", "0.0.0.0:5901"),
            ("unix:/run/x/vnc", "unix:/run/x/vnc"),
            ("unix:vnc", "unix:vnc"),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
        }
        for text in [
            "", "5901", ":5901", "::1:5901", "x:", "x:+1", "x:65536", "unix:", "a b:1",
        ] {
            assert_eq!(
                text.parse::<ListenAddress>(),
                Err(InvalidListenAddress),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_free_port_is_found_and_told() {
        let any = ListenAddress::Tcp("127.0.0.1".into(), 0);
        let listener = Listener::bind(&any).await.unwrap();
        let address = listener.tcp().unwrap();
        assert!(address.port() != 0 && listener.is_local());
        assert_eq!(listener.to_string(), address.to_string());
        let busy = ListenAddress::Tcp("127.0.0.1".into(), address.port());
        let error = Listener::bind(&busy).await.unwrap_err();
        assert!(error.to_string().contains("choose another"), "{error}");
    }
}
