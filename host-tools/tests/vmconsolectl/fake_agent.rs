//! A gRPC server over mutual TLS whose streams the test itself speaks on.
//!
//! Refuses to behave like an agent by itself: what it says is what the test says.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream as AsyncStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use vmconsole_proto::v1::console_service_server::{ConsoleService, ConsoleServiceServer};
use vmconsole_proto::v1::graphics_service_server::GraphicsServiceServer;
use vmconsole_proto::v1::stream_console_request::Message as FromClient;
use vmconsole_proto::v1::stream_console_response::Message as ToClient;
use vmconsole_proto::v1::*;

use crate::fake_display::{DisplayStream, Displays};
use crate::program::LIMIT;

pub(crate) type BoxStream<T> = Pin<Box<dyn AsyncStream<Item = Result<T, Status>> + Send>>;

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

/// The agent's end of one StreamConsole.
pub(crate) struct ClientStream {
    requests: Streaming<StreamConsoleRequest>,
    responses: Option<mpsc::Sender<Result<StreamConsoleResponse, Status>>>,
    runtime: Handle,
}

impl ClientStream {
    /// The client's next message; `None` at the stream's end.
    pub(crate) fn next(&mut self) -> Option<FromClient> {
        let requests = &mut self.requests;
        let message = self.runtime.block_on(async {
            let next = tokio::time::timeout(LIMIT, requests.message());
            next.await.expect("the client says nothing")
        });
        message
            .ok()
            .flatten()
            .map(|request| request.message.unwrap())
    }

    /// The first message.
    pub(crate) fn open(&mut self) -> Open {
        match self.next() {
            Some(FromClient::Open(open)) => open,
            other => panic!("not Open: {other:?}"),
        }
    }

    /// Input until `len` bytes of it have come, acknowledged as it comes.
    pub(crate) fn input(&mut self, len: usize, window: u64) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < len {
            match self.next() {
                Some(FromClient::Input(input)) => {
                    assert_eq!(input.offset, all.len() as u64, "input is not contiguous");
                    assert!(
                        input.data.len() as u64 <= window,
                        "the input window was overrun"
                    );
                    all.extend_from_slice(&input.data);
                    self.say(ToClient::InputAck(InputAck {
                        offset: all.len() as u64,
                        window,
                    }));
                }
                Some(FromClient::OutputAck(_)) => {}
                other => panic!("not Input: {other:?}"),
            }
        }
        all
    }

    /// Everything up to Detach, which is answered with Closed; acknowledgements are passed over.
    pub(crate) fn detached(&mut self) {
        loop {
            match self.next() {
                Some(FromClient::OutputAck(_)) => {}
                Some(FromClient::Detach(_)) => break,
                other => panic!("not Detach: {other:?}"),
            }
        }
        self.closed(Reason::ClientDetached);
    }

    /// Says something.
    pub(crate) fn say(&self, message: ToClient) {
        let response = StreamConsoleResponse {
            message: Some(message),
        };
        let sender = self.responses.as_ref().expect("the stream is over");
        self.runtime.block_on(async {
            let sent = tokio::time::timeout(LIMIT, sender.send(Ok(response)));
            sent.await.expect("the client takes nothing").unwrap();
        });
    }

    /// Output at a position of generation 1.
    pub(crate) fn output(&self, offset: u64, data: impl Into<Vec<u8>>) {
        let data = data.into().into();
        self.say(ToClient::Output(Output {
            position: at(offset),
            data,
            time: None,
        }));
    }

    /// Opened, with this mode and input window; somebody named bob writes if not we.
    pub(crate) fn opened(&self, mode: Mode, input_window: u64) {
        self.say(ToClient::Opened(opened(mode, input_window)));
    }

    /// Refuses the stream, in the place of Opened.
    pub(crate) fn refuse(mut self, status: Status) {
        let sender = self.responses.take().expect("the stream is over");
        self.runtime.block_on(async {
            let sent = tokio::time::timeout(LIMIT, sender.send(Err(status)));
            sent.await.expect("the client takes nothing").unwrap();
        });
    }

    /// Closed with a reason, and the end of the stream.
    pub(crate) fn closed(&mut self, reason: Reason) {
        self.say(ToClient::Closed(Closed {
            reason: reason.into(),
            ..Default::default()
        }));
        self.responses = None;
    }
}

/// What [`ClientStream::opened`] says.
pub(crate) fn opened(mode: Mode, input_window: u64) -> Opened {
    let bob = Participant {
        subject: "bob".into(),
        proxy: "web".into(),
        ..Default::default()
    };
    Opened {
        session_id: "s1".into(),
        console: Some(Console {
            vm_name: "web-1".into(),
            alias: "serial0".into(),
            writer: (mode == Mode::View).then_some(bob),
            ..Default::default()
        }),
        mode: mode.into(),
        write_epoch: 3,
        position: at(0),
        oldest: at(0),
        next_input_offset: Some(0),
        input_window,
        ..Default::default()
    }
}

/// A position of generation 1.
pub(crate) fn at(offset: u64) -> Option<Position> {
    Some(Position {
        generation: 1,
        offset,
    })
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
        let (sender, responses) = mpsc::channel(4);
        let stream = ClientStream {
            requests: request.into_inner(),
            responses: Some(sender),
            runtime: Handle::current(),
        };
        self.opened
            .send(stream)
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}
