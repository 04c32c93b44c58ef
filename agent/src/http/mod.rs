//! Plain HTTP/1.1 for Prometheus and for health checks: `/metrics`, `/livez`, `/readyz`.
//!
//! It serves nothing that changes anything, and has neither encryption nor access
//! control: it belongs on an address that only the monitoring can reach. What one client
//! can hold is bounded in number and in time.

mod pages;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use pages::Readiness;

use crate::metrics::Metrics;

/// How many connections are served at once; the next ones wait to be accepted.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may take to send a request's head, and be idle between requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// After how long a connection is ended, between requests if it can be.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long a request that is being answered may go on after that, or at a stop.
const GRACE: Duration = Duration::from_secs(2);
/// The longest request head, in bytes.
const MAX_HEAD_BYTES: usize = 8192;
/// How long to wait after the system could not accept a connection.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why the server could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} for HTTP; check http.listen, and what else listens there")]
pub struct BindError {
    addr: SocketAddr,
    source: io::Error,
}

/// The server, listening and not serving yet.
#[derive(Debug)]
pub struct HttpServer {
    listener: TcpListener,
    addr: SocketAddr,
    router: axum::Router,
}

impl HttpServer {
    /// Listens on `addr` (port 0 is any free one). `/metrics` shows `metrics`, `/readyz`
    /// the newest of `readiness`.
    ///
    /// # Errors
    /// [`BindError`] if the address is not there or is taken.
    pub async fn bind(
        addr: SocketAddr,
        metrics: Metrics,
        readiness: watch::Receiver<Readiness>,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            addr,
            router: pages::router(metrics, readiness),
        })
    }

    /// Where it listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `token` is cancelled and then until the requests that are being
    /// answered are, 2 s at most. Spawns nothing.
    ///
    /// # Cancel safety
    /// If dropped, all connections are closed at once.
    pub async fn run(self, token: CancellationToken) {
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                // The stop first: under a steady load the others are always ready.
                biased;
                () = token.cancelled() => break,
                Some(()) = connections.next() => {}
                stream = accept(&self.listener), if connections.len() < MAX_CONNECTIONS => {
                    if let Some(stream) = stream {
                        connections.push(serve(stream, self.router.clone(), token.clone()));
                    }
                }
            }
        }
        drop(self.listener);
        while connections.next().await.is_some() {}
    }
}

/// The next connection; none if the system could not accept one and a moment has passed.
async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection for HTTP; trying again");
            tokio::time::sleep(ACCEPT_RETRY).await;
            None
        }
    }
}

async fn serve(stream: TcpStream, router: axum::Router, token: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder.max_buf_size(MAX_HEAD_BYTES);
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // How a connection ends, a client of this server's is free to choose: nothing to log.
    let ended = tokio::select! {
        biased;
        () = token.cancelled() => false,
        result = timeout(LIFETIME, connection.as_mut()) => result.is_ok(),
    };
    if !ended {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(GRACE, connection).await;
    }
}
