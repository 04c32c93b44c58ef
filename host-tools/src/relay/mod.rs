//! `vmconsolectl vnc` and `relay`: a local socket for viewers and proxies that do not speak to
//! the agent themselves.
//!
//! ```text
//!   viewer ─ TCP, unix socket ─▶ serve ─▶ line ─ RelayGraphics, StreamConsole ─▶ agent
//! ```
//!
//! Layers: `wire` names both calls alike; `pending` and `session` are pure; `local`, `listen`,
//! `socket_file`, `viewer` and `link` are the outside; `line` joins one connection with one
//! stream, and `serve` looks after all. Refuses to look into the bytes, and to open a stream
//! again that broke.

mod find;
mod line;
mod link;
mod listen;
mod local;
mod pending;
mod say;
mod serve;
mod session;
mod socket_file;
mod viewer;
mod wire;

use std::io;
use std::path::PathBuf;

use vmconsole_proto::v1::GraphicsRules;

pub(crate) use self::find::{FindError, Wanted};
use self::listen::Listener;
pub(crate) use self::listen::{ListenAddress, ListenError};
pub(crate) use self::serve::MAX_CONNECTIONS;
use self::serve::{Plan, Service};
use self::viewer::Viewer;
pub(crate) use self::viewer::ViewerError;
use self::wire::{Asked, Kind};
use crate::attach::Wish;
use crate::attach::signals::{Asked as SignalAsked, Signals};
use crate::connect::{ConnectError, Connector};
use crate::exit::Exit;
use crate::list::{self, ListError};
use crate::output::{print, tell};

/// What to relay, and to where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// UUID or name of the VM.
    pub(crate) vm: String,
    /// Alias; empty for the first that is wanted.
    pub(crate) console: String,
    /// What is looked for.
    pub(crate) wanted: Wanted,
    /// Where to listen.
    pub(crate) listen: ListenAddress,
    /// Whether the first connection is the last.
    pub(crate) once: bool,
    /// Whether a viewer is started, and the end is its own.
    pub(crate) viewer: Option<ViewerChoice>,
    /// Mode.
    pub(crate) wish: Wish,
    /// Whether to watch where another writes.
    pub(crate) view_otherwise: bool,
    /// Whether nobody else may be at the display.
    pub(crate) exclusive: bool,
    /// Whether the clipboard is kept back, both ways.
    pub(crate) no_clipboard: bool,
    /// Keys, and keys pressed together, that are kept back.
    pub(crate) refused_keys: Vec<String>,
}

/// Which viewer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ViewerChoice {
    /// The first that is installed.
    First,
    /// This program.
    Named(PathBuf),
}

/// Why nothing was relayed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Which consoles there are, is not known.
    #[error(transparent)]
    List(#[from] ListError),
    /// There is none to relay.
    #[error(transparent)]
    Find(#[from] FindError),
    /// Options for another sort of console.
    #[error("{0} is no display: leave --exclusive, --no-clipboard and --refuse-key out")]
    NoDisplay(String),
    /// No socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No viewer.
    #[error(transparent)]
    Viewer(#[from] ViewerError),
    /// Signals.
    #[error("cannot set up signals")]
    Signals(#[source] io::Error),
    /// Stdout.
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
}

impl RelayError {
    /// The exit for it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Connect(_) => Exit::Unreachable,
            Self::List(ListError::Refused(refusal)) => refusal.exit_before_open(),
            Self::Find(FindError::NoVm(_) | FindError::NoConsole { .. }) => Exit::NotFound,
            Self::Find(
                FindError::NoDisplay { .. } | FindError::NotVnc { .. } | FindError::Kind { .. },
            ) => Exit::NotPossible,
            Self::NoDisplay(_) => Exit::Usage,
            Self::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::List(_)
            | Self::Find(FindError::TwoVms(_))
            | Self::Listen(_)
            | Self::Viewer(_)
            | Self::Signals(_)
            | Self::Stdout(_) => Exit::Failed,
        }
    }
}

/// Finds the console, listens, and serves, until a signal. What happens to a connection is told
/// on stderr, and by the exit where there is only one.
///
/// # Errors
/// [`RelayError`], before anybody was served.
pub(crate) async fn run(connector: Connector, options: Options) -> Result<Exit, RelayError> {
    let mut signals = Signals::listen(false).map_err(RelayError::Signals)?;
    let begun = tokio::select! {
        biased;
        exit = ended_by(&mut signals) => return Ok(exit),
        begun = begin(&connector, &options) => begun?,
    };
    let (listener, viewer) = (begun.listener, begun.viewer);
    if viewer.is_none() {
        tell(&hint(&begun.name, begun.kind, &listener));
        print(&format!("{listener}\n")).map_err(RelayError::Stdout)?;
    }
    let plan = Plan {
        connector,
        asked: begun.asked,
        kind: begun.kind,
    };
    let service = Service::new(plan, listener, options.once, viewer, signals);
    Ok(service.run().await)
}

/// What is there once somebody may come.
struct Begun {
    /// `VM/ALIAS`.
    name: String,
    kind: Kind,
    asked: Asked,
    listener: Listener,
    viewer: Option<Viewer>,
}

/// Finds the console, listens, and starts the viewer.
///
/// # Errors
/// [`RelayError`].
///
/// # Cancel safety
/// Nobody listens, and no viewer runs, if dropped.
async fn begin(connector: &Connector, options: &Options) -> Result<Begun, RelayError> {
    let program = match &options.viewer {
        Some(choice) => Some(program(choice)?),
        None => None,
    };
    let consoles = list::read_all(connector.connect().await?, vec![options.vm.clone()]).await?;
    let found = find::choose(&consoles, &options.vm, &options.console, options.wanted)?;
    let asked = asked(options, found.console);
    if found.kind == Kind::Serial && of_displays(&asked) {
        return Err(RelayError::NoDisplay(found.name));
    }
    let listener = Listener::bind(&options.listen).await?;
    warn_if_open(&listener);
    let viewer = match (program, listener.tcp()) {
        (Some(program), Some(to)) => Some(Viewer::start(&program, to)?),
        _ => None,
    };
    Ok(Begun {
        name: found.name,
        kind: found.kind,
        asked,
        listener,
        viewer,
    })
}

/// The exit for the next signal that asks for the end.
///
/// # Cancel safety
/// No signal is lost.
async fn ended_by(signals: &mut Signals) -> Exit {
    loop {
        if let SignalAsked::End(number) = signals.next().await {
            return Exit::Signal(number as i32 as u8);
        }
    }
}

fn program(choice: &ViewerChoice) -> Result<PathBuf, ViewerError> {
    let named = match choice {
        ViewerChoice::First => None,
        ViewerChoice::Named(program) => Some(program.clone()),
    };
    viewer::find(named, std::env::var_os("PATH").as_deref())
}

/// What every connection asks for.
fn asked(options: &Options, console: vmconsole_proto::v1::ConsoleRef) -> Asked {
    Asked {
        console,
        wish: options.wish.clone(),
        view_otherwise: options.view_otherwise,
        exclusive: options.exclusive,
        rules: GraphicsRules {
            view_only: options.wish == Wish::View,
            refuse_clipboard_to_guest: options.no_clipboard,
            refuse_clipboard_from_guest: options.no_clipboard,
            refused_keys: options.refused_keys.clone(),
        },
    }
}

/// Whether something is asked for that only displays have.
const fn of_displays(asked: &Asked) -> bool {
    let rules = &asked.rules;
    asked.exclusive || rules.refuse_clipboard_to_guest || !rules.refused_keys.is_empty()
}

/// Warns of an address that other hosts reach.
fn warn_if_open(listener: &Listener) {
    if !listener.is_local() {
        tell(&format!(
            "warning: whoever reaches {listener} has the console: what is relayed there has no \
             password and no encryption"
        ));
    }
}

/// Where it is, for a person.
fn hint(name: &str, kind: Kind, listener: &Listener) -> String {
    match (kind, listener.tcp()) {
        (Kind::Display, Some(to)) => format!(
            "{name} is at {to}, for instance for: vncviewer {}",
            viewer::address(to)
        ),
        _ => format!("{name} is at {listener}"),
    }
}
