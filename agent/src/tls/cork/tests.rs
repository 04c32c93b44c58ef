use std::future::poll_fn;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::client::TlsStream as ClientStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::server_config;
use super::super::testing::Files;
use super::*;

/// What the pipe between the two holds: more than is ever held back.
const PIPE: usize = 1024 * 1024;

async fn pair() -> (Corked<DuplexStream>, ClientStream<DuplexStream>) {
    let files = Files::new();
    let config = server_config(&files.certificate, &files.private_key, &files.client_ca);
    let acceptor = TlsAcceptor::from(config.expect("all is well"));
    let mut roots = RootCertStore::empty();
    roots.add(files.authority.certificate()).expect("a CA");
    let leaf = files.authority.issue(&["DNS:proxy.example.org"]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![leaf.certificate.clone()], leaf.key())
        .expect("they match");
    client.alpn_protocols = vec![b"h2".to_vec()];
    let (near, far) = duplex(PIPE);
    let name = ServerName::try_from("agent.example.org").expect("a name");
    let connector = TlsConnector::from(Arc::new(client));
    let (server, client) = tokio::join!(acceptor.accept(near), connector.connect(name, far));
    let mut server = Corked::new(server.expect("accepts"));
    server.flush().await.expect("open");
    (server, client.expect("connects"))
}

/// How many bytes have arrived, without waiting for more.
fn arrived(client: &mut ClientStream<DuplexStream>) -> usize {
    let mut bytes = vec![0; 2 * PIPE];
    let mut bytes = ReadBuf::new(&mut bytes);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    while Pin::new(&mut *client)
        .poll_read(&mut cx, &mut bytes)
        .is_ready()
    {}
    bytes.filled().len()
}

#[tokio::test]
async fn a_small_write_is_sent_by_its_own_flush() {
    let (mut server, mut client) = pair().await;
    server.write_all(b"key").await.expect("open");
    assert_eq!(arrived(&mut client), 0);
    server.flush().await.expect("open");
    assert_eq!(arrived(&mut client), 3);
}

#[tokio::test]
async fn large_writes_are_sent_by_the_flush_that_follows_nothing() {
    let (mut server, mut client) = pair().await;
    let frame = vec![b'x'; 16 * 1024];
    for _ in 0..3 {
        server.write_all(&frame).await.expect("open");
        server.flush().await.expect("open");
        assert_eq!(arrived(&mut client), 0);
    }
    server.flush().await.expect("open");
    assert_eq!(arrived(&mut client), 3 * frame.len());
}

#[tokio::test]
async fn a_flush_that_is_put_off_wakes_whoever_flushed() {
    let (mut server, mut client) = pair().await;
    server.write_all(&[b'x'; LARGE]).await.expect("open");
    // It is called until it is woken no more, as a connection's task is.
    let woken = woken_after_flush(&mut server).await;
    assert!(woken);
    assert_eq!(arrived(&mut client), LARGE);
}

/// Flushes once for each time that it is woken, and returns whether it was.
async fn woken_after_flush(server: &mut Corked<DuplexStream>) -> bool {
    let mut calls = 0;
    poll_fn(|cx| {
        calls += 1;
        assert!(Pin::new(&mut *server).poll_flush(cx).is_ready());
        if calls == 2 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    calls == 2
}

#[tokio::test]
async fn a_small_write_after_large_ones_takes_them_along() {
    let (mut server, mut client) = pair().await;
    server.write_all(&[b'x'; LARGE]).await.expect("open");
    server.flush().await.expect("open");
    server.write_all(b"key").await.expect("open");
    server.flush().await.expect("open");
    assert_eq!(arrived(&mut client), LARGE + 3);
}

#[tokio::test]
async fn what_is_held_is_bounded_and_all_of_it_arrives_in_order() {
    let (mut server, mut client) = pair().await;
    let all: Vec<u8> = (0..500_000u32).map(|number| (number % 251) as u8).collect();
    for piece in all.chunks(20_000) {
        server.write_all(piece).await.expect("open");
        assert!(server.held <= MOST, "{}", server.held);
    }
    server.shutdown().await.expect("closes");
    let mut seen = Vec::new();
    client.read_to_end(&mut seen).await.expect("ends well");
    assert_eq!(seen, all);
}
