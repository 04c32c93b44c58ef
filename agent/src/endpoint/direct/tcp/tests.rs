use std::net::{TcpListener, TcpStream};

use nix::unistd::geteuid;

use super::*;

fn rules(tcp: TcpRule) -> DirectRules {
    DirectRules {
        directories: vec![],
        owners: vec![geteuid().as_raw()],
        tcp,
    }
}

fn at(host: &str, port: u16) -> TcpAddress {
    TcpAddress {
        host: host.to_owned(),
        port,
        telnet: false,
    }
}

async fn addresses(rule: TcpRule, host: &str) -> Result<Vec<String>, EndpointError> {
    let found = resolve(rule, &at(host, 7)).await?;
    Ok(found.iter().map(|place| place.ip().to_string()).collect())
}

#[tokio::test]
async fn loopback_is_this_host_alone_and_every_address_means_it() {
    use TcpRule::Loopback;
    for host in ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "::ffff:0.0.0.0"] {
        assert_eq!(
            addresses(Loopback, host).await.unwrap(),
            ["127.0.0.1"],
            "{host}"
        );
    }
    assert_eq!(
        addresses(Loopback, "127.8.9.1").await.unwrap(),
        ["127.8.9.1"]
    );
    assert_eq!(addresses(Loopback, "[::1]").await.unwrap(), ["::1"]);
    assert_eq!(
        addresses(Loopback, "::").await.unwrap(),
        ["::1", "127.0.0.1"]
    );
    for host in ["localhost", "LocalHost", "", "*"] {
        let both = ["127.0.0.1", "::1"];
        assert_eq!(addresses(Loopback, host).await.unwrap(), both, "{host}");
    }
    let names = [
        "192.0.2.1",
        "::ffff:192.0.2.1",
        "host.example",
        "127.0.0.1.example",
        "0",
        "1",
    ];
    for host in names {
        let error = addresses(Loopback, host).await.unwrap_err();
        assert!(matches!(&error, EndpointError::Denied(it) if it.contains("endpoints.tcp")));
    }
}

#[tokio::test]
async fn off_is_off_and_any_is_any() {
    let error = addresses(TcpRule::Off, "127.0.0.1").await.unwrap_err();
    assert!(matches!(&error, EndpointError::Denied(it) if it.contains("endpoints.tcp")));
    assert_eq!(
        addresses(TcpRule::Any, "192.0.2.1").await.unwrap(),
        ["192.0.2.1"]
    );
    assert_eq!(
        addresses(TcpRule::Any, "0.0.0.0").await.unwrap(),
        ["127.0.0.1"]
    );
}

#[tokio::test]
async fn a_port_of_another_user_is_not_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = at("127.0.0.1", listener.local_addr().unwrap().port());
    let mut rules = rules(TcpRule::Loopback);
    rules.owners = vec![geteuid().as_raw() + 1];
    let error = open(&rules, &address, Clients::One).await.unwrap_err();
    assert!(matches!(&error, EndpointError::Denied(it) if it.contains("endpoints.owners")));
    let came = listener.accept().unwrap_err();
    assert_eq!(came.kind(), std::io::ErrorKind::WouldBlock, "nobody came");
}

#[tokio::test]
async fn a_port_on_which_nobody_listens_is_not_ready() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = at("localhost", listener.local_addr().unwrap().port());
    drop(listener);
    let error = open(&rules(TcpRule::Loopback), &address, Clients::One)
        .await
        .unwrap_err();
    assert!(matches!(error, EndpointError::NotReady(_)), "{error:?}");
}

/// Opens what must not be opened.
async fn refused(address: &TcpAddress) -> EndpointError {
    match open(&rules(TcpRule::Loopback), address, Clients::One).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_client_that_came_by_another_of_the_listeners_addresses_holds_it_too() {
    let ways = [
        ("0.0.0.0", "127.0.0.2"),
        ("[::]", "127.0.0.2"),
        ("[::]", "[::1]"),
    ];
    for (listens, by) in ways {
        let listener = TcpListener::bind(format!("{listens}:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(format!("{by}:{port}")).unwrap();
        let (served, _) = listener.accept().unwrap();
        let address = at("127.0.0.1", port);
        let error = refused(&address).await;
        assert!(
            matches!(&error, EndpointError::HeldByOther(it) if it.contains("is connected")),
            "{listens} {by}: {error:?}"
        );
        let holder = other_connection(&rules(TcpRule::Loopback), &address).await;
        let local = client.local_addr().unwrap();
        let remote = client.peer_addr().unwrap();
        assert_eq!(holder, tcp_between(local, remote).unwrap().inode);
        assert!(holder.is_some());
        listener.set_nonblocking(true).unwrap();
        let came = listener.accept().unwrap_err();
        assert_eq!(came.kind(), ErrorKind::WouldBlock, "nobody queued");
        drop(served);
    }
}

#[tokio::test]
async fn a_queue_in_which_a_connection_waits_is_not_lengthened() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = at("127.0.0.1", listener.local_addr().unwrap().port());
    for _ in 0..3 {
        let error = refused(&address).await;
        assert!(
            matches!(&error, EndpointError::NotReady(it) if it.contains("stopped")),
            "{error:?}"
        );
    }
    listener.set_nonblocking(true).unwrap();
    drop(listener.accept().unwrap());
    let came = listener.accept().unwrap_err();
    assert_eq!(came.kind(), ErrorKind::WouldBlock, "one try is in it");

    // Now that it takes connections it is served.
    listener.set_nonblocking(false).unwrap();
    let far = std::thread::spawn(move || listener.accept().unwrap().0);
    let (_ours, ends) = open(&rules(TcpRule::Loopback), &address, Clients::One)
        .await
        .unwrap();
    let far = far.join().unwrap();
    assert_eq!(ends.unwrap().ours, far.peer_addr().unwrap());
}

#[tokio::test]
async fn a_qemu_that_closes_while_it_is_attached_is_not_ready() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = at("127.0.0.1", listener.local_addr().unwrap().port());
    std::thread::spawn(move || while listener.accept().is_ok() {});
    for _ in 0..50 {
        let opened = open(&rules(TcpRule::Loopback), &address, Clients::One).await;
        let ready = !matches!(opened, Err(EndpointError::NotReady(_)));
        assert!(!ready || opened.is_ok(), "{opened:?}");
    }
}
