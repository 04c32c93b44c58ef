//! Local connections, one task each, until a signal, the viewer's end, or the only one's.
//!
//! ```text
//!   Serving ── signal, the viewer's end, the only connection's end ──▶ Stopping
//!   Stopping ── all are over ──▶ exit
//! ```
//!
//! Refuses more than its limit at once: who comes then is told by being closed.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::ended_by;
use super::line::Line;
use super::link::open;
use super::listen::Listener;
use super::local::Local;
use super::say::Say;
use super::session::Session;
use super::viewer::Viewer;
use super::wire::{Asked, Display, Kind, Serial, Wire};
use crate::attach::LinkError;
use crate::attach::signals::Signals;
use crate::connect::Connector;
use crate::exit::Exit;
use crate::output::{chain, tell_unless_stuck};
use crate::refusal::Refusal;

/// How many local connections are served at once, each with a connection to the agent of its
/// own.
pub(crate) const MAX_CONNECTIONS: usize = 16;

/// How long accepting rests after it failed, for want of files or memory perhaps.
const ACCEPT_REST: Duration = Duration::from_secs(1);

/// What every local connection is joined to.
#[derive(Debug)]
pub(super) struct Plan {
    /// The agent.
    pub(super) connector: Connector,
    /// What is asked of it.
    pub(super) asked: Asked,
    /// By which call.
    pub(super) kind: Kind,
}

/// Why no more are served.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The only connection is over.
    Served,
    /// The viewer has ended, as it should.
    Viewer,
    /// The viewer has failed.
    ViewerFailed,
    /// This signal.
    Signal(Exit),
}

impl End {
    /// The exit, once it is known how every connection ended.
    const fn exit(self, trouble: Exit) -> Exit {
        match (self, trouble) {
            (Self::Signal(exit), _) => exit,
            (Self::ViewerFailed, Exit::Done) => Exit::Failed,
            (Self::Served | Self::Viewer | Self::ViewerFailed, trouble) => trouble,
        }
    }
}

/// Serves.
pub(super) struct Service {
    plan: Arc<Plan>,
    /// None once no more are wanted.
    listener: Option<Listener>,
    /// Until when nobody is accepted, since the last could not be.
    rest: Option<Instant>,
    once: bool,
    viewer: Option<Viewer>,
    signals: Signals,
    connections: JoinSet<Exit>,
    stop: watch::Sender<bool>,
    count: u64,
    /// What the newest connection that did not end well exits with.
    trouble: Exit,
}

impl Service {
    /// Serves by this plan whoever comes, or only one; the viewer's end is the end, if there is
    /// one.
    pub(super) fn new(
        plan: Plan,
        listener: Listener,
        once: bool,
        viewer: Option<Viewer>,
        signals: Signals,
    ) -> Self {
        Self {
            plan: Arc::new(plan),
            listener: Some(listener),
            rest: None,
            once,
            viewer,
            signals,
            connections: JoinSet::new(),
            stop: watch::Sender::new(false),
            count: 0,
            trouble: Exit::Done,
        }
    }

    /// Runs to the end, and returns what to exit with.
    pub(super) async fn run(mut self) -> Exit {
        let end = loop {
            if self.listener.is_none() && self.connections.is_empty() {
                break End::Served;
            }
            tokio::select! {
                biased;
                exit = ended_by(&mut self.signals) => break End::Signal(exit),
                Some(ended) = self.connections.join_next() => ended_with(&mut self.trouble, ended),
                status = viewer_ended(&mut self.viewer) => break self.viewer_left(status),
                accepted = accept(self.listener.as_ref(), self.rest) => self.accepted(accepted),
            }
        };
        self.finish(end).await
    }

    /// Somebody has come, or could not.
    fn accepted(&mut self, accepted: io::Result<(Local, String)>) {
        self.rest = None;
        let (local, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return,
            Err(error) => {
                tell_unless_stuck(&format!("cannot accept a connection: {error}"));
                self.rest = Some(Instant::now() + ACCEPT_REST);
                return;
            }
        };
        if self.connections.len() >= MAX_CONNECTIONS {
            tell_unless_stuck(&format!(
                "{MAX_CONNECTIONS} connections are served at once: the one from {from} was closed"
            ));
            return;
        }
        self.count += 1;
        let say = Say(self.count);
        say.tell(&format!("from {from}"));
        let (plan, stop) = (Arc::clone(&self.plan), self.stop.subscribe());
        self.connections.spawn(async move {
            let exit = match plan.kind {
                Kind::Display => joined::<Display>(&local, &plan, say, stop).await,
                Kind::Serial => joined::<Serial>(&local, &plan, say, stop).await,
            };
            local.close().await;
            say.tell("closed");
            exit
        });
        if self.once {
            self.listener = None;
        }
    }

    /// What the viewer's end means.
    fn viewer_left(&mut self, status: io::Result<ExitStatus>) -> End {
        let name = self.viewer.take();
        let name = name.as_ref().map_or("the viewer", Viewer::name);
        let why = match status {
            Ok(status) if status.success() => return End::Viewer,
            Ok(status) => format!("ended with {status}"),
            Err(error) => format!("cannot be waited for: {error}"),
        };
        tell_unless_stuck(&format!("{name} {why}"));
        End::ViewerFailed
    }

    /// Lets everybody go, and learns how they ended: what is asked twice is not waited for.
    async fn finish(mut self, end: End) -> Exit {
        self.listener = None;
        self.stop.send_replace(true);
        let viewer = self.viewer.take();
        let all = async {
            while let Some(ended) = self.connections.join_next().await {
                ended_with(&mut self.trouble, ended);
            }
            if let Some(viewer) = viewer {
                viewer.end().await;
            }
            end.exit(self.trouble)
        };
        tokio::select! {
            biased;
            exit = all => exit,
            exit = ended_by(&mut self.signals) => exit,
        }
    }
}

/// Takes down how a connection ended.
fn ended_with(trouble: &mut Exit, ended: Result<Exit, JoinError>) {
    match ended {
        Ok(Exit::Done) => {}
        Ok(exit) => *trouble = exit,
        Err(error) => {
            tell_unless_stuck(&format!(
                "bug of this program, please report it: a connection's task ended: {error}"
            ));
            *trouble = Exit::Failed;
        }
    }
}

/// One local connection, joined to a stream of its own.
async fn joined<W: Wire>(
    local: &Local,
    plan: &Plan,
    say: Say,
    mut stop: watch::Receiver<bool>,
) -> Exit {
    let opened = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => return Exit::Done,
        opened = open::<W>(&plan.connector, &plan.asked) => opened,
    };
    match opened {
        Ok((opening, stream)) => {
            let asked = &plan.asked;
            let session = Session::open(opening, &asked.wish, asked.view_otherwise);
            Line::new(local, stream, session, &say).run(stop).await
        }
        Err(error) => {
            say.tell(&chain(&error));
            if let LinkError::Refused(refusal) = &error
                && let Some(hint) = Refusal::hint_before_open(refusal)
            {
                say.tell(hint);
            }
            error.exit_before_open()
        }
    }
}

/// The next connection, if any is wanted, and not before the rest is over.
///
/// # Cancel safety
/// No connection is lost.
async fn accept(listener: Option<&Listener>, rest: Option<Instant>) -> io::Result<(Local, String)> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    if let Some(rest) = rest {
        sleep_until(rest).await;
    }
    listener.accept().await
}

/// The viewer's end, if there is one.
async fn viewer_ended(viewer: &mut Option<Viewer>) -> io::Result<ExitStatus> {
    match viewer {
        Some(viewer) => viewer.ended().await,
        None => std::future::pending().await,
    }
}
