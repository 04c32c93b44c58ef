//! Endpoints that the agent opens itself: terminals, unix sockets, TCP ports. Nothing is opened
//! that the rules do not allow, and nothing that is refused ever notices.

mod access;
mod attached;
mod counters;
mod diag;
mod display;
mod far;
mod ffi;
mod line;
mod path;
mod process;
mod rest;
mod taken;
mod tcp;
mod terminal;
mod unix_socket;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;
use prometheus::Registry;
use tokio::time::timeout;

use super::{Attachment, Direct, EndpointError, Holder, OutputSink};
use crate::metrics::MetricsError;
use crate::shutdown::Tasks;
use attached::Attached;
use counters::Counters;
use far::Far;
use line::Line;
pub(crate) use path::usual_name;
use process::Search;
use taken::Clients;
pub(crate) use tcp::denial::TcpDenial;
use unix_socket::RecentSockets;
use wire::Wire;

pub(crate) use path::{Unfit, Wanted, find_below};
pub(crate) use unix_socket::connected;

/// How long looking for a holder may take.
const HOLDER_WITHIN: Duration = Duration::from_secs(1);

/// What may be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectRules {
    /// Below which directories sockets and terminals may lie, beside terminals in `/dev/pts`.
    pub directories: Vec<PathBuf>,
    /// The ids of the users whom they, and the processes behind them, may belong to, beside the
    /// agent's own.
    pub owners: Vec<u32>,
    /// Which TCP addresses are connected to.
    pub tcp: TcpRule,
}

impl DirectRules {
    /// Whether a console may belong to this user.
    fn admits(&self, user: u32) -> bool {
        self.owners.contains(&user)
    }
}

/// Which TCP addresses are connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpRule {
    /// None.
    Off,
    /// Those of this host's loopback.
    Loopback,
    /// All.
    Any,
}

/// Opens endpoints by these rules, and drains what is attached among its tasks.
#[derive(Debug)]
pub struct DirectEndpoints {
    rules: DirectRules,
    tasks: Tasks,
    counters: Arc<Counters>,
    recent: RecentSockets,
    search: Search,
}

impl DirectEndpoints {
    /// Opens by `rules`; what reads runs among `tasks`.
    pub fn new(mut rules: DirectRules, tasks: Tasks) -> Arc<Self> {
        rules.owners.push(geteuid().as_raw());
        Arc::new(Self {
            rules,
            search: Search::new(tasks.clone()),
            tasks,
            counters: Arc::default(),
            recent: RecentSockets::default(),
        })
    }

    /// Registers what is counted here.
    ///
    /// # Errors
    /// [`MetricsError`] if a metric of the same name is registered already.
    pub fn register_metrics(&self, registry: &Registry) -> Result<(), MetricsError> {
        counters::register(self.counters.clone(), registry)
    }

    /// Attaches, as [`super::Endpoint::attach`] does. Nobody can be displaced from these.
    ///
    /// # Errors
    /// [`EndpointError`]; [`EndpointError::Denied`] for what the rules do not allow.
    ///
    /// # Cancel safety
    /// If dropped, nothing stays attached.
    pub async fn attach(
        &self,
        direct: &Direct,
        sink: Arc<dyn OutputSink>,
    ) -> Result<Box<dyn Attachment>, EndpointError> {
        let (wire, far) = self.open(direct).await?;
        let attached = Attached::begin(wire, far, sink, &self.tasks, &self.counters);
        Ok(Box::new(attached))
    }

    async fn open(&self, direct: &Direct) -> Result<(Wire, Far), EndpointError> {
        let rules = &self.rules;
        match direct {
            Direct::Pty(path) => {
                let terminal = terminal::open(rules, &self.search, path).await?;
                Ok((Wire::raw(Line::new(terminal)), Far::Terminal))
            }
            Direct::Unix(path) => {
                let unverified = &self.counters.unverified;
                let (socket, theirs) =
                    unix_socket::open(rules, path, &self.recent, unverified, Clients::One).await?;
                Ok((Wire::raw(Line::unix(socket)), Far::Unix { theirs }))
            }
            Direct::Tcp(address) => {
                let (socket, local) = tcp::open(rules, address, Clients::One).await?;
                let line = Line::new(socket);
                let wire = if address.telnet {
                    Wire::telnet(line)
                } else {
                    Wire::raw(line)
                };
                Ok((wire, Far::Tcp { local }))
            }
        }
    }

    /// Who else holds it, as far as that can be found out: of a process of another user only
    /// where the agent may look into it. Takes a second at most.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn holder(&self, direct: &Direct) -> Option<Holder> {
        let rules = &self.rules;
        let find = async {
            let socket = match direct {
                Direct::Pty(path) => return terminal::holder(rules, &self.search, path).await,
                Direct::Unix(path) => unix_socket::other_connection(rules, path)?,
                Direct::Tcp(address) => tcp::other_connection(rules, address).await?,
            };
            self.search.with_open(&process::socket_link(socket)).await
        };
        timeout(HOLDER_WITHIN, find).await.ok().flatten()
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
