//! Puts the layers together, runs them, and takes them apart in order.
//!
//! ```text
//! start ─▶ running ─ stop ─▶ no new connections, sessions and watchers are told
//!                        ─▶ connections finish, or the deadline passes
//!                        ─▶ pumps let their consoles go ─▶ stopped
//! ```

mod follow;
mod hypervisors;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::server::NamedService as _;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::info;
use vmconsole_proto::v1::console_service_server::ConsoleServiceServer;
use vmconsole_proto::v1::graphics_service_server::GraphicsServiceServer;
use vmconsole_proto::v1::session_service_server::SessionServiceServer;

pub use self::hypervisors::Hypervisors;

use self::follow::{Follow, FollowGauges};
use crate::api::{
    ConnectionMetrics, ConsoleApi, GraphicsApi, GrpcLimits, GrpcServer, Served, SessionApi,
    StreamLimits,
};
use crate::config::Config;
use crate::console::{ConsoleMetrics, Registry, RegistryConfig};
use crate::core::deadlines::TimeLimits;
use crate::diagnosis::Diagnosis;
use crate::graphics::{DisplayTerms, DisplayTermsError, Displays, RelayMetrics};
use crate::http::{BindError, HttpServer, Readiness};
use crate::hypervisor::Hypervisor;
use crate::metrics::{Metrics, MetricsError};
use crate::session::effects::{EffectMetrics, Effects};
use crate::session::{SessionMetrics, Sessions};
use crate::shutdown::Tasks;
use crate::tls::{self, AllowList, HandshakeMetrics, Handshakes, TlsError};

/// The longest message that a client may send, in bytes: 64 KiB of input and its frame.
const MAX_REQUEST: usize = 96 * 1024;

/// How long a stop waits for pumps to let their consoles go.
pub const LET_GO: Duration = Duration::from_secs(5);

/// The most threads that the agent's runtime needs: one encrypts some GiB a second.
const MAX_WORKERS: usize = 4;

/// How many threads the agent's runtime is to have on this host: one for two cores, at
/// most [`MAX_WORKERS`]. A byte's way leads through several tasks, and a wake-up on another
/// thread costs more than what the task does: on two cores, 1,000 keystrokes a second took
/// 10.1 % of a core with one worker and 12.8 % with two.
pub fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, MAX_WORKERS)
}

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A certificate or key is missing or wrong.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What displays are opened with is missing or wrong.
    #[error(transparent)]
    Graphics(#[from] DisplayTermsError),
    /// A gRPC address cannot be listened on.
    #[error(
        "cannot listen on {address} for gRPC; check grpc.listen, and what else listens there (ovirt-vmconsole's sshd uses 2223 too)"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The HTTP address cannot be listened on.
    #[error(transparent)]
    Http(#[from] BindError),
    /// A metric was registered twice. A fault in the agent.
    #[error("a metric cannot be registered (this is a fault in the agent)")]
    Metrics(#[from] MetricsError),
    /// The reflection service could not be built. A fault in the agent.
    #[error("server reflection cannot be built (this is a fault in the agent)")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// The agent, running.
pub struct App {
    grpc: Vec<SocketAddr>,
    http: SocketAddr,
    drain: Duration,
    health: HealthReporter,
    /// What serves clients.
    serving: Tasks,
    /// What keeps consoles, and what lasts until the end.
    keeping: Tasks,
}

impl App {
    /// Starts serving the consoles of `hypervisor`. Returns once every address is bound.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(
        config: &Config,
        metrics: Metrics,
        hypervisor: Arc<dyn Hypervisor>,
    ) -> Result<Self, StartError> {
        let (serving, keeping) = (Tasks::new(), Tasks::new());
        let draining = serving.token();
        let grpc = &config.grpc;
        let tls = tls::server_config(&grpc.certificate, &grpc.private_key, &grpc.client_ca)?;
        let listeners = listen(&grpc.listen)?;
        let inventory = hypervisor.inventory();
        let registry = registry(config, &metrics, hypervisor.clone(), &keeping)?;
        let (health, routes) = routes(config, &metrics, hypervisor, &registry, &serving)?;
        let server = server(config, &metrics, routes, tls, &serving)?;
        let (ready, readiness) = watch::channel(Readiness::NotReady("starting".to_owned()));
        let follow = Follow {
            directory: registry.directory(),
            inventory,
            draining: draining.clone(),
            ready,
            gauges: FollowGauges::register(metrics.registry())?,
        };
        let http = HttpServer::bind(config.http.listen, metrics, readiness).await?;
        let http_address = http.local_addr();

        health
            .set_serving::<ConsoleServiceServer<ConsoleApi>>()
            .await;
        health
            .set_serving::<SessionServiceServer<SessionApi>>()
            .await;
        health
            .set_serving::<GraphicsServiceServer<GraphicsApi>>()
            .await;
        keeping.spawn("registry", registry.run(keeping.token()));
        keeping.spawn("http", http.run(keeping.token()));
        keeping.spawn("readiness", follow.run(keeping.token()));
        let mut addresses = Vec::new();
        for (address, listener) in listeners {
            info!(%address, "serving gRPC");
            addresses.push(address);
            serving.spawn("accept", server.clone().run(listener, draining.clone()));
        }
        info!(address = %http_address, "serving metrics and health");
        let drain = config.grpc.drain;
        Ok(Self {
            grpc: addresses,
            http: http_address,
            drain,
            health,
            serving,
            keeping,
        })
    }

    /// Where gRPC is served.
    pub fn grpc_addresses(&self) -> &[SocketAddr] {
        &self.grpc
    }

    /// Where metrics and health are served.
    pub const fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Stops: every session ends with AGENT_DRAINING and where to resume. Returns whether
    /// everything had ended by its deadline.
    pub async fn stop(self) -> bool {
        info!("stopping: sessions are told to resume elsewhere");
        stop_serving(self.health).await;
        self.serving.close();
        let served = self.serving.drained(self.drain).await;
        self.keeping.close();
        let kept = self.keeping.drained(LET_GO).await;
        info!(in_time = served && kept, "stopped");
        served && kept
    }
}

/// Says that nothing is served any more, and ends the streams that watch for that: they
/// would hold their connections open.
async fn stop_serving(mut health: HealthReporter) {
    let services = [
        "",
        ConsoleServiceServer::<ConsoleApi>::NAME,
        SessionServiceServer::<SessionApi>::NAME,
        GraphicsServiceServer::<GraphicsApi>::NAME,
    ];
    for service in services {
        health
            .set_service_status(service, ServingStatus::NotServing)
            .await;
        health.clear_service_status(service).await;
    }
}

fn listen(addresses: &[SocketAddr]) -> Result<Vec<(SocketAddr, TcpListener)>, StartError> {
    let bind = |address: &SocketAddr| {
        let address = *address;
        let bound = GrpcServer::bind(address);
        bound
            .and_then(|listener| Ok((listener.local_addr()?, listener)))
            .map_err(|source| StartError::Listen { address, source })
    };
    addresses.iter().map(bind).collect()
}

fn registry(
    config: &Config,
    metrics: &Metrics,
    hypervisor: Arc<dyn Hypervisor>,
    tasks: &Tasks,
) -> Result<Registry, StartError> {
    let limits = RegistryConfig {
        ring_bytes: config.console.ring_bytes,
        max_viewers: config.limits.viewers_per_console,
        capture: config.capture.clone(),
    };
    let metrics = ConsoleMetrics::register(metrics.registry())?;
    Ok(Registry::new(hypervisor, limits, metrics, tasks.clone()))
}

fn routes(
    config: &Config,
    metrics: &Metrics,
    hypervisor: Arc<dyn Hypervisor>,
    registry: &Registry,
    tasks: &Tasks,
) -> Result<(HealthReporter, Routes), StartError> {
    let session_metrics = SessionMetrics::register(metrics.registry())?;
    let times = TimeLimits {
        idle: config.limits.idle_timeout,
        duration: config.limits.max_duration,
    };
    let sessions = Sessions::new(
        config.limits.sessions,
        config.limits.resume_grace,
        tasks.token(),
        session_metrics,
    );
    let sessions = Arc::new(sessions.with_times(times));
    let kept = sessions.clone();
    tasks.spawn("sessions", async move { kept.keep().await });
    let displays = Displays::new(
        hypervisor.clone(),
        DisplayTerms::load(&config.graphics)?,
        RelayMetrics::register(metrics.registry())?,
    );
    let graphics = GraphicsApi::new(
        registry.directory(),
        sessions.clone(),
        displays,
        tasks.clone(),
        tasks.token(),
        config.limits.first_message,
    );
    let graphics = GraphicsServiceServer::new(graphics).max_decoding_message_size(MAX_REQUEST);
    let diagnosis = Diagnosis::new(config, hypervisor.inventory());
    let effects = Effects::new(
        hypervisor,
        registry.directory(),
        tasks.clone(),
        EffectMetrics::register(metrics.registry())?,
    );
    let limits = StreamLimits {
        first_message: config.limits.first_message,
        watchers: config.limits.watchers,
    };
    let api = ConsoleApi::new(
        registry.directory(),
        registry.book(),
        Served {
            sessions,
            effects,
            diagnosis,
        },
        tasks.clone(),
        tasks.token(),
        limits,
    );
    let api = ConsoleServiceServer::new(api).max_decoding_message_size(MAX_REQUEST);
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(vmconsole_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let sessions = SessionServiceServer::new(SessionApi::new(registry.directory()))
        .max_decoding_message_size(MAX_REQUEST);
    let routes = Routes::new(api)
        .add_service(sessions)
        .add_service(graphics)
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .prepare();
    Ok((health, routes))
}

fn server(
    config: &Config,
    metrics: &Metrics,
    routes: Routes,
    tls: Arc<rustls::ServerConfig>,
    tasks: &Tasks,
) -> Result<Arc<GrpcServer>, StartError> {
    let handshake_metrics = HandshakeMetrics::register(metrics.registry())?;
    let limits = &config.limits;
    let handshakes = Handshakes::new(limits.handshakes, limits.handshake, handshake_metrics);
    Ok(Arc::new(GrpcServer::new(
        routes,
        tls,
        handshakes,
        AllowList::new(&config.access.allowed_clients),
        GrpcLimits {
            connections: limits.connections,
            streams_per_connection: limits.streams_per_connection,
        },
        ConnectionMetrics::register(metrics.registry())?,
        tasks.clone(),
    )))
}
