//! Looks after one QMP socket: connects, learns what its QEMU is, follows what happens to it,
//! and begins anew when that ends. It asks for nothing that nothing happened to.
//!
//! ```text
//!                    ┌──── backoff, or the socket changed ◀────┐
//!                    ▼                                         │
//!  connecting ─▶ greeting ─▶ learning ─▶ following ─ closed ─▶ gone? ─ yes: ended
//!                                ▲           │                   └──── no: lost
//!                                └── news ◀──┘
//! ```
//!
//! A QEMU that does not answer a question stays connected: its late answer is news. One that
//! does not greet is left alone for a while, since a monitor serves one client at a time, and
//! whoever waits in line may be the next to get it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::canvas::Canvas;
use super::claims::Standing;
use super::connect::{self, ConnectError, Connected, Peer};
use super::counters::Counters;
use super::effect;
use super::identity;
use super::learn::learn;
use super::order::{Order, Target};
use super::process::Process;
use super::qmp::client::{Client, ClientError};
use crate::core::id::VmUuid;
use crate::hypervisor::backoff::{Backoff, LONGEST_SOCKET};
use crate::hypervisor::{EffectError, Instance, display};

/// Events that come within this time of each other are one reason to ask.
const JOINED: Duration = Duration::from_millis(20);
/// The least time between two times of asking.
const APART: Duration = Duration::from_millis(250);
/// How long until a QEMU is asked again that is between two states of which it tells only the
/// first: at first, and at most.
const PASSING: Duration = Duration::from_millis(250);
const PASSING_LONG: Duration = Duration::from_secs(5);
/// How long a connection must have lasted so that the next one is tried at once.
const STEADY: Duration = Duration::from_secs(5);

/// What a socket's QEMU is now.
pub(super) type Report = (PathBuf, Standing);

/// One socket's task.
pub(super) struct Monitor {
    path: PathBuf,
    shared: Arc<Shared>,
    reports: mpsc::Sender<Report>,
    orders: mpsc::Receiver<Order>,
    /// Rung when what lies at the path is another thing.
    changed: Arc<Notify>,
    /// The QEMU that was last connected to and is not known to have ended.
    process: Option<Process>,
    /// Whom the connection of now, or else the last one, is with.
    instance: Option<Instance>,
    /// What that one's pictures go through.
    canvas: Option<Canvas>,
    /// When that one was last reset, as far as its monitor was listened to.
    last_reset: Option<SystemTime>,
    /// Who it says that it is; `None` as long as it did not, on this connection.
    told: Option<Target>,
    /// The identity that the socket's path gives. It stays what it was at first, whatever
    /// symbolic links lead to the path later.
    own: Option<VmUuid>,
    reported: Standing,
}

impl Monitor {
    /// Will look after the socket at `path`, once [run](Self::run).
    pub(super) fn new(
        path: &Path,
        shared: Arc<Shared>,
        reports: mpsc::Sender<Report>,
        orders: mpsc::Receiver<Order>,
        changed: Arc<Notify>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            shared,
            reports,
            orders,
            changed,
            process: None,
            instance: None,
            canvas: None,
            last_reset: None,
            told: None,
            own: None,
            reported: Standing::Untried,
        }
    }

    /// Looks after it for ever.
    ///
    /// # Cancel safety
    /// If dropped, its connection is closed.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(LONGEST_SOCKET);
        loop {
            let standing = self.serve(&mut backoff).await;
            self.report(standing).await;
            let until = Instant::now() + backoff.next(rand::random());
            if self.rest(until).await {
                backoff.reset();
            }
        }
    }

    /// Waits until the next try; tells whether the socket changed meanwhile. Orders are refused.
    async fn rest(&mut self, until: Instant) -> bool {
        loop {
            tokio::select! {
                () = self.changed.notified() => return true,
                () = sleep_until(until) => return false,
                Some(order) = self.orders.recv() => {
                    let refusal = match &self.reported {
                        Standing::Lost(why) => EffectError::NotDone(why.to_string()),
                        _ => EffectError::NotRunning,
                    };
                    // Whoever asked may be gone.
                    let _ = order.done.send(Err(refusal));
                }
            }
        }
    }

    /// Connects and serves until that ends. Tells what the QEMU is then.
    async fn serve(&mut self, backoff: &mut Backoff) -> Standing {
        let failures = &Arc::clone(&self.shared).counters.connects_failed;
        let limit = self.shared.config.command_timeout;
        let connected = match connect::connect(&self.path, &self.shared.config.owners).await {
            Ok(connected) => connected,
            Err(error) => {
                Counters::bump(failures);
                return self.not_connected(&error);
            }
        };
        let (stream, peer) = self.meet(connected).await;
        let counters = Arc::clone(&self.shared.counters);
        let greeting = self.shared.config.greeting_timeout;
        let mut client = match Client::greet(stream, greeting, limit, counters).await {
            Ok(client) => client,
            Err(error) => {
                Counters::bump(failures);
                return self.lost(error).await;
            }
        };
        let error = match self.learn(&mut client, peer).await {
            Ok(()) => {
                Counters::bump(&self.shared.counters.connects);
                let since = Instant::now();
                let error = self.follow(&mut client, peer).await;
                Counters::bump(&self.shared.counters.disconnects);
                if self.may_be_tried_at_once(since) {
                    backoff.reset();
                }
                error
            }
            Err(error) => {
                Counters::bump(failures);
                error
            }
        };
        drop(client);
        self.lost(error).await
    }

    /// Takes in whom it is connected with.
    async fn meet(&mut self, connected: Connected) -> (UnixStream, Peer) {
        let Connected { stream, peer, path } = connected;
        if self.process.is_some() && self.process != peer.process {
            self.report(Standing::Ended).await;
        }
        self.process = peer.process;
        self.told = None;
        self.own.get_or_insert_with(|| identity::of_path(&path));
        // What another one has open is not to be written to by this one.
        if self.instance.replace(peer.instance) != Some(peer.instance) {
            self.canvas = None;
            self.last_reset = None;
        }
        (stream, peer)
    }

    /// Whether the connection of now, of use `since` then, was good to its end, or another
    /// socket waits. Who greets, tells, and breaks the rules is not tried again and again.
    fn may_be_tried_at_once(&self, since: Instant) -> bool {
        match &self.reported {
            Standing::Serving { trouble, .. } => trouble.is_some() || since.elapsed() >= STEADY,
            _ => false,
        }
    }

    /// Does what is ordered, and asks again when something happened, until that fails.
    async fn follow(&mut self, client: &mut Client, peer: Peer) -> ClientError {
        let (mut due, mut asked) = (None, Instant::now());
        let mut passing = PASSING;
        if self.is_passing() {
            due = Some(asked + passing);
        }
        loop {
            tokio::select! {
                biased; // Somebody waits for an order; and events may come without end.
                Some(order) = self.orders.recv() => {
                    // Whoever gave it up may have given another since.
                    if order.done.is_closed() { continue }
                    if self.told != Some(order.target) {
                        // Whoever asked may be gone.
                        let _ = order.done.send(Err(self.not_the_target()));
                        continue;
                    }
                    let (outcome, broken) =
                        effect::perform(client, &mut self.canvas, &order.deed).await;
                    // Whoever asked may be gone.
                    let _ = order.done.send(outcome);
                    if let Some(error) = broken { return error }
                }
                () = sleep_until(due.unwrap_or(asked)), if due.is_some() => {
                    if let Err(error) = self.learn(client, peer).await { return error }
                    (due, asked) = (None, Instant::now());
                    passing = if self.is_passing() {
                        due = Some(asked + passing);
                        (2 * passing).min(PASSING_LONG)
                    } else {
                        PASSING
                    };
                }
                () = self.changed.notified() => self.look(peer).await,
                news = client.news() => {
                    if let Err(error) = news { return error }
                    due = due.or(Some((Instant::now() + JOINED).max(asked + APART)));
                }
            }
        }
    }

    fn is_passing(&self) -> bool {
        matches!(&self.reported, Standing::Serving { facts, .. } if facts.passing)
    }

    /// Asks what the QEMU is. One that does not answer is lost, but its answer may come yet.
    async fn learn(&mut self, client: &mut Client, peer: Peer) -> Result<(), ClientError> {
        let own = self.own.unwrap_or_else(|| identity::of_path(&self.path));
        match learn(client, &self.path, own, self.shared.config.command_timeout).await {
            Ok(mut facts) => {
                let reach = &self.shared.config.reach;
                let displays = std::mem::take(&mut facts.displays).into_iter();
                let displays = displays.map(|it| display::reached_by(it, reach, true));
                facts.displays = displays.collect();
                self.last_reset = facts.last_reset.or(self.last_reset);
                facts.last_reset = self.last_reset;
                let (uuid, instance) = (facts.uuid, peer.instance);
                self.told = Some(Target { uuid, instance });
                let serving = Standing::Serving {
                    facts: Arc::new(facts),
                    peer,
                    trouble: peer.displaced(&self.path),
                };
                self.report(serving).await;
                Ok(())
            }
            Err(error @ ClientError::Silent { .. }) => {
                let why = self.explain(&error);
                self.report(Standing::Lost(why)).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Looks at what lies at the path by now, and tells if that is another socket.
    async fn look(&mut self, peer: Peer) {
        if let Standing::Serving { facts, .. } = &self.reported {
            let serving = Standing::Serving {
                facts: Arc::clone(facts),
                peer,
                trouble: peer.displaced(&self.path),
            };
            self.report(serving).await;
        }
    }

    /// Why an order is refused that is for another QEMU than the one that is connected.
    fn not_the_target(&self) -> EffectError {
        let why = match (&self.told, &self.reported) {
            (None, Standing::Lost(why)) => why.to_string(),
            (None, _) => "its monitor was lost, and who is there now did not tell yet".to_owned(),
            (Some(_), _) => "another QEMU is behind its monitor's socket by now".to_owned(),
        };
        EffectError::NotDone(why)
    }

    fn not_connected(&self, error: &ConnectError) -> Standing {
        let lives = self.process.filter(|process| process.lives());
        match (error, lives) {
            (ConnectError::Absent | ConnectError::Refused, Some(process)) => {
                let why = format!("{error}, while QEMU (process {}) lives", process.id);
                Standing::Lost(why.into())
            }
            (ConnectError::Absent | ConnectError::Refused, None) => Standing::Ended,
            (ConnectError::Io(cause), _) => Standing::Lost(format!("{error}: {cause}").into()),
            (error, _) => Standing::Lost(error.to_string().into()),
        }
    }

    /// What the QEMU is after its connection failed: gone, or not to be reached.
    async fn lost(&mut self, error: ClientError) -> Standing {
        if error.is_breach() {
            Counters::bump(&self.shared.counters.breaches);
        }
        let closed = matches!(error, ClientError::Closed | ClientError::Io(_));
        if closed {
            let ended = match self.process {
                Some(process) => process.ends_soon().await,
                // Of a process that cannot be seen, its socket is all there is.
                None => true,
            };
            if ended {
                self.process = None;
                return Standing::Ended;
            }
        }
        Standing::Lost(self.explain(&error))
    }

    fn explain(&self, error: &ClientError) -> Arc<str> {
        let waited = matches!(error, ClientError::NoGreeting | ClientError::Silent { .. });
        match self.process {
            Some(process) if waited && process.is_stopped() => format!(
                "QEMU (process {}) is stopped by a signal or a debugger: let it go on",
                process.id
            )
            .into(),
            _ => match error {
                ClientError::Io(cause) => format!("{error}: {cause}").into(),
                error => error.to_string().into(),
            },
        }
    }

    /// Tells what the QEMU is, if that is new.
    async fn report(&mut self, standing: Standing) {
        if standing == self.reported {
            return;
        }
        self.log(&standing);
        self.reported = standing.clone();
        // There is nobody to tell once the agent stops.
        let _ = self.reports.send((self.path.clone(), standing)).await;
    }

    fn log(&self, standing: &Standing) {
        let socket = self.path.display();
        match (standing, &self.reported) {
            (
                Standing::Serving {
                    trouble: Some(why), ..
                },
                Standing::Serving { trouble: None, .. },
            ) => tracing::warn!(%socket, %why, "QEMU is not served"),
            (Standing::Serving { facts, .. }, Standing::Serving { .. }) => {
                tracing::debug!(%socket, vm.uuid = %facts.uuid, state = ?facts.state, "VM read");
            }
            (Standing::Serving { facts, .. }, _) => {
                tracing::info!(%socket, vm.uuid = %facts.uuid, vm.name = %facts.name, "QEMU found");
            }
            (Standing::Lost(why), _) => tracing::warn!(%socket, %why, "QEMU is not served"),
            (Standing::Ended, Standing::Untried) => tracing::debug!(%socket, "no QEMU there yet"),
            (Standing::Ended, _) => tracing::info!(%socket, "QEMU ended"),
            (Standing::Untried, _) => {}
        }
    }
}
