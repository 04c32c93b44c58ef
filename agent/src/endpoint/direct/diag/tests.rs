use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::stat::fstat;
use nix::unistd::geteuid;
use proptest::prelude::*;

use super::*;

fn inode(socket: impl AsFd) -> u32 {
    u32::try_from(fstat(socket).unwrap().st_ino).unwrap()
}

#[test]
fn a_unix_connection_has_a_far_end_once_it_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let meta = std::fs::metadata(&path).unwrap();
    let identity = (meta.dev(), meta.ino());
    let here = || {
        let mut all = unix_connections().unwrap();
        all.retain(|socket| socket.is_at(identity, &path));
        all
    };
    let listens = here();
    assert_eq!(listens.len(), 1);
    assert_eq!(
        (listens[0].state, listens[0].inode),
        (LISTEN, inode(&listener))
    );
    assert_eq!(listens[0].user, Some(geteuid().as_raw()));

    let mut client = UnixStream::connect(&path).unwrap();
    let ours = inode(&client);
    assert_eq!(unix_by_inode(ours).unwrap().peer, None);
    assert_eq!(here().len(), 1, "what waits in the queue is nobody's");
    let (server, _) = listener.accept().unwrap();
    assert_eq!(unix_by_inode(ours).unwrap().peer, Some(inode(&server)));
    let accepted: Vec<_> = here()
        .into_iter()
        .filter(|it| it.state == ESTABLISHED)
        .collect();
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].peer, Some(ours));

    client.write_all(b"hello").unwrap();
    assert_eq!(unix_by_inode(inode(&server)).unwrap().unread, 5);
    let theirs = inode(&server);
    drop(client);
    assert_eq!(
        unix_by_inode(theirs).unwrap().peer,
        None,
        "the client is gone"
    );
}

#[test]
fn a_socket_that_is_not_there_is_not_found() {
    let error = unix_by_inode(u32::MAX - 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let error = tcp_between(nowhere, nowhere).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

fn a_tcp_connection_has_an_owner_once_it_is_accepted(listen: &str, connect: &str) {
    let listener = TcpListener::bind(listen).unwrap();
    let port = listener.local_addr().unwrap().port();
    let place: std::net::SocketAddr = format!("{connect}:{port}").parse().unwrap();
    let listens = tcp_listening_on(place).unwrap();
    assert_eq!(listens.len(), 1);
    assert_eq!(
        (listens[0].state, listens[0].user),
        (LISTEN, geteuid().as_raw())
    );

    let mut client = TcpStream::connect(place).unwrap();
    let ours = client.local_addr().unwrap();
    assert_eq!(tcp_between(place, ours).unwrap().inode, None);
    let (mut server, _) = listener.accept().unwrap();
    let end = tcp_between(place, ours).unwrap();
    assert_eq!(end.inode, Some(inode(&server)));
    assert_eq!((end.local, end.remote), (place, ours));
    assert_eq!(end.user, geteuid().as_raw());
    assert_eq!(tcp_accepted_at(place).unwrap(), [end]);

    client.write_all(b"hello").unwrap();
    let mut byte = [0];
    server.read_exact(&mut byte).unwrap();
    assert_eq!(tcp_between(place, ours).unwrap().unread, 4);
}

#[test]
fn tcp_over_ipv4_over_ipv6_and_over_both_at_once() {
    a_tcp_connection_has_an_owner_once_it_is_accepted("127.0.0.1:0", "127.0.0.1");
    a_tcp_connection_has_an_owner_once_it_is_accepted("[::1]:0", "[::1]");
    a_tcp_connection_has_an_owner_once_it_is_accepted("[::]:0", "127.0.0.1");
}

proptest! {
    #[test]
    fn no_answer_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut rest = bytes.as_slice();
        while let Some((_, _, after)) = split(rest) {
            prop_assert!(after.len() < rest.len());
            rest = after;
        }
        for (_, value) in attributes(&bytes) {
            prop_assert!(value.len() < bytes.len());
        }
        let _ = error(&bytes);
    }
}
