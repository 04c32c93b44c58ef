//! `RelayGraphics`: two directions that share nothing but the relay's state.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use vmconsole_proto::v1;
use vmconsole_proto::v1::graphics_service_server::GraphicsService;
use vmconsole_proto::v1::relay_graphics_request::Message as FromCaller;

use super::convert;
use super::open::{self, Refusal, refuse};
use super::refusal::relay_refused;
use super::service::{last_heard, proxy};
use super::streams::{
    NO_GRANTS, SECOND_OPEN, Told, UNKNOWN_MESSAGE, end_broken, final_status, first_message,
    not_open, note_refusal, request_writer, responses,
};
use crate::console::{Console, Directory};
use crate::core::id::PeerIdentity;
use crate::core::lease::Claim;
use crate::core::reason::Reason;
use crate::core::rfb::rules::{Rules, parse_refused_keys};
use crate::graphics::Displays;
use crate::hypervisor::ConsoleKind;
use crate::session::relay::{Pipe, Relay, RelayEvent, RelayRequest};
use crate::session::{ClientRules, Event, Inbound, LastHeard, OnGap, Sessions};
use crate::shutdown::Tasks;

/// The calls of `GraphicsService`.
#[derive(Debug)]
pub struct GraphicsApi {
    directory: watch::Receiver<Arc<Directory>>,
    sessions: Arc<Sessions>,
    displays: Displays,
    tasks: Tasks,
    draining: CancellationToken,
    first_message: Duration,
}

impl GraphicsApi {
    /// Serves the displays of `directory`; streams end when `draining` is cancelled, and those
    /// that say nothing at first after `first_message`.
    pub const fn new(
        directory: watch::Receiver<Arc<Directory>>,
        sessions: Arc<Sessions>,
        displays: Displays,
        tasks: Tasks,
        draining: CancellationToken,
        first_message: Duration,
    ) -> Self {
        Self {
            directory,
            sessions,
            displays,
            tasks,
            draining,
            first_message,
        }
    }

    async fn open(
        &self,
        (proxy, heard): (PeerIdentity, LastHeard),
        mut messages: Streaming<v1::RelayGraphicsRequest>,
    ) -> Result<BoxStream, Refusal> {
        let first = first_message(&mut messages, self.first_message, &self.draining).await?;
        let Some(FromCaller::Open(open)) = first.message else {
            return Err(not_open());
        };
        let (request, mode) = request(&open, proxy, heard)?;
        let console = self.display(&open)?;
        let relay = self.sessions.relay(&self.displays, &console, request).await;
        let (opened, relay, inbound, pipe) =
            relay.map_err(|error| (error.reason(), relay_refused(&error)))?;
        let opened = convert::relay::opened(&opened, mode);
        let reader = self
            .tasks
            .spawn_owned("relay", take_messages(messages, inbound, pipe));
        Ok(Box::pin(responses(opened, relay, reader)))
    }

    /// The display that `open` names: the VM's first, if it names none.
    fn display(&self, open: &v1::RelayOpen) -> Result<Arc<Console>, Refusal> {
        let directory = self.directory.borrow().clone();
        let mut reference = open.console.clone();
        if let Some(reference) = &mut reference
            && reference.alias.is_empty()
            && let Some(vm) = &reference.vm
        {
            let vm = open::known(&directory, vm)?;
            let mut consoles = vm.consoles.iter();
            let first = consoles.find(|device| device.kind == ConsoleKind::Vnc);
            let none = || refuse(Reason::NotFound, "this VM has no VNC display");
            reference.alias = first.ok_or_else(none)?.alias.to_string();
        }
        open::console(&directory, reference.as_ref())
    }
}

/// What `open` asks for, and the mode it named.
fn request(
    open: &v1::RelayOpen,
    proxy: PeerIdentity,
    heard: LastHeard,
) -> Result<(RelayRequest, v1::Mode), Refusal> {
    let (mode, claim) = open::mode(open.mode)?;
    open::check_takeover_reason(&open.takeover_reason)
        .map_err(|message| refuse(Reason::BadRequest, message))?;
    if open.exclusive && (open.view_otherwise || claim == Some(Claim::Queue)) {
        let message = "exclusive goes neither with view_otherwise nor with WRITE_QUEUE";
        return Err(refuse(Reason::BadRequest, message));
    }
    let request = RelayRequest {
        proxy,
        claim,
        takeover_reason: open.takeover_reason.clone(),
        view_otherwise: open.view_otherwise,
        exclusive: open.exclusive,
        rules: rules(open.rules.as_ref())?,
        client: ClientRules {
            on_gap: OnGap::Note,
            output_window: open::output_window(open.output_window)?,
            heartbeat: open::heartbeat(open.heartbeat.as_ref())?,
            heard,
        },
    };
    Ok((request, mode))
}

fn rules(rules: Option<&v1::GraphicsRules>) -> Result<Rules, Refusal> {
    let Some(rules) = rules else {
        return Ok(Rules::default());
    };
    let refused_keys = parse_refused_keys(&rules.refused_keys)
        .map_err(|error| refuse(Reason::BadRequest, format!("rules.refused_keys: {error}")))?;
    Ok(Rules {
        view_only: rules.view_only,
        refuse_clipboard_to_guest: rules.refuse_clipboard_to_guest,
        refuse_clipboard_from_guest: rules.refuse_clipboard_from_guest,
        refused_keys,
    })
}

/// Takes what the caller sends until it sends no more, at once, whether or not it reads and
/// whether or not the display does.
async fn take_messages(
    mut messages: Streaming<v1::RelayGraphicsRequest>,
    inbound: Arc<Inbound>,
    mut pipe: Pipe,
) {
    let mut ended = false;
    while !inbound.is_closed() {
        let message = tokio::select! {
            biased; // what a session that ends still says is not looked at
            () = inbound.over() => break,
            () = inbound.expired() => break,
            // Never done: it ends the session itself.
            () = pipe.work() => break,
            message = messages.message(), if !ended => message,
        };
        match message {
            Ok(Some(request)) => take(request, &inbound, &mut pipe),
            Ok(None) => {
                ended = true;
                pipe.end();
            }
            Err(broken) => end_broken(&inbound, &broken),
        }
    }
    pipe.hang_up().await;
}

fn take(request: v1::RelayGraphicsRequest, inbound: &Inbound, pipe: &mut Pipe) {
    // Whether bytes are input of a person shows once they are looked into.
    inbound.heard(matches!(
        request.message,
        Some(FromCaller::RequestWriter(_))
    ));
    match request.message {
        Some(FromCaller::Data(data)) => pipe.take(data.offset, data.data),
        Some(FromCaller::Ack(ack)) => pipe.acknowledge(ack.offset),
        Some(FromCaller::Ping(ping)) => inbound.ping(ping.nonce),
        Some(FromCaller::Detach(_)) => inbound.close(Reason::ClientDetached, ""),
        Some(FromCaller::RequestWriter(request)) => request_writer(inbound, &request),
        Some(FromCaller::ReleaseWriter(_)) => inbound.release_writer(),
        Some(FromCaller::Reauthenticate(_)) => inbound.close(Reason::Unsupported, NO_GRANTS),
        Some(FromCaller::Open(_)) => inbound.close(Reason::BadRequest, SECOND_OPEN),
        None => inbound.close(Reason::BadRequest, UNKNOWN_MESSAGE),
    }
}

impl Told for Relay {
    type Message = v1::RelayGraphicsResponse;

    async fn tell(&mut self) -> Option<(Self::Message, Option<Status>)> {
        let event = self.next().await?;
        let status = match &event {
            RelayEvent::Session(Event::Closed(closed)) => Some(final_status(closed)),
            _ => None,
        };
        Some((convert::relay::event(event), status))
    }
}

type BoxStream = Pin<Box<dyn Stream<Item = Result<v1::RelayGraphicsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl GraphicsService for GraphicsApi {
    type RelayGraphicsStream = BoxStream;

    async fn relay_graphics(
        &self,
        request: Request<Streaming<v1::RelayGraphicsRequest>>,
    ) -> Result<Response<Self::RelayGraphicsStream>, Status> {
        let proxy = proxy(&request)?;
        let name = proxy.clone();
        let heard = last_heard(&request);
        self.open((proxy, heard), request.into_inner())
            .await
            .map(Response::new)
            .map_err(|refusal| note_refusal(&self.sessions, &name, refusal))
    }
}
