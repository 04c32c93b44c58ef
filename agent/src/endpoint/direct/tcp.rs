//! Connects to TCP ports on which QEMU listens, as far as the operator allows. On this host's
//! loopback it looks first at whose port it is; of another host's it can know nothing.

pub(crate) mod denial;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use self::denial::TcpDenial;
use super::diag::{tcp_accepted_at, tcp_between, tcp_listening_on, tcp_waiting_at};
use super::far::TcpEnds;
use super::taken::{Clients, Taken, closed_it, taken};
use super::{DirectRules, TcpRule};
use crate::endpoint::{EndpointError, TcpAddress};

/// How long a name's resolution, and each connection, may take.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How many of a name's addresses are tried.
const MAX_ADDRESSES: usize = 4;

/// How a host that vanished without a word is found while nothing is typed: after this silence,
/// by so many questions at this distance. While input is on its way the kernel asks nothing, and
/// gives up after some 15 minutes (`tcp_retries2` of tcp(7)). `TCP_USER_TIMEOUT` would shorten
/// that, but would end the console of a guest that lives and reads no input, too.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// Connects to `address`, on which `clients` are served, and tells both ends if both are on this host.
///
/// # Errors
/// [`EndpointError`].
///
/// # Cancel safety
/// If dropped, nothing stays connected.
pub(super) async fn open(
    rules: &DirectRules,
    address: &TcpAddress,
    clients: Clients,
) -> Result<(OwnedFd, Option<TcpEnds>), EndpointError> {
    let mut last = None;
    for place in resolve(rules.tcp, address).await? {
        match open_one(rules, place, clients).await {
            // Another of the name's addresses may be the one.
            Err(error @ (EndpointError::NotReady(_) | EndpointError::Unreachable(_))) => {
                last = Some(error);
            }
            done => return done,
        }
    }
    let none = || EndpointError::NotReady(format!("{}: has no address", address.host));
    Err(last.unwrap_or_else(none))
}

/// The inode of the socket by which somebody else on this host is connected to `address`.
pub(super) async fn other_connection(rules: &DirectRules, address: &TcpAddress) -> Option<u32> {
    let places = resolve(rules.tcp, address).await.ok()?;
    let mut local = places.into_iter().filter(|place| place.ip().is_loopback());
    local.find_map(|place| {
        let TcpEnds { theirs, ours } = client_of(place)?;
        // Of a client on another host there is no such end here.
        tcp_between(ours, theirs).ok()?.inode
    })
}

async fn open_one(
    rules: &DirectRules,
    place: SocketAddr,
    clients: Clients,
) -> Result<(OwnedFd, Option<TcpEnds>), EndpointError> {
    let local = place.ip().is_loopback();
    if local {
        before(rules, place, clients)?;
    }
    let stream = connect(place).await?;
    if !local {
        return Ok((owned(stream, place)?, None));
    }
    let ours = stream.local_addr().map_err(|error| failed(place, &error))?;
    let theirs = || Ok(tcp_between(place, ours)?.inode);
    let held = || match clients {
        Clients::One => client_of(place).map(described),
        Clients::Many => None,
    };
    let name = format!("tcp {place}");
    if taken(&stream, &name, theirs, held).await? == Taken::Unknown {
        return Err(TcpDenial::unseen(place));
    }
    // Whoever accepted need not be who was asked about before.
    let user = match tcp_between(place, ours) {
        Ok(end) => end.user,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(closed_it(&name)),
        Err(_) => return Err(TcpDenial::unseen(place)),
    };
    if !rules.admits(user) {
        return Err(TcpDenial::listener(place, user));
    }
    let ends = TcpEnds {
        theirs: place,
        ours,
    };
    Ok((owned(stream, place)?, Some(ends)))
}

/// The addresses that `address` means and `rule` allows.
async fn resolve(rule: TcpRule, address: &TcpAddress) -> Result<Vec<SocketAddr>, EndpointError> {
    let (host, port) = (plain_host(&address.host), address.port);
    let at = |ips: &[IpAddr]| ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
    if rule == TcpRule::Off {
        return Err(TcpDenial::off(host, port));
    }
    let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    if host.is_empty() || host == "*" || host.eq_ignore_ascii_case("localhost") {
        return Ok(at(&[v4, v6]));
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return match ip.to_canonical() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ok(at(&[v4])),
            IpAddr::V6(ip) if ip.is_unspecified() => Ok(at(&[v6, v4])),
            ip if ip.is_loopback() || rule == TcpRule::Any => Ok(at(&[ip])),
            _ => Err(TcpDenial::not_loopback(host, port)),
        };
    }
    if rule != TcpRule::Any {
        return Err(TcpDenial::not_loopback(host, port));
    }
    let unresolved = |why: &str| {
        let detail = format!("tcp {host} port {port}: the name cannot be resolved: {why}");
        EndpointError::Unreachable(detail)
    };
    match timeout(RESOLVE_WITHIN, lookup_host((host, port))).await {
        Ok(Ok(found)) => Ok(found.take(MAX_ADDRESSES).collect()),
        Ok(Err(error)) => Err(unresolved(&error.to_string())),
        Err(_) => Err(unresolved("no answer in time")),
    }
}

/// A host as QEMU and libvirt write it, without the brackets around an IPv6 address.
fn plain_host(host: &str) -> &str {
    let inside = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    inside.unwrap_or(host)
}

/// Refuses what need not be connected to in order to know that it is refused.
fn before(rules: &DirectRules, place: SocketAddr, clients: Clients) -> Result<(), EndpointError> {
    let listeners = tcp_listening_on(place).map_err(|_| TcpDenial::unseen(place))?;
    if listeners.is_empty() {
        let detail = format!("tcp {place}: nobody listens there");
        return Err(EndpointError::NotReady(detail));
    }
    let foreign = listeners.iter().find(|it| !rules.admits(it.user));
    if let Some(listener) = foreign {
        return Err(TcpDenial::listener(place, listener.user));
    }
    if clients == Clients::One
        && let Some(client) = client_of(place)
    {
        let detail = format!("tcp {place}: {}", described(client));
        return Err(EndpointError::HeldByOther(detail));
    }
    // One that was given up stays in QEMU's queue, which has one place or two, until QEMU takes
    // it. One more would wait behind it, or fill the queue for everybody.
    if tcp_waiting_at(place).map_err(|_| TcpDenial::unseen(place))? {
        return Err(EndpointError::NotReady(format!(
            "tcp {place}: a connection waits there already, and QEMU does not take it; is it \
             stopped?"
        )));
    }
    Ok(())
}

/// A connection that was accepted from whoever listens at `place`: `ours` is the client's end.
fn client_of(place: SocketAddr) -> Option<TcpEnds> {
    let accepted = tcp_accepted_at(place).ok()?;
    accepted.first().map(|end| TcpEnds {
        theirs: end.local,
        ours: end.remote,
    })
}

fn described(client: TcpEnds) -> String {
    let client = client.ours;
    format!("{client} is connected, and QEMU serves one client")
}

async fn connect(place: SocketAddr) -> Result<TcpStream, EndpointError> {
    let socket = match place {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(|error| failed(place, &error))?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    SockRef::from(&socket)
        .set_tcp_keepalive(&keepalive)
        .and_then(|()| socket.set_nodelay(true))
        .map_err(|error| failed(place, &error))?;
    match timeout(CONNECT_WITHIN, socket.connect(place)).await {
        Ok(connected) => connected.map_err(|error| failed(place, &error)),
        Err(_) => {
            let detail = format!("tcp {place}: no answer in time; is the port filtered?");
            Err(EndpointError::Unreachable(detail))
        }
    }
}

fn owned(stream: TcpStream, place: SocketAddr) -> Result<OwnedFd, EndpointError> {
    let stream = stream.into_std().map_err(|error| failed(place, &error))?;
    Ok(stream.into())
}

fn failed(place: SocketAddr, error: &io::Error) -> EndpointError {
    if error.kind() == ErrorKind::ConnectionRefused {
        return EndpointError::NotReady(format!("tcp {place}: nobody listens there"));
    }
    EndpointError::Unreachable(format!("tcp {place}: {error}"))
}

#[cfg(test)]
mod tests;
