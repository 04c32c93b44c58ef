//! TCP sockets, as `include/uapi/linux/inet_diag.h` has them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Ask, CLOSE_WAIT, ESTABLISHED, LISTEN, ask, only, u32_at};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;

/// Where the addresses begin in an answer.
const ADDRESSES: usize = 4;

/// A TCP socket of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct TcpSocket {
    /// `ESTABLISHED` or `LISTEN`.
    pub(in super::super) state: u8,
    /// Its own address.
    pub(in super::super) local: SocketAddr,
    /// The other end's.
    pub(in super::super) remote: SocketAddr,
    /// Its inode, by which processes' descriptors name it; `None` if nobody has it (yet, or any
    /// longer).
    pub(in super::super) inode: Option<u32>,
    /// Whose it is. Of one that nobody has this means nothing.
    pub(in super::super) user: u32,
    /// Bytes that came and were not read.
    pub(in super::super) unread: usize,
}

impl TcpSocket {
    fn parse(body: &[u8]) -> Option<Self> {
        let v6 = *body.first()? == AF_INET6;
        let address = |port: usize, ip: usize| {
            let port = u16::from_be_bytes(*body.get(ADDRESSES + port..)?.first_chunk()?);
            let ip = body.get(ADDRESSES + ip..)?;
            let ip = if v6 {
                IpAddr::from(Ipv6Addr::from(*ip.first_chunk::<16>()?)).to_canonical()
            } else {
                IpAddr::from(Ipv4Addr::from(*ip.first_chunk::<4>()?))
            };
            Some(SocketAddr::new(ip, port))
        };
        Some(Self {
            state: *body.get(1)?,
            local: address(0, 4)?,
            remote: address(2, 20)?,
            unread: usize::try_from(u32_at(body, 56)?).ok()?,
            user: u32_at(body, 64)?,
            inode: Some(u32_at(body, 68)?).filter(|inode| *inode != 0),
        })
    }
}

fn request(family: u8, states: u32, local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let mut request = vec![family, TCP, 0, 0];
    request.extend(states.to_ne_bytes());
    request.extend(local.port().to_be_bytes());
    request.extend(remote.port().to_be_bytes());
    for address in [local, remote] {
        let mut bytes = [0; 16];
        match address.ip() {
            IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes = ip.octets(),
        }
        request.extend(bytes);
    }
    // No interface; and a cookie: any.
    for word in [0, u32::MAX, u32::MAX] {
        request.extend(word.to_ne_bytes());
    }
    request
}

fn family(address: SocketAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// This host's end of the connection from `local` to `remote`, `local` being the end that is
/// asked for.
///
/// # Errors
/// The system's: [`io::ErrorKind::NotFound`] if there is none.
pub(in super::super) fn tcp_between(
    local: SocketAddr,
    remote: SocketAddr,
) -> io::Result<TcpSocket> {
    let mut found = None;
    let request = request(family(local), u32::MAX, local, remote);
    ask(Ask::One, &request, |body| found = TcpSocket::parse(body))?;
    // Where there is no such connection the kernel offers who listens.
    found
        .filter(|socket| socket.state == ESTABLISHED)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Who listens on `address`, or on every address with that port.
///
/// # Errors
/// The system's.
pub(in super::super) fn tcp_listening_on(address: SocketAddr) -> io::Result<Vec<TcpSocket>> {
    let all = with_port(only(LISTEN), address)?;
    let (exact, every): (Vec<_>, Vec<_>) = all
        .into_iter()
        .filter(|it| it.local.ip() == address.ip() || it.local.ip().is_unspecified())
        .partition(|it| it.local.ip() == address.ip());
    // The kernel prefers the first.
    Ok(if exact.is_empty() { every } else { exact })
}

/// Connections that were accepted from whoever listens at `address`, by whichever of its addresses
/// they came in.
///
/// # Errors
/// The system's.
pub(in super::super) fn tcp_accepted_at(address: SocketAddr) -> io::Result<Vec<TcpSocket>> {
    let mut found = connections_of(only(ESTABLISHED), address)?;
    found.retain(|it| it.inode.is_some());
    Ok(found)
}

/// Whether a connection, be it given up already, waits to be accepted by whoever listens at
/// `address`.
///
/// # Errors
/// The system's.
pub(in super::super) fn tcp_waiting_at(address: SocketAddr) -> io::Result<bool> {
    let found = connections_of(only(ESTABLISHED) | only(CLOSE_WAIT), address)?;
    Ok(found.iter().any(|it| it.inode.is_none()))
}

/// The listener's ends of connections in these states to whoever listens at `address`.
fn connections_of(states: u32, address: SocketAddr) -> io::Result<Vec<TcpSocket>> {
    let mut found = with_port(states | only(LISTEN), address)?;
    let listening: Vec<_> = found
        .extract_if(.., |it| it.state == LISTEN)
        .map(|it| it.local.ip())
        .collect();
    let listener = serving(&listening, address.ip());
    found.retain(|it| serving(&listening, it.local.ip()) == listener);
    Ok(found)
}

/// By which of the addresses that one port is listened on a connection to `ip` is served.
fn serving(listening: &[IpAddr], ip: IpAddr) -> Option<IpAddr> {
    let every = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // The last serves IPv4 as well, where its socket is not for IPv6 alone.
    let preferred = [ip, every, Ipv6Addr::UNSPECIFIED.into()];
    preferred.into_iter().find(|it| listening.contains(it))
}

/// Sockets in these states with this local port, of both families: one of IPv6 may serve IPv4.
fn with_port(states: u32, address: SocketAddr) -> io::Result<Vec<TcpSocket>> {
    let mut found = Vec::new();
    let nowhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    let here = SocketAddr::new(nowhere.ip(), address.port());
    for family in [AF_INET, AF_INET6] {
        ask(Ask::All, &request(family, states, here, nowhere), |body| {
            found.extend(TcpSocket::parse(body).filter(|it| it.local.port() == address.port()));
        })?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_the_most_particular_listeners() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let served = |listening: &[&str], to: &str| {
            let listening: Vec<_> = listening.iter().map(|text| ip(text)).collect();
            serving(&listening, ip(to)).map(|by| by.to_string())
        };
        let all = ["127.0.0.2", "0.0.0.0", "::1", "::"];
        for (to, by) in [
            ("127.0.0.2", "127.0.0.2"),
            ("192.0.2.1", "0.0.0.0"),
            ("::1", "::1"),
            ("2001:db8::1", "::"),
        ] {
            assert_eq!(served(&all, to).as_deref(), Some(by));
        }
        assert_eq!(served(&["::"], "192.0.2.1").as_deref(), Some("::"));
        assert_eq!(served(&["0.0.0.0"], "::1"), None);
        assert_eq!(served(&["127.0.0.1"], "127.0.0.2"), None);
    }
}
