//! `vmconsolectl attach` and `tail`: one console on this terminal, or between pipes.
//!
//! Layers: `escape`, `window`, `typed`, `session`, `leaving`, `reconnect`, `heartbeat` and
//! `notices` are pure; `terminal`, `keyboard`, `screen`, `signals`, `link` and `breaks` are the
//! outside; `drive` joins them. Refuses to touch the terminal before the agent has opened the
//! console.

mod breaks;
mod drive;
pub(crate) mod escape;
pub(crate) mod heartbeat;
mod keyboard;
pub(crate) mod leaving;
pub(crate) mod link;
pub(crate) mod notices;
mod reconnect;
mod screen;
mod session;
pub(crate) mod signals;
mod terminal;
mod typed;
pub(crate) mod window;

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use self::breaks::Breaks;
pub(crate) use self::drive::sleep_until_some;
use self::drive::{Dialer, Drive, Parts, Way};
use self::escape::{EscapeKey, Escapes};
pub(crate) use self::link::LinkError;
use self::link::{OUTPUT_WINDOW, Stream, console_of, dial, first_open};
use self::reconnect::Reconnect;
use self::screen::{Screen, Sinks};
use self::session::{Claim, Session, Typing};
use self::signals::Signals;
use self::terminal::RawTerminal;
use crate::connect::Connector;
use crate::exit::Exit;

/// What the caller wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Type, if nobody else does.
    Write,
    /// Type, as soon as nobody else does.
    Queue,
    /// Only watch.
    View,
    /// Type, and take the lease from whoever holds it, for this reason.
    TakeOver(String),
}

impl Wish {
    /// What is asked for when the session is opened again.
    const fn claim(&self) -> Claim {
        match self {
            Self::View => Claim::View,
            Self::Queue => Claim::Queue,
            Self::Write | Self::TakeOver(_) => Claim::IfFree,
        }
    }
}

/// Where output begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// With what comes from now on.
    Live,
    /// With so many bytes of earlier output.
    Bytes(u64),
    /// With so many lines of earlier output.
    Lines(u32),
}

/// Standard input is not read, terminal or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Up to what there was when the stream was opened.
    Once,
    /// For good.
    Follow,
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
    /// Where to begin.
    pub(crate) begin: Begin,
    /// Whether this is `tail`, and how long it lasts.
    pub(crate) tail: Option<Tail>,
    /// Escapes at a terminal.
    pub(crate) escape: EscapeKey,
    /// How long it must be quiet after the end of a pipe.
    pub(crate) linger: Duration,
    /// For how long a stream that broke is opened again; zero for not at all.
    pub(crate) reconnect: Duration,
}

impl Options {
    fn typing(&self) -> Typing {
        match (self.tail, io::stdin().is_terminal(), &self.wish) {
            (Some(_), _, _) | (None, false, Wish::View) => Typing::Nobody,
            (None, true, _) => Typing::Terminal,
            (None, false, _) => Typing::Pipe,
        }
    }
}

/// Why nothing was attached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// No stream.
    #[error(transparent)]
    Link(#[from] LinkError),
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
pub(crate) async fn run(connector: Connector, options: Options) -> Result<Exit, AttachError> {
    let typing = options.typing();
    let connector = Arc::new(connector);
    let first = first_open(&options, typing);
    let (opened, stream) = dial(Arc::clone(&connector), first).await?;
    let console = console_of(&opened, &options);
    let breaks = Breaks::new(stream.channel.clone(), console.clone());
    let head = opened.console.as_ref().and_then(|console| console.head);
    let (mut session, mut effects) = Session::open(opened, typing, options.escape, OUTPUT_WINDOW);
    if options.wish != Wish::View {
        effects.extend(session.wanted_to_write(options.wish.claim()));
    }
    if options.tail == Some(Tail::Once) {
        effects.extend(session.end_at(head));
    }
    let dialer = Dialer::new(connector, console, typing);
    let parts = parts(session, &options, typing, (stream, dialer, breaks))?;
    Ok(Drive::new(parts, effects).run().await)
}

/// Takes hold of the terminal, or the pipes. The terminal comes last, when nothing can fail
/// any more.
fn parts(
    session: Session,
    options: &Options,
    typing: Typing,
    (stream, dialer, breaks): (Stream, Dialer, Breaks),
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
    Ok(Parts {
        session,
        typing,
        escapes,
        terminal,
        reads,
        screen,
        signals,
        way: Way::up(stream),
        dialer,
        breaks,
        reconnect: Reconnect::new(options.reconnect),
        linger: options.linger,
    })
}
