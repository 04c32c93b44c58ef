//! Keeps the inventory of QEMUs without libvirt: has each socket looked after, and puts
//! together what is found out. It speaks to no QEMU itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::claims::{Claims, Holding, Standing, View};
use super::counters::Counters;
use super::monitor::{Monitor, Report};
use super::order::{MAX_ORDERS, Order};
use super::scan::{self, Found, MAX_SOCKETS, Mark};
use super::watch::{DirectoryWatch, Watched};
use super::{Route, Shared};
use crate::hypervisor::backoff::{Backoff, LONGEST_SOCKET};
use crate::hypervisor::{Inventory, Provider, new_conflicts};

/// The most reports that wait, and that are taken in at once.
const MAX_REPORTS: usize = 256;
/// What the provider is called.
const NAME: &str = "qemu";

/// The task that keeps the inventory. It does nothing until it is [run](Self::run).
pub struct QemuTask {
    shared: Arc<Shared>,
    publish: watch::Sender<Arc<Inventory>>,
    inventory: Inventory,
    claims: Claims,
    kept: BTreeMap<PathBuf, Kept>,
    found: Found,
    /// Those of the first look that were not tried yet; `None` before it.
    untried: Option<BTreeSet<PathBuf>>,
    left_out: usize,
    watch: Option<DirectoryWatch>,
    /// When the directory was looked at.
    looked: Option<Instant>,
    /// Something about the directory that an operator should know.
    notice: &'static str,
}

/// A socket that is looked after. Dropping it ends that.
struct Kept {
    mark: Option<Mark>,
    changed: Arc<Notify>,
    orders: mpsc::Sender<Order>,
    _task: AbortOnDropHandle<()>,
}

impl QemuTask {
    pub(super) fn new(shared: Arc<Shared>, publish: watch::Sender<Arc<Inventory>>) -> Self {
        Self {
            shared,
            publish,
            inventory: Inventory::default(),
            claims: Claims::default(),
            kept: BTreeMap::new(),
            found: Found::default(),
            untried: None,
            left_out: 0,
            watch: None,
            looked: None,
            notice: "",
        }
    }

    /// Keeps the inventory until `token` is cancelled.
    pub async fn run(mut self, token: CancellationToken) {
        let (reports, mut inbox) = mpsc::channel(MAX_REPORTS);
        let mut backoff = Backoff::new(LONGEST_SOCKET);
        let mut batch = Vec::new();
        let mut due = Some(Instant::now());
        // While it rang and was not looked at yet, it may ring on.
        let mut rang = false;
        loop {
            let at = due.unwrap_or_else(Instant::now);
            tokio::select! {
                biased; // A stop comes before everything else.
                () = token.cancelled() => return,
                () = sleep_until(at), if due.is_some() => {
                    due = self.look(&reports, &mut backoff);
                    rang = false;
                }
                error = rung(self.watch.as_ref()), if !rang => {
                    if let Some(error) = error { self.cannot_watch(&error) }
                    let soon = scan::when(Instant::now(), self.looked);
                    due = Some(due.map_or(soon, |due| due.min(soon)));
                    rang = true;
                }
                _ = inbox.recv_many(&mut batch, MAX_REPORTS) => {
                    for (path, standing) in batch.drain(..) {
                        self.take(&path, standing);
                    }
                    if self.sweep() && self.left_out > 0 {
                        let soon = scan::when(Instant::now(), self.looked);
                        due = Some(due.map_or(soon, |due| due.min(soon)));
                    }
                }
            }
            self.publish();
        }
    }

    /// Looks at the directory, and tells when to look again if nothing rings before.
    fn look(&mut self, reports: &mpsc::Sender<Report>, backoff: &mut Backoff) -> Option<Instant> {
        let watched = self.settle();
        self.looked = Some(Instant::now());
        let config = &self.shared.config;
        match scan::scan(&config.directory, &config.sockets) {
            Ok(found) => {
                if found.cut {
                    tracing::warn!("the directory of QMP sockets has too many entries to look at");
                }
                self.inventory.connected = true;
                self.inventory.trouble.clear();
                self.adopt(found, reports);
            }
            Err(error) => {
                self.inventory.connected = false;
                self.trouble("cannot be read", &error);
                self.adopt(self.found.clone(), reports);
            }
        }
        match watched {
            Ok(watched) if self.inventory.connected => {
                self.notice = match watched {
                    Watched::Directory => "",
                    Watched::Above => "the directory does not exist (yet)",
                };
                backoff.reset();
                return None;
            }
            Ok(_) => {}
            Err(error) => self.cannot_watch(&error),
        }
        Some(Instant::now() + backoff.next(rand::random()))
    }

    fn settle(&mut self) -> io::Result<Watched> {
        let watch = match self.watch.take() {
            Some(watch) => watch,
            None => DirectoryWatch::new(&self.shared.config.directory)?,
        };
        self.watch.insert(watch).settle()
    }

    fn cannot_watch(&mut self, error: &io::Error) {
        self.watch = None;
        self.inventory.connected = false;
        self.trouble("cannot be watched, and is looked at now and then", error);
    }

    fn trouble(&mut self, what: &str, error: &io::Error) {
        let directory = self.shared.config.directory.display();
        let trouble = format!("{directory} {what}: {error}");
        if self.inventory.trouble != trouble {
            tracing::warn!(%trouble, "QMP sockets may be missed");
        }
        self.inventory.trouble = trouble;
    }

    /// Has looked after what was found, and forgets what is gone.
    fn adopt(&mut self, found: Found, reports: &mpsc::Sender<Report>) {
        for (path, kept) in &mut self.kept {
            let mark = found.sockets.get(path).copied();
            if kept.mark != mark {
                kept.mark = mark;
                kept.changed.notify_one();
            }
        }
        self.found = found;
        self.sweep();
        let before = self.kept.keys().cloned().collect();
        let listed = &self.shared.config.sockets;
        let (chosen, left_out) = scan::choose(&before, listed, &self.found);
        for path in chosen.difference(&before) {
            let kept = self.keep(path, reports.clone());
            self.kept.insert(path.clone(), kept);
        }
        if left_out > 0 && left_out != self.left_out {
            let limit = MAX_SOCKETS;
            tracing::warn!(
                left_out,
                limit,
                "there are more QMP sockets than are looked after"
            );
        }
        self.left_out = left_out;
        if self.untried.is_none() {
            self.untried = Some(chosen);
        }
    }

    fn keep(&mut self, path: &Path, reports: mpsc::Sender<Report>) -> Kept {
        let (orders, ordered) = mpsc::channel(MAX_ORDERS);
        let changed = Arc::new(Notify::new());
        self.claims.set(path, Standing::Untried);
        let shared = Arc::clone(&self.shared);
        let monitor = Monitor::new(path, shared, reports, ordered, Arc::clone(&changed));
        Kept {
            mark: self.found.sockets.get(path).copied(),
            changed,
            orders,
            _task: self.shared.tasks.spawn_owned("qmp", monitor.run()),
        }
    }

    fn take(&mut self, path: &Path, standing: Standing) {
        // A report may come from one that was forgotten meanwhile.
        if self.kept.contains_key(path) {
            self.claims.set(path, standing);
            if let Some(untried) = &mut self.untried {
                untried.remove(path);
            }
        }
    }

    /// Forgets those whose QEMU has ended and whose socket is gone, save those of the list.
    /// Tells whether there were any.
    fn sweep(&mut self) -> bool {
        let (claims, found) = (&mut self.claims, &self.found);
        let listed = &self.shared.config.sockets;
        let before = self.kept.len();
        self.kept.retain(|path, _| {
            let stays = listed.contains(path)
                || found.sockets.contains_key(path)
                || claims.standing(path) != Some(&Standing::Ended);
            if !stays {
                claims.remove(path);
            }
            stays
        });
        self.kept.len() != before
    }

    fn publish(&mut self) {
        let view = self.claims.view();
        self.count(&view);
        self.publish_routes(&view);
        let View {
            vms,
            stale,
            conflicts,
            ..
        } = view;
        self.inventory.vms = vms;
        self.inventory.stale = stale;
        self.inventory.conflicts = conflicts;
        if !self.inventory.synced && self.untried.as_ref().is_some_and(BTreeSet::is_empty) {
            self.inventory.synced = true;
            tracing::info!(vms = self.inventory.vms.len(), "every QMP socket was tried");
        }
        self.inventory.providers = vec![Provider {
            name: NAME,
            place: self.shared.config.directory.display().to_string(),
            connected: self.inventory.connected,
            trouble: self.provider_trouble(),
        }];
        self.publish.send_if_modified(|published| {
            let changed = **published != self.inventory;
            if changed {
                *published = Arc::new(self.inventory.clone());
            }
            changed
        });
    }

    fn count(&self, view: &View) {
        for conflict in new_conflicts(&self.inventory.conflicts, &view.conflicts) {
            Counters::bump(&self.shared.counters.conflicts);
            tracing::warn!(
                vm.uuid = %conflict.uuid,
                claimant = conflict.claimant,
                holder = conflict.holder,
                "two QEMUs claim one UUID: the second is not served; give it another -uuid"
            );
        }
        let counters = &self.shared.counters;
        Counters::set(&counters.sockets, self.kept.len());
        Counters::set(&counters.left_out, self.left_out);
        Counters::set(&counters.served, self.claims.served());
    }

    fn publish_routes(&self, view: &View) {
        let route = |(uuid, holding): (&_, &Holding)| {
            let route = Route {
                orders: self.kept.get(&holding.path)?.orders.clone(),
                facts: Arc::clone(&holding.facts),
                peer: holding.peer,
            };
            Some((*uuid, route))
        };
        *self.shared.routes.lock() = view.holders.iter().filter_map(route).collect();
    }

    /// What keeps sockets from being served, in one line.
    fn provider_trouble(&self) -> String {
        if !self.inventory.connected {
            return self.inventory.trouble.clone();
        }
        let mut troubles = self.claims.troubles();
        match troubles.next() {
            None if self.left_out > 0 => format!(
                "{} QMP sockets beyond the limit of {MAX_SOCKETS} are not served",
                self.left_out
            ),
            None => self.notice.to_owned(),
            Some((path, why)) => {
                let others = match troubles.count() {
                    0 => String::new(),
                    count => format!(" (and {count} others)"),
                };
                format!("{} is not served{others}: {why}", path.display())
            }
        }
    }
}

/// Waits until the directory may have changed, or cannot be watched any more.
async fn rung(watch: Option<&DirectoryWatch>) -> Option<io::Error> {
    match watch {
        Some(watch) => watch.rung().await.err(),
        None => std::future::pending().await,
    }
}
