//! `vmconsolectl attach`: one console on this terminal, or between pipes.
//!
//! Layers: `escape`, `window`, `session` and `notices` are pure; `terminal`, `keyboard`,
//! `screen`, `signals` and `breaks` are the outside; `drive` joins them. Refuses to touch the
//! terminal before the agent has opened the console.

mod breaks;
mod drive;
pub(crate) mod escape;
mod keyboard;
mod notices;
mod screen;
mod session;
mod signals;
mod terminal;
mod window;

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use vmconsole_proto::v1::console_service_client::ConsoleServiceClient;
use vmconsole_proto::v1::start::From as StartFrom;
use vmconsole_proto::v1::stream_console_request::Message as RequestMessage;
use vmconsole_proto::v1::stream_console_response::Message as ResponseMessage;
use vmconsole_proto::v1::{
    Live, Mode, Open, Opened, Start, StreamConsoleRequest, StreamConsoleResponse,
};

use self::breaks::Breaks;
use self::drive::{Drive, Parts, Stream};
use self::escape::{EscapeKey, Escapes};
use self::screen::{Screen, Sinks};
use self::session::{Session, Typing};
use self::signals::Signals;
use self::terminal::RawTerminal;
use crate::exit::Exit;
use crate::reference;
use crate::refusal::Refusal;

/// How many bytes of output the agent may be ahead of what was written out.
const OUTPUT_WINDOW: u64 = 1 << 20;

/// How long the agent may take to open the console.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// How many messages wait for the connection; more stay with the session.
const REQUEST_QUEUE: usize = 16;

/// What the caller wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Type, if nobody else does.
    Write,
    /// Only watch.
    View,
    /// Type, and take the lease from whoever holds it, for this reason.
    TakeOver(String),
}

/// What to attach to, and how.
#[derive(Debug)]
pub(crate) struct Options {
    /// UUID or name of the VM.
    pub(crate) vm: String,
    /// Alias; empty for the VM's first console.
    pub(crate) console: String,
    /// Mode.
    pub(crate) wish: Wish,
    /// Whether the console is taken away from who holds it outside the agent.
    pub(crate) displace: bool,
    /// How many bytes of earlier output to begin with.
    pub(crate) tail: u64,
    /// Escapes at a terminal.
    pub(crate) escape: EscapeKey,
    /// How long it must be quiet after the end of a pipe.
    pub(crate) linger: Duration,
}

/// Why nothing was attached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// The agent refused.
    #[error("cannot attach")]
    Refused(#[source] Refusal),
    /// The agent does not answer.
    #[error("the agent did not open the console within {} s", OPEN_TIMEOUT.as_secs())]
    Timeout,
    /// The agent began with something else than Opened.
    #[error("the agent did not begin with Opened: report this as a bug of the agent")]
    NotOpened,
    /// This side.
    #[error("cannot set up {what}")]
    Local {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Attaches, and stays until either side leaves. What happens after the console is open is
/// told on stderr and by the exit; errors are those of before.
///
/// # Errors
/// [`AttachError`], with the terminal as it was.
pub(crate) async fn run(channel: Channel, options: Options) -> Result<Exit, AttachError> {
    let typing = match (io::stdin().is_terminal(), &options.wish) {
        (true, _) => Typing::Terminal,
        (false, Wish::View) => Typing::Nobody,
        (false, _) => Typing::Pipe,
    };
    let (requests, outbound) = mpsc::channel(REQUEST_QUEUE);
    let first = StreamConsoleRequest {
        message: Some(RequestMessage::Open(open(&options, typing))),
    };
    // The queue is new and has room.
    let _ = requests.try_send(first);
    let opening = open_stream(channel.clone(), outbound);
    let (opened, inbound) = match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
        Ok(opened) => opened?,
        Err(_) => return Err(AttachError::Timeout),
    };
    let breaks = Breaks::new(channel, &opened, &options);
    let (session, mut effects) = Session::open(opened, typing, options.escape, OUTPUT_WINDOW);
    if options.wish != Wish::View {
        effects.extend(session.wanted_to_write());
    }
    let parts = parts(
        session,
        &options,
        typing,
        Stream {
            requests,
            inbound,
            breaks,
        },
    )?;
    Ok(Drive::new(parts, effects).run().await)
}

/// Opens the stream and takes its first message.
async fn open_stream(
    channel: Channel,
    outbound: mpsc::Receiver<StreamConsoleRequest>,
) -> Result<(Opened, Streaming<StreamConsoleResponse>), AttachError> {
    let refused = |status: Status| AttachError::Refused(Refusal::new(&status));
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
        _ => Err(AttachError::NotOpened),
    }
}

/// Takes hold of the terminal, or the pipes. The terminal comes last, when nothing can fail
/// any more.
fn parts(
    session: Session,
    options: &Options,
    typing: Typing,
    stream: Stream,
) -> Result<Parts, AttachError> {
    let local = |what| move |source| AttachError::Local { what, source };
    let at_terminal = typing == Typing::Terminal;
    let signals = Signals::listen(at_terminal).map_err(local("signals"))?;
    let sinks = || {
        Ok(Sinks {
            stdout: io::stdout().as_fd().try_clone_to_owned()?,
            stderr: io::stderr().as_fd().try_clone_to_owned()?,
            raw: at_terminal && io::stderr().is_terminal(),
        })
    };
    let screen = sinks()
        .and_then(Screen::start)
        .map_err(local("standard output"))?;
    let terminal = match at_terminal {
        true => {
            terminal::restore_on_panic();
            Some(RawTerminal::enter(io::stdin()).map_err(local("the terminal"))?)
        }
        false => None,
    };
    let reads = match typing {
        Typing::Terminal | Typing::Pipe => {
            Some(keyboard::start(io::stdin()).map_err(local("standard input"))?)
        }
        Typing::Nobody => None,
    };
    let escapes = at_terminal.then(|| Escapes::new(options.escape));
    let linger = options.linger;
    Ok(Parts {
        session,
        typing,
        escapes,
        terminal,
        reads,
        screen,
        signals,
        stream,
        linger,
    })
}

/// The first message.
fn open(options: &Options, typing: Typing) -> Open {
    let (mode, takeover_reason) = match &options.wish {
        Wish::Write => (Mode::WriteIfFree, String::new()),
        Wish::View => (Mode::View, String::new()),
        Wish::TakeOver(reason) => (Mode::WriteTakeover, reason.clone()),
    };
    let from = match options.tail {
        0 => StartFrom::Live(Live {}),
        bytes => StartFrom::TailBytes(bytes),
    };
    Open {
        console: Some(reference::console(&options.vm, &options.console)),
        mode: mode.into(),
        takeover_reason,
        // A person may as well watch; a program must know that it cannot write.
        view_otherwise: options.wish == Wish::Write && typing == Typing::Terminal,
        start: Some(Start { from: Some(from) }),
        output_window: OUTPUT_WINDOW,
        displace_outside_holder: options.displace,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(vm: &str, wish: Wish) -> Options {
        Options {
            vm: vm.to_owned(),
            console: String::new(),
            wish,
            displace: false,
            tail: 0,
            escape: EscapeKey::Off,
            linger: Duration::ZERO,
        }
    }

    #[test]
    fn only_a_person_is_content_with_watching() {
        let write = options("web", Wish::Write);
        assert!(open(&write, Typing::Terminal).view_otherwise);
        assert!(!open(&write, Typing::Pipe).view_otherwise);
        let takeover = open(
            &options("web", Wish::TakeOver("why".into())),
            Typing::Terminal,
        );
        assert_eq!(takeover.mode(), Mode::WriteTakeover);
        assert_eq!(takeover.takeover_reason, "why");
        assert!(!takeover.view_otherwise);
    }
}
