//! The floor that the agent is measured against: TLS 1.3 with certificates on both sides,
//! bytes copied to and from a unix socket, and nothing else:
//! `plain-relay CERTIFICATE KEY CLIENT_CA SOCKET`.
//!
//! Says `ready ADDRESS` once it listens. Runs until it is killed.
#![allow(clippy::print_stdout, reason = "its standard output is its interface")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;
use vmconsole_agent::shutdown::Tasks;

type Failure = Box<dyn std::error::Error>;

/// The agent reads as much at once.
const BUFFER: usize = 64 * 1024;

fn main() -> Result<(), Failure> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [certificate, key, ca, socket] = arguments.as_slice() else {
        return Err("usage: plain-relay CERTIFICATE KEY CLIENT_CA SOCKET".into());
    };
    let tls = tls(certificate, key, ca)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(TlsAcceptor::from(tls), socket))
}

fn tls(certificate: &Path, key: &Path, ca: &Path) -> Result<Arc<ServerConfig>, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_file(certificate)?],
            PrivateKeyDer::from_pem_file(key)?,
        )?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

async fn serve(acceptor: TlsAcceptor, socket: &Path) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("ready {}", listener.local_addr()?);
    let tasks = Tasks::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, socket) = (acceptor.clone(), socket.to_owned());
        tasks.spawn("relay", async move {
            // Whoever was relayed sees the end; there is nobody else to tell.
            let _ = relay(&acceptor, stream, &socket).await;
        });
    }
}

async fn relay(acceptor: &TlsAcceptor, stream: TcpStream, socket: &Path) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut near = acceptor.accept(stream).await?;
    let mut far = UnixStream::connect(socket).await?;
    copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER).await?;
    Ok(())
}
