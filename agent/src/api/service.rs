//! The calls of `ConsoleService`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use vmconsole_proto::v1;
use vmconsole_proto::v1::console_service_server::ConsoleService;
use vmconsole_proto::v1::stream_console_request::Message as FromClient;

use super::effects::Caller;
use super::list::{self, Filter};
use super::open::{self, Refusal};
use super::refusal::{open_refused, status};
use super::streams::{first_message, not_open, note_refusal, responses};
use super::watch::Watcher;
use super::{convert, diagnose, stream};
use crate::console::{ChangeBook, Directory};
use crate::core::id::PeerIdentity;
use crate::core::reason::Reason;
use crate::diagnosis::{Diagnosis, Usage};
use crate::session::effects::Effects;
use crate::session::{LastHeard, Sessions};
use crate::shutdown::Tasks;

/// The proxy that a call came through: in every admitted request's extensions.
#[derive(Clone, Debug)]
pub struct Proxy(pub PeerIdentity);

/// Limits of calls.
#[derive(Clone, Debug)]
pub struct StreamLimits {
    /// How long a stream may be open without its first message.
    pub first_message: Duration,
    /// Watchers at once.
    pub watchers: usize,
}

/// What the calls are done by.
#[derive(Debug)]
pub struct Served {
    /// Opens sessions.
    pub sessions: Arc<Sessions>,
    /// Does side effects.
    pub effects: Effects,
    /// Finds out why something does not work.
    pub diagnosis: Diagnosis,
}

/// The calls of `ConsoleService`.
#[derive(Debug)]
pub struct ConsoleApi {
    directory: watch::Receiver<Arc<Directory>>,
    book: Arc<ChangeBook>,
    sessions: Arc<Sessions>,
    effects: Effects,
    diagnosis: Diagnosis,
    tasks: Tasks,
    draining: CancellationToken,
    watchers: Arc<Semaphore>,
    limits: StreamLimits,
}

impl ConsoleApi {
    /// Serves the consoles of `directory`; streams end when `draining` is cancelled.
    pub fn new(
        directory: watch::Receiver<Arc<Directory>>,
        book: Arc<ChangeBook>,
        served: Served,
        tasks: Tasks,
        draining: CancellationToken,
        limits: StreamLimits,
    ) -> Self {
        let watchers = Arc::new(Semaphore::new(limits.watchers));
        Self {
            directory,
            book,
            sessions: served.sessions,
            effects: served.effects,
            diagnosis: served.diagnosis,
            tasks,
            draining,
            watchers,
            limits,
        }
    }

    /// What is in use of what is limited.
    fn usages(&self) -> [Usage; 2] {
        let (sessions, most) = self.sessions.in_use();
        let watchers = self.limits.watchers;
        let of = |key, used, limit| Usage { key, used, limit };
        [
            of("limits.sessions", sessions, most),
            of(
                "limits.watchers",
                watchers.saturating_sub(self.watchers.available_permits()),
                watchers,
            ),
        ]
    }

    /// A call for a side effect.
    fn caller<T>(&self, request: Request<T>) -> Result<Caller<'_, T>, Status> {
        Ok(Caller {
            proxy: proxy(&request)?,
            request: request.into_inner(),
            directory: self.directory(),
            effects: &self.effects,
        })
    }

    fn directory(&self) -> Arc<Directory> {
        self.directory.borrow().clone()
    }

    async fn open(
        &self,
        (proxy, heard): (PeerIdentity, LastHeard),
        mut messages: Streaming<v1::StreamConsoleRequest>,
    ) -> Result<BoxStream<v1::StreamConsoleResponse>, Refusal> {
        let deadline = self.limits.first_message;
        let first = first_message(&mut messages, deadline, &self.draining).await?;
        let Some(FromClient::Open(open)) = first.message else {
            return Err(not_open());
        };
        let (request, mode) = open::request(&open, proxy, heard)?;
        let console = open::console(&self.directory(), open.console.as_ref())?;
        let (opened, session, inbound) = self
            .sessions
            .open(&console, request)
            .await
            .map_err(|error| (error.reason(), open_refused(&error)))?;
        let opened = convert::opened(&opened, mode);
        let reader = self
            .tasks
            .spawn_owned("inbound", stream::take_messages(messages, inbound));
        Ok(Box::pin(responses(opened, session, reader)))
    }
}

/// The proxy that a call came through.
pub(super) fn proxy<T>(request: &Request<T>) -> Result<PeerIdentity, Status> {
    match request.extensions().get::<Proxy>() {
        Some(Proxy(proxy)) => Ok(proxy.clone()),
        None => Err(status(
            Reason::Unauthenticated,
            "the call came by no known way",
        )),
    }
}

/// The last sign of life of the connection that a call came by.
pub(super) fn last_heard<T>(request: &Request<T>) -> LastHeard {
    // One of the call itself, if the connection keeps none.
    let heard = request.extensions().get::<LastHeard>();
    heard.cloned().unwrap_or_default()
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ConsoleService for ConsoleApi {
    async fn list_consoles(
        &self,
        request: Request<v1::ListConsolesRequest>,
    ) -> Result<Response<v1::ListConsolesResponse>, Status> {
        let trouble = self.diagnosis.not_connected();
        list::page(&self.directory(), trouble, request.into_inner()).map(Response::new)
    }

    type WatchConsolesStream = BoxStream<v1::WatchConsolesResponse>;

    async fn watch_consoles(
        &self,
        request: Request<v1::WatchConsolesRequest>,
    ) -> Result<Response<Self::WatchConsolesStream>, Status> {
        let request = request.into_inner();
        let filter = Filter::new(request.filter)?;
        let permit = self.watchers.clone().try_acquire_owned().map_err(|_| {
            let limit = self.limits.watchers;
            let message = format!("{limit} watchers is the most that limits.watchers allows");
            status(Reason::LimitReached, message)
        })?;
        let watcher = Watcher {
            filter,
            directory: self.directory.clone(),
            news: self.book.news(),
            place: self.book.place(&request.after_version),
            book: self.book.clone(),
            draining: self.draining.clone(),
            _permit: permit,
        };
        Ok(Response::new(Box::pin(super::watch::responses(watcher))))
    }

    async fn diagnose_console(
        &self,
        request: Request<v1::DiagnoseConsoleRequest>,
    ) -> Result<Response<v1::DiagnoseConsoleResponse>, Status> {
        diagnose::console(&self.diagnosis, &self.directory(), request.into_inner())
            .await
            .map(Response::new)
    }

    async fn diagnose_host(
        &self,
        _request: Request<v1::DiagnoseHostRequest>,
    ) -> Result<Response<v1::DiagnoseHostResponse>, Status> {
        diagnose::host(&self.diagnosis, &self.usages())
            .await
            .map(Response::new)
    }

    async fn send_break(
        &self,
        request: Request<v1::SendBreakRequest>,
    ) -> Result<Response<v1::SendBreakResponse>, Status> {
        self.caller(request)?.send_break().await
    }

    async fn send_keys(
        &self,
        request: Request<v1::SendKeysRequest>,
    ) -> Result<Response<v1::SendKeysResponse>, Status> {
        self.caller(request)?.send_keys().await
    }

    async fn inject_nmi(
        &self,
        request: Request<v1::InjectNmiRequest>,
    ) -> Result<Response<v1::InjectNmiResponse>, Status> {
        self.caller(request)?.inject_nmi().await
    }

    type CaptureScreenshotStream = BoxStream<v1::CaptureScreenshotResponse>;

    async fn capture_screenshot(
        &self,
        request: Request<v1::CaptureScreenshotRequest>,
    ) -> Result<Response<Self::CaptureScreenshotStream>, Status> {
        let held = self.caller(request)?.screenshot().await?;
        let pieces = super::effects::pieces(held, &self.tasks);
        Ok(Response::new(Box::pin(pieces)))
    }

    type StreamConsoleStream = BoxStream<v1::StreamConsoleResponse>;

    async fn stream_console(
        &self,
        request: Request<Streaming<v1::StreamConsoleRequest>>,
    ) -> Result<Response<Self::StreamConsoleStream>, Status> {
        let proxy = proxy(&request)?;
        let name = proxy.clone();
        let heard = last_heard(&request);
        self.open((proxy, heard), request.into_inner())
            .await
            .map(Response::new)
            .map_err(|refusal| note_refusal(&self.sessions, &name, refusal))
    }
}
