//! The gRPC server: accepts, secures, admits and serves connections.
//!
//! ```text
//! accept ─▶ (task) handshake ─▶ permit ─▶ HTTP/2 ─▶ per call: admitted? ─▶ routes
//! ```
//! It runs tonic's services on hyper's own HTTP/2 server and not on tonic's, which offers
//! no deadline for the preface, no limit of connections and no hold on them. Nothing that
//! a peer does or leaves undone happens on the accept path.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{IntCounter, IntGauge, Registry as MetricRegistry};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service as _;
use tracing::{debug, info, warn};

use super::listening::Listening;
use super::refusal::status;
use super::service::Proxy;
use crate::core::reason::Reason;
use crate::metrics::{MetricsError, counter, gauge};
use crate::session::LastHeard;
use crate::shutdown::Tasks;
use crate::tls::{AllowList, Handshakes, Peer, Secured};

/// Bytes that a client may send on one stream before it is read. Streams are read at
/// once, so this is not what paces input.
const STREAM_WINDOW: u32 = 128 * 1024;

/// Bytes that a client may send on one connection before they are read: as much as 32
/// stalled streams could hold.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Bytes that are buffered for one stream that its client does not read.
const SEND_BUFFER: usize = 256 * 1024;

/// The most bytes of a call's headers.
const MAX_HEADERS: u32 = 16 * 1024;

/// How often a client is asked for a sign of life, and how long it has to give it: with
/// the pause after accept failures well within the 30 s after which a dead proxy's lease
/// is free.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait after a failed accept, for instance when descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// What the server counts.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    active: IntGauge,
    accepted: IntCounter,
    refused: IntCounter,
    denied: IntCounter,
    accept_failures: IntCounter,
}

impl ConnectionMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// If a metric of the same name is registered already.
    pub fn register(registry: &MetricRegistry) -> Result<Self, MetricsError> {
        Ok(Self {
            active: gauge(
                registry,
                "vmconsole_connections_active",
                "Connections of clients that have authenticated",
            )?,
            accepted: counter(
                registry,
                "vmconsole_connections_accepted_total",
                "TCP connections that were accepted on the gRPC port",
            )?,
            refused: counter(
                registry,
                "vmconsole_connections_refused_total",
                "Authenticated connections that were closed at the limit of connections",
            )?,
            denied: counter(
                registry,
                "vmconsole_calls_denied_total",
                "Calls of clients whose certificate has no allowed name",
            )?,
            accept_failures: counter(
                registry,
                "vmconsole_accept_failures_total",
                "Times that a connection could not be accepted",
            )?,
        })
    }
}

/// Limits of connections.
#[derive(Clone, Debug)]
pub struct GrpcLimits {
    /// Connections at once.
    pub connections: usize,
    /// Calls at once on one connection.
    pub streams_per_connection: u32,
}

/// The gRPC server.
pub struct GrpcServer {
    routes: Routes,
    tls: Arc<ServerConfig>,
    handshakes: Handshakes,
    allowed: Arc<AllowList>,
    permits: Arc<Semaphore>,
    limits: GrpcLimits,
    metrics: ConnectionMetrics,
    tasks: Tasks,
}

impl GrpcServer {
    /// Serves `routes` to clients that `allowed` admits.
    pub fn new(
        routes: Routes,
        tls: Arc<ServerConfig>,
        handshakes: Handshakes,
        allowed: AllowList,
        limits: GrpcLimits,
        metrics: ConnectionMetrics,
        tasks: Tasks,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(limits.connections));
        let allowed = Arc::new(allowed);
        Self {
            routes,
            tls,
            handshakes,
            allowed,
            permits,
            limits,
            metrics,
            tasks,
        }
    }

    /// Binds `address`; a dual-stack socket if it is an IPv6 wildcard.
    ///
    /// # Errors
    /// The system's, for instance if the port is taken.
    pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    }

    /// Accepts connections until `stop` is cancelled; those that are open finish their calls.
    pub async fn run(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                biased; // to stop comes before everything
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    self.metrics.accepted.inc();
                    let serve = self.clone().serve(stream, address, stop.clone());
                    self.tasks.spawn("connection", serve);
                }
                Err(error) => {
                    self.metrics.accept_failures.inc();
                    warn!(%error, "a connection could not be accepted: raise LimitNOFILE if descriptors ran out");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        stop: CancellationToken,
    ) {
        // Boxed, so that a connection that lasts does not hold the room of its handshake.
        let handshake = self.handshakes.handshake(stream, address, self.tls.clone());
        let handshake = Box::pin(handshake);
        let secured = tokio::select! {
            biased; // to stop comes before everything
            () = stop.cancelled() => return,
            secured = handshake => secured,
        };
        // A failed one was logged and counted where it failed.
        let Ok(Secured { io, peer }) = secured else {
            return;
        };
        let Ok(_permit) = self.permits.clone().try_acquire_owned() else {
            self.metrics.refused.inc();
            warn!(peer.address = %address, "a connection was closed: there are limits.connections of them");
            return;
        };
        let _active = Active::new(&self.metrics.active);
        // Boxed, so that the room of the handshake is not held by what comes after it.
        let heard = LastHeard::now();
        let io = Listening::new(Box::new(io), heard.clone());
        Box::pin(self.speak(TokioIo::new(io), peer, heard, stop)).await;
    }

    async fn speak<I>(self: Arc<Self>, io: I, peer: Peer, heard: LastHeard, stop: CancellationToken)
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let proxy = self.allowed.admit(&peer.identities).map(Proxy);
        match &proxy {
            Some(Proxy(name)) => debug!(peer.address = %peer.addr, peer.name = %name, "connected"),
            None => info!(
                peer.address = %peer.addr,
                peer.names = ?peer.identities,
                "a client without an allowed name connected: add one to access.allowed_clients"
            ),
        }
        let protocol = self.protocol();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(heard.clone());
            self.clone().call(proxy.clone(), request)
        });
        let connection = protocol.serve_connection(io, service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(peer.address = %peer.addr, %error, "a connection broke");
        }
    }

    fn protocol(&self) -> http2::Builder<TaskExecutor> {
        let mut builder = http2::Builder::new(TaskExecutor(self.tasks.clone()));
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEADERS)
            .max_concurrent_streams(self.limits.streams_per_connection);
        builder
    }

    async fn call(
        self: Arc<Self>,
        proxy: Option<Proxy>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let Some(proxy) = proxy else {
            self.metrics.denied.inc();
            let message = "none of your certificate's names is in access.allowed_clients";
            return Ok(status(Reason::Denied, message).into_http());
        };
        request.extensions_mut().insert(proxy);
        self.routes.clone().call(request).await
    }
}

/// Counts a connection while it lives.
struct Active(IntGauge);

impl Active {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Runs the tasks that hyper makes, one a call, as the server's.
#[derive(Clone)]
struct TaskExecutor(Tasks);

impl<F> Executor<F> for TaskExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("call", async move {
            future.await;
        });
    }
}
