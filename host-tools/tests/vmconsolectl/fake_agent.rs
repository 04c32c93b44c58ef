//! A gRPC server over mutual TLS whose streams the test itself speaks on.
//!
//! Refuses to behave like an agent by itself: what it says is what the test says.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::oneshot;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use vmconsole_proto::v1::console_service_server::{ConsoleService, ConsoleServiceServer};
use vmconsole_proto::v1::graphics_service_server::GraphicsServiceServer;
use vmconsole_proto::v1::*;

use crate::fake_console::ClientStream;
use crate::fake_display::{DisplayStream, Displays};
use crate::fake_stream::BoxStream;
use crate::program::LIMIT;

/// What the calls are answered with.
#[derive(Default)]
pub(crate) struct Script {
    /// Refuses every call.
    pub(crate) refusal: Option<Status>,
    /// Refuses the list alone.
    pub(crate) list_refused: Option<Status>,
    /// Pages of the list, taken one by one; the last is repeated.
    pub(crate) pages: Vec<ListConsolesResponse>,
    /// Refuses side effects from this one on, counted from 0.
    pub(crate) effects_refused: Option<(usize, Status)>,
    /// What DiagnoseHost answers; otherwise it is not served.
    pub(crate) host: Option<DiagnoseHostResponse>,
    /// What DiagnoseConsole answers of each alias; others are NOT_FOUND.
    pub(crate) diagnoses: Vec<(&'static str, DiagnoseConsoleResponse)>,
    /// What CaptureScreenshot answers.
    pub(crate) picture: Vec<Result<CaptureScreenshotResponse, Status>>,
}

/// A side effect that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Break(SendBreakRequest),
    Keys(SendKeysRequest),
    Nmi(InjectNmiRequest),
    Screenshot(CaptureScreenshotRequest),
}

/// The server.
pub(crate) struct FakeAgent {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// List requests as they came.
    pub(crate) lists: Arc<Mutex<Vec<ListConsolesRequest>>>,
    /// Side effects that were asked for, as they came.
    pub(crate) calls: Arc<Mutex<Vec<Call>>>,
    streams: Receiver<ClientStream>,
    displays: Receiver<DisplayStream>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeAgent {
    /// Serves with the certificates of `pki`.
    pub(crate) fn start(pki: &Path, script: Script) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), pki, script)
    }

    /// The same, at an address that another may have left.
    pub(crate) fn start_at(at: SocketAddr, pki: &Path, script: Script) -> Self {
        let read = |name: &str| std::fs::read(pki.join(name)).unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(read("agent.crt"), read("agent.key")))
            .client_ca_root(Certificate::from_pem(read("ca.crt")));
        let (opened, streams) = sync_channel(8);
        let (shown, displays) = sync_channel(32);
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = sync_channel(1);
        let lists = Arc::default();
        let calls = Arc::default();
        let service = Service {
            script,
            opened,
            lists: Arc::clone(&lists),
            calls: Arc::clone(&calls),
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind(at).await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                let mut server = Server::builder().tls_config(tls).unwrap();
                let server = server.add_service(ConsoleServiceServer::new(service));
                let server = server.add_service(GraphicsServiceServer::new(Displays(shown)));
                // Dropping the server with what it serves is what a lost agent looks like.
                tokio::select! {
                    served = server.serve_with_incoming(TcpIncoming::from(listener)) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        let address = address.recv_timeout(LIMIT).unwrap();
        Self {
            address,
            lists,
            calls,
            streams,
            displays,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The next stream that a client opens.
    pub(crate) fn stream(&self) -> ClientStream {
        self.streams
            .recv_timeout(LIMIT)
            .expect("no client opened a stream")
    }

    /// The next display that a client opens.
    pub(crate) fn display(&self) -> DisplayStream {
        self.displays
            .recv_timeout(LIMIT)
            .expect("no client opened a display")
    }

    /// A display that a client has opened already.
    pub(crate) fn try_display(&self) -> Option<DisplayStream> {
        self.displays.try_recv().ok()
    }

    /// Waits until a side effect was asked for.
    pub(crate) fn until_called(&self) {
        let until = Instant::now() + LIMIT;
        while self.calls.lock().unwrap().is_empty() {
            assert!(Instant::now() < until, "no side effect was asked for");
            std::thread::yield_now();
        }
    }

    /// Whether no stream was opened, once all clients have ended.
    pub(crate) fn no_stream(&self) -> bool {
        matches!(
            self.streams.recv_timeout(std::time::Duration::ZERO),
            Err(RecvTimeoutError::Timeout)
        )
    }

    /// Goes away with all its connections.
    pub(crate) fn vanish(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.vanish();
    }
}

struct Service {
    script: Script,
    opened: SyncSender<ClientStream>,
    lists: Arc<Mutex<Vec<ListConsolesRequest>>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Service {
    /// Takes a side effect down, and refuses it where the script says so.
    fn called(&self, call: Call) -> Result<(), Status> {
        if let Some(refusal) = &self.script.refusal {
            return Err(refusal.clone());
        }
        let mut calls = self.calls.lock().unwrap();
        calls.push(call);
        match &self.script.effects_refused {
            Some((first, refusal)) if calls.len() > *first => Err(refusal.clone()),
            _ => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl ConsoleService for Service {
    async fn diagnose_console(
        &self,
        request: Request<DiagnoseConsoleRequest>,
    ) -> Result<Response<DiagnoseConsoleResponse>, Status> {
        let alias = request.into_inner().console.unwrap().alias;
        let mut played = self.script.diagnoses.iter();
        match played.rfind(|(known, _)| *known == alias) {
            Some((_, answer)) => Ok(Response::new(answer.clone())),
            None => Err(Status::not_found("no such VM")),
        }
    }

    async fn diagnose_host(
        &self,
        _: Request<DiagnoseHostRequest>,
    ) -> Result<Response<DiagnoseHostResponse>, Status> {
        if let Some(refusal) = &self.script.refusal {
            return Err(refusal.clone());
        }
        let answer = self.script.host.clone();
        let answer = answer.ok_or_else(|| Status::unimplemented("not served"))?;
        Ok(Response::new(answer))
    }

    async fn send_break(
        &self,
        request: Request<SendBreakRequest>,
    ) -> Result<Response<SendBreakResponse>, Status> {
        self.called(Call::Break(request.into_inner()))?;
        Ok(Response::new(SendBreakResponse {}))
    }

    async fn send_keys(
        &self,
        request: Request<SendKeysRequest>,
    ) -> Result<Response<SendKeysResponse>, Status> {
        self.called(Call::Keys(request.into_inner()))?;
        Ok(Response::new(SendKeysResponse {}))
    }

    async fn inject_nmi(
        &self,
        request: Request<InjectNmiRequest>,
    ) -> Result<Response<InjectNmiResponse>, Status> {
        self.called(Call::Nmi(request.into_inner()))?;
        Ok(Response::new(InjectNmiResponse {}))
    }

    type CaptureScreenshotStream = BoxStream<CaptureScreenshotResponse>;

    async fn capture_screenshot(
        &self,
        request: Request<CaptureScreenshotRequest>,
    ) -> Result<Response<Self::CaptureScreenshotStream>, Status> {
        self.called(Call::Screenshot(request.into_inner()))?;
        let parts = self.script.picture.clone();
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    type WatchConsolesStream = BoxStream<WatchConsolesResponse>;
    type StreamConsoleStream = BoxStream<StreamConsoleResponse>;

    async fn list_consoles(
        &self,
        request: Request<ListConsolesRequest>,
    ) -> Result<Response<ListConsolesResponse>, Status> {
        if let Some(refusal) = &self.script.refusal {
            return Err(refusal.clone());
        }
        if let Some(refusal) = &self.script.list_refused {
            return Err(refusal.clone());
        }
        let mut lists = self.lists.lock().unwrap();
        let page = self
            .script
            .pages
            .get(lists.len())
            .or(self.script.pages.last());
        lists.push(request.into_inner());
        Ok(Response::new(page.cloned().unwrap_or_default()))
    }

    async fn watch_consoles(
        &self,
        _: Request<WatchConsolesRequest>,
    ) -> Result<Response<Self::WatchConsolesStream>, Status> {
        Err(Status::unimplemented("no test watches"))
    }

    async fn stream_console(
        &self,
        request: Request<Streaming<StreamConsoleRequest>>,
    ) -> Result<Response<Self::StreamConsoleStream>, Status> {
        if let Some(refusal) = &self.script.refusal {
            return Err(refusal.clone());
        }
        let (stream, responses) = ClientStream::of(request.into_inner());
        self.opened
            .send(stream)
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(responses))
    }
}
