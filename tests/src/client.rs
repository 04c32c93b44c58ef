//! A small client of the agent: lists, attaches, types, reads, and checks on the way that
//! whatever it received joins without a seam.
//!
//! It never reconnects and never hides a loss: a broken promise of the agent is a panic.

mod receive;
mod relay;
mod send;
mod watch;

use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error, Identity};
use vmconsole_proto::v1;
use vmconsole_proto::v1::console_service_client::ConsoleServiceClient;
use vmconsole_proto::v1::stream_console_request::Message as Request;
use vmconsole_proto::v1::stream_console_response::Message as Response;

pub use receive::ReceiveHalf;
pub use relay::{Relay, relay_open};
pub use send::SendHalf;

use crate::pki::{AGENT_NAME, Credentials};

/// Messages that wait to be sent on one stream.
const SEND_QUEUE: usize = 64;

/// How much the agent may send before the client has read it, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// On one stream.
    pub stream: u32,
    /// On all streams of the connection together.
    pub connection: u32,
}

impl Default for Windows {
    /// What was fastest where there is a round-trip time.
    fn default() -> Self {
        Self {
            stream: 4 * 1024 * 1024,
            connection: 8 * 1024 * 1024,
        }
    }
}

/// One HTTP/2 connection to an agent. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    service: ConsoleServiceClient<Channel>,
}

/// The way to the agent at `address`, for the owner of `credentials` (or with no
/// certificate). Trusts agents whose certificate `ca_pem` signed for [`AGENT_NAME`].
///
/// # Errors
/// The transport's, if the PEM is none.
pub fn endpoint(
    address: SocketAddr,
    ca_pem: &str,
    credentials: Option<&Credentials>,
    windows: Windows,
) -> Result<Endpoint, Error> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca_pem))
        .domain_name(AGENT_NAME);
    if let Some(Credentials { certificate, key }) = credentials {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?;
    Ok(endpoint
        .tcp_nodelay(true)
        .initial_stream_window_size(windows.stream)
        .initial_connection_window_size(windows.connection))
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// The transport's. With TLS 1.3 a refusal of the client's certificate may show only
    /// at the first call.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, Error> {
        let channel = endpoint.connect().await?;
        let service = ConsoleServiceClient::new(channel.clone());
        Ok(Self { channel, service })
    }

    /// The generated client, for calls that have no method here.
    pub fn service(&self) -> ConsoleServiceClient<Channel> {
        self.service.clone()
    }

    /// Every console, page by page.
    ///
    /// # Errors
    /// The agent's refusal.
    pub async fn list(&self) -> Result<Vec<v1::Console>, Status> {
        let (mut consoles, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListConsolesRequest {
                page_token,
                ..Default::default()
            };
            let page = self.service().list_consoles(request).await?.into_inner();
            consoles.extend(page.consoles);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(consoles);
            }
        }
    }

    /// Opens a stream with `open`.
    ///
    /// # Errors
    /// The agent's refusal.
    ///
    /// # Panics
    /// When the first message is not `Opened`.
    pub async fn attach(&self, open: v1::Open) -> Result<Attached, Status> {
        let window = open.output_window;
        let (requests, queue) = mpsc::channel(SEND_QUEUE);
        let first = v1::StreamConsoleRequest {
            message: Some(Request::Open(open)),
        };
        requests.try_send(first).expect("the queue is new");
        let queue = ReceiverStream::new(queue);
        let mut messages = self.service().stream_console(queue).await?.into_inner();
        let opened = match messages.message().await?.and_then(|first| first.message) {
            Some(Response::Opened(opened)) => opened,
            other => panic!("the first message was not Opened: {other:?}"),
        };
        let send = SendHalf::new(requests, &opened);
        let receive = ReceiveHalf::new(messages, send.clone_for_acks(), &opened, window);
        Ok(Attached {
            opened,
            send,
            receive,
        })
    }
}

/// An open stream. Dropping `receive` cancels it.
#[derive(Debug)]
pub struct Attached {
    /// The agent's first message.
    pub opened: v1::Opened,
    /// What types.
    pub send: SendHalf,
    /// What reads.
    pub receive: ReceiveHalf,
}

impl Attached {
    /// Detaches, and reads until the stream has ended. Returns the reason it was given.
    ///
    /// # Panics
    /// When the stream does not end within `bound` with `Closed` and then OK.
    pub async fn detach(mut self, bound: std::time::Duration) -> v1::Closed {
        self.send.send(Request::Detach(v1::Detach {})).await;
        let (closed, status) = self.receive.closed(bound).await;
        assert!(status.is_none(), "{status:?} after {closed:?}");
        closed
    }
}

/// What is meant of the VM named `vm` where no alias says it.
fn first_of(vm: &str) -> v1::ConsoleRef {
    v1::ConsoleRef {
        vm: Some(v1::console_ref::Vm::VmName(vm.to_owned())),
        alias: String::new(),
    }
}

/// An `Open` of the default console of the VM named `vm`, in `mode`, live.
pub fn open(vm: &str, mode: v1::Mode) -> v1::Open {
    v1::Open {
        console: Some(first_of(vm)),
        mode: mode.into(),
        ..Default::default()
    }
}
