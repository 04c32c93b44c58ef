//! The stream to the agent: opened the first time, and again after it broke.
//!
//! Refuses to decide whether it is opened again, and to ask for more then than at first: a
//! takeover and the displacing of others are for the first time alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use vmconsole_proto::v1::console_service_client::ConsoleServiceClient;
use vmconsole_proto::v1::start::From as StartFrom;
use vmconsole_proto::v1::stream_console_request::Message as RequestMessage;
use vmconsole_proto::v1::stream_console_response::Message as ResponseMessage;
use vmconsole_proto::v1::{
    ConsoleRef, Live, Mode, Open, Opened, Start, StreamConsoleRequest, StreamConsoleResponse,
};

use super::heartbeat::{Heartbeat, INTERVAL};
use super::reconnect::Trouble;
use super::session::{Again, Claim, Typing};
use super::{Begin, Options, Wish};
use crate::connect::{ConnectError, Connector};
use crate::exit::Exit;
use crate::reference;
use crate::refusal::Refusal;

/// How many bytes of output the agent may be ahead of what was written out.
pub(super) const OUTPUT_WINDOW: u64 = 1 << 20;

/// How long the agent may take to open the console.
pub(crate) const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// How many messages wait for the connection; more stay with the session.
const REQUEST_QUEUE: usize = 16;

/// The agent's end of a stream that is open.
pub(super) struct Stream {
    /// To the agent.
    pub(super) requests: mpsc::Sender<StreamConsoleRequest>,
    /// From the agent.
    pub(super) inbound: Streaming<StreamConsoleResponse>,
    /// The connection.
    pub(super) channel: Channel,
    /// Signs of life, if the agent wants them.
    pub(super) heartbeat: Option<Heartbeat>,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The agent refused.
    #[error("cannot attach")]
    Refused(#[source] Refusal),
    /// The agent does not answer.
    #[error("the agent did not open the console within {} s", OPEN_TIMEOUT.as_secs())]
    Timeout,
    /// The agent began with something else than Opened.
    #[error("the agent did not begin with Opened: report this as a bug of the agent")]
    NotOpened,
}

impl LinkError {
    /// Whether it may be tried again.
    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Self::Connect(_) | Self::Timeout => Trouble::Passing,
            Self::Refused(refusal) => Trouble::of_refusal(refusal),
            Self::NotOpened => Trouble::Lasting,
        }
    }

    /// The exit where nothing was open before.
    pub(crate) fn exit_before_open(&self) -> Exit {
        match self {
            Self::Connect(_) | Self::Timeout => Exit::Unreachable,
            Self::Refused(refusal) => refusal.exit_before_open(),
            Self::NotOpened => Exit::Failed,
        }
    }

    /// The exit where it was not the first stream.
    pub(super) fn exit_after_open(&self) -> Exit {
        match self {
            Self::Connect(_) | Self::Timeout => Exit::Broken,
            Self::Refused(refusal) => refusal.exit_after_open(),
            Self::NotOpened => Exit::Failed,
        }
    }
}

/// Connects, and opens a stream with this message.
///
/// # Errors
/// [`LinkError`].
///
/// # Cancel safety
/// If dropped, the agent may have opened the session; its next resume fences it.
pub(super) async fn dial(
    connector: Arc<Connector>,
    open: Open,
) -> Result<(Opened, Stream), LinkError> {
    let channel = connector.connect().await?;
    let (requests, outbound) = mpsc::channel(REQUEST_QUEUE);
    let first = StreamConsoleRequest {
        message: Some(RequestMessage::Open(open)),
    };
    // The queue is new and has room.
    let _ = requests.try_send(first);
    let opening = open_stream(channel.clone(), outbound);
    let opened = tokio::time::timeout(OPEN_TIMEOUT, opening).await;
    let (opened, inbound) = opened.unwrap_or(Err(LinkError::Timeout))?;
    let interval = opened.heartbeat;
    let interval = interval.and_then(|interval| Duration::try_from(interval).ok());
    let stream = Stream {
        requests,
        inbound,
        channel,
        heartbeat: interval.map(|interval| Heartbeat::new(interval, Instant::now())),
    };
    Ok((opened, stream))
}

/// Opens the stream and takes its first message.
async fn open_stream(
    channel: Channel,
    outbound: mpsc::Receiver<StreamConsoleRequest>,
) -> Result<(Opened, Streaming<StreamConsoleResponse>), LinkError> {
    let refused = |status: Status| LinkError::Refused(Refusal::new(&status));
    let mut client = ConsoleServiceClient::new(channel);
    let answer = client
        .stream_console(ReceiverStream::new(outbound))
        .await
        .map_err(refused)?;
    let mut inbound = answer.into_inner();
    match inbound.message().await.map_err(refused)? {
        Some(StreamConsoleResponse {
            message: Some(ResponseMessage::Opened(opened)),
        }) => Ok((opened, inbound)),
        _ => Err(LinkError::NotOpened),
    }
}

/// The first message of the first stream.
pub(super) fn first_open(options: &Options, typing: Typing) -> Open {
    let (mode, takeover_reason) = match &options.wish {
        Wish::Write => (Mode::WriteIfFree, String::new()),
        Wish::Queue => (Mode::WriteQueue, String::new()),
        Wish::View => (Mode::View, String::new()),
        Wish::TakeOver(reason) => (Mode::WriteTakeover, reason.clone()),
    };
    let from = match options.begin {
        Begin::Live => StartFrom::Live(Live {}),
        Begin::Bytes(bytes) => StartFrom::TailBytes(bytes),
        Begin::Lines(lines) => StartFrom::TailLines(lines),
    };
    Open {
        console: Some(reference::console(&options.vm, &options.console)),
        mode: mode.into(),
        takeover_reason,
        // A person may as well watch; a program must know that it cannot write.
        view_otherwise: options.wish == Wish::Write && typing == Typing::Terminal,
        start: Some(Start { from: Some(from) }),
        heartbeat: heartbeat(),
        output_window: OUTPUT_WINDOW,
        displace_outside_holder: options.displace,
        ..Default::default()
    }
}

/// The first message of a stream that takes the place of one that broke.
pub(super) fn next_open(console: ConsoleRef, again: Again, typing: Typing) -> Open {
    Open {
        console: Some(console),
        mode: again.claim.mode().into(),
        view_otherwise: again.claim == Claim::IfFree && typing == Typing::Terminal,
        start: Some(Start {
            from: Some(StartFrom::Resume(again.position)),
        }),
        // An agent that has just started may not have attached the console yet.
        wait_for_start: true,
        heartbeat: heartbeat(),
        output_window: OUTPUT_WINDOW,
        resume_token: again.token,
        ..Default::default()
    }
}

/// The heartbeat that is promised.
pub(crate) fn heartbeat() -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(INTERVAL).ok()
}

/// The console that was opened, named as exactly as the agent did.
pub(super) fn console_of(opened: &Opened, options: &Options) -> ConsoleRef {
    match &opened.console {
        Some(console) if !console.vm_uuid.is_empty() => {
            reference::console(&console.vm_uuid, &console.alias)
        }
        Some(console) => reference::console(&options.vm, &console.alias),
        None => reference::console(&options.vm, &options.console),
    }
}

#[cfg(test)]
mod tests {
    use super::super::escape::EscapeKey;
    use super::*;

    fn options(vm: &str, wish: Wish) -> Options {
        Options {
            vm: vm.to_owned(),
            console: String::new(),
            wish,
            displace: false,
            begin: Begin::Live,
            tail: None,
            escape: EscapeKey::Off,
            linger: Duration::ZERO,
            reconnect: Duration::ZERO,
        }
    }

    #[test]
    fn only_a_person_is_content_with_watching() {
        let write = options("web", Wish::Write);
        assert!(first_open(&write, Typing::Terminal).view_otherwise);
        assert!(!first_open(&write, Typing::Pipe).view_otherwise);
        let takeover = first_open(
            &options("web", Wish::TakeOver("why".into())),
            Typing::Terminal,
        );
        assert_eq!(takeover.mode(), Mode::WriteTakeover);
        assert_eq!(takeover.takeover_reason, "why");
        assert!(!takeover.view_otherwise);
    }

    #[test]
    fn coming_back_takes_nothing_from_anybody() {
        for (claim, mode) in [
            (Claim::View, Mode::View),
            (Claim::IfFree, Mode::WriteIfFree),
            (Claim::Queue, Mode::WriteQueue),
        ] {
            let again = Again {
                position: Default::default(),
                token: vec![1],
                claim,
            };
            let open = next_open(ConsoleRef::default(), again, Typing::Terminal);
            assert_eq!(open.mode(), mode);
            assert!(!open.displace_outside_holder && open.takeover_reason.is_empty());
            assert_eq!(open.view_otherwise, claim == Claim::IfFree);
            assert_eq!(open.resume_token, vec![1]);
        }
    }
}
