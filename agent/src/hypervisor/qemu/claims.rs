//! Who is which VM: what each socket's QEMU says of itself, put together to an inventory. Pure.
//!
//! A QMP peer may claim any UUID. The first that was served with it has it, as long as its QEMU
//! lives; a second is refused, and may have it after that. A QEMU may have several monitors:
//! that is no second claim, and one that claims no UUID has that of the first path of these.
//!
//! ```text
//!  untried ─▶ serving ◀─▶ lost ─▶ ended ─▶ (removed)
//!     │          └─────────────────▲
//!     └──────▶ lost, ended: nothing is known of it, and it is no VM
//! ```

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::connect::Peer;
use super::learn::Facts;
use crate::core::id::VmUuid;
use crate::hypervisor::{Conflict, MAX_CONFLICTS, Vm, VmState};

/// What a socket's QEMU is to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was not tried yet.
    Untried,
    /// It answers.
    Serving {
        /// This.
        facts: Arc<Facts>,
        /// Who it is.
        peer: Peer,
        /// What is wrong with its socket nevertheless.
        trouble: Option<Arc<str>>,
    },
    /// It cannot be asked, for this reason, and may well live.
    Lost(Arc<str>),
    /// It is gone.
    Ended,
}

/// Who holds a UUID, and who else claims it.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// The VMs.
    pub(super) vms: BTreeMap<VmUuid, Arc<Vm>>,
    /// Those of them that cannot be asked, and why.
    pub(super) stale: BTreeMap<VmUuid, Arc<str>>,
    /// Claims that were refused.
    pub(super) conflicts: Vec<Conflict>,
    /// Which socket each VM is behind.
    pub(super) holders: BTreeMap<VmUuid, Holding>,
}

/// A VM's socket.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What was told there.
    pub(super) facts: Arc<Facts>,
    /// Who told it, unless that has ended.
    pub(super) peer: Option<Peer>,
}

#[derive(Clone, Debug)]
struct Socket {
    standing: Standing,
    /// What it was when it last answered.
    known: Option<(Arc<Facts>, Peer)>,
    /// Whether that was before its end.
    ended: bool,
    /// Since when, counted in turns, it claims what it claims without having ended.
    since: u64,
}

/// All sockets.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    sockets: BTreeMap<PathBuf, Socket>,
    holders: BTreeMap<VmUuid, PathBuf>,
    /// Sockets that are only another way to a VM.
    names: BTreeSet<PathBuf>,
    turn: u64,
}

impl Claims {
    /// Takes in what a socket's QEMU is now.
    pub(super) fn set(&mut self, path: &Path, standing: Standing) {
        self.turn += 1;
        let socket = self.sockets.entry(path.to_owned()).or_insert(Socket {
            standing: Standing::Untried,
            known: None,
            ended: false,
            since: self.turn,
        });
        match &standing {
            Standing::Serving { facts, peer, .. } => {
                let before = socket.known.replace((Arc::clone(facts), *peer));
                let same = before.is_some_and(|(before, _)| before.uuid == facts.uuid);
                if !same || socket.ended {
                    socket.since = self.turn;
                }
                socket.ended = false;
            }
            Standing::Ended => socket.ended = true,
            // One that has ended and cannot be reached is not back for that.
            Standing::Untried | Standing::Lost(_) => {}
        }
        socket.standing = standing;
        self.settle();
    }

    /// Forgets a socket.
    pub(super) fn remove(&mut self, path: &Path) {
        self.sockets.remove(path);
        self.settle();
    }

    /// What a socket's QEMU is.
    pub(super) fn standing(&self, path: &Path) -> Option<&Standing> {
        self.sockets.get(path).map(|socket| &socket.standing)
    }

    /// How many sockets are served.
    pub(super) fn served(&self) -> usize {
        let serving = |socket: &&Socket| matches!(socket.standing, Standing::Serving { .. });
        self.sockets.values().filter(serving).count()
    }

    /// Why sockets are not served, those first of which no VM is known, and those last whose
    /// QEMU answers.
    pub(super) fn troubles(&self) -> impl Iterator<Item = (&Path, &Arc<str>)> {
        let troubled = |known: bool| {
            self.sockets.iter().filter_map(move |(path, socket)| {
                match (&socket.standing, socket.known.is_some() == known) {
                    (Standing::Lost(why), true) => Some((path.as_path(), why)),
                    _ => None,
                }
            })
        };
        let served = self
            .sockets
            .iter()
            .filter_map(|(path, socket)| match &socket.standing {
                Standing::Serving {
                    trouble: Some(why), ..
                } => Some((path.as_path(), why)),
                _ => None,
            });
        troubled(false).chain(troubled(true)).chain(served)
    }

    /// All of it, as it is to be published.
    pub(super) fn view(&self) -> View {
        let mut view = View::default();
        for (path, socket) in &self.sockets {
            let Some(known @ (facts, peer)) = &socket.known else {
                continue;
            };
            if self.names.contains(path) {
                continue;
            }
            let uuid = facts.uuid;
            match self.holders.get(&uuid) {
                Some(holder) if holder == path => view.list(path, socket, facts, *peer),
                Some(holder) => {
                    let held_by = self.sockets.get(holder).and_then(|it| it.known.as_ref());
                    // Two monitors of one QEMU are no conflict.
                    let same = held_by.is_some_and(|held_by| is_one_qemu(held_by, known));
                    if !socket.ended && !same && view.conflicts.len() < MAX_CONFLICTS {
                        view.conflicts.push(Conflict {
                            uuid,
                            claimant: path.display().to_string(),
                            holder: holder.display().to_string(),
                        });
                    }
                }
                None => {}
            }
        }
        view
    }

    /// Lets those who have ended, or claim something else by now, make way, and finds who
    /// comes next: who lives before who ended, and the longest claim first.
    fn settle(&mut self) {
        self.names = self.other_names();
        let mut best: BTreeMap<VmUuid, (bool, bool, u64, &PathBuf)> = BTreeMap::new();
        for (path, socket) in &self.sockets {
            let Some((facts, _)) = &socket.known else {
                continue;
            };
            if self.names.contains(path) {
                continue;
            }
            let holds = self.holders.get(&facts.uuid) == Some(path);
            let rank = (socket.ended, !holds, socket.since, path);
            match best.entry(facts.uuid) {
                Entry::Vacant(entry) => {
                    entry.insert(rank);
                }
                Entry::Occupied(mut entry) if rank < *entry.get() => {
                    entry.insert(rank);
                }
                Entry::Occupied(_) => {}
            }
        }
        let best = best.into_iter();
        self.holders = best.map(|(uuid, rank)| (uuid, rank.3.clone())).collect();
    }

    /// Which sockets are further monitors of QEMUs that claim no UUID, and that have the one of
    /// an earlier path already: those of which [`is_one_qemu`] is true.
    fn other_names(&self) -> BTreeSet<PathBuf> {
        let mut names = BTreeSet::new();
        let mut taken: BTreeSet<(u32, u64, &str)> = BTreeSet::new();
        for (path, socket) in &self.sockets {
            let unclaimed = socket.known.as_ref().filter(|(facts, _)| !facts.claimed);
            let Some((facts, process)) = unclaimed.and_then(|it| Some((&it.0, it.1.process?)))
            else {
                continue;
            };
            let end = |end| (process.id, process.started, end);
            let mut ends = facts.ends.iter().map(|it| end(it.as_str()));
            if ends.any(|end| taken.contains(&end)) {
                names.insert(path.clone());
            } else if !socket.ended {
                taken.extend(facts.ends.iter().map(|it| end(it.as_str())));
            }
        }
        names
    }
}

/// Whether two monitors are certainly of one QEMU: one process made their sockets, and both
/// tell of something that no other QEMU has. The process alone would not do, since it may have
/// made the sockets of many.
fn is_one_qemu(one: &(Arc<Facts>, Peer), other: &(Arc<Facts>, Peer)) -> bool {
    one.1.process.is_some()
        && one.1.process == other.1.process
        && !one.0.ends.is_disjoint(&other.0.ends)
}

impl View {
    fn list(&mut self, path: &Path, socket: &Socket, facts: &Arc<Facts>, peer: Peer) {
        let ended = socket.ended;
        let devices = facts.consoles.iter().map(|console| &console.device);
        let devices = devices.chain(&facts.displays).cloned();
        let vm = Vm {
            uuid: facts.uuid,
            name: Arc::clone(&facts.name),
            state: match facts.state {
                VmState::Moved => VmState::Moved,
                _ if ended => VmState::Off,
                state => state,
            },
            instance: (!ended).then_some(peer.instance),
            last_reset: facts.last_reset.filter(|_| !ended),
            consoles: devices.collect(),
        };
        if let (Standing::Lost(why), false) = (&socket.standing, ended) {
            self.stale.insert(facts.uuid, Arc::clone(why));
        }
        self.vms.insert(facts.uuid, Arc::new(vm));
        let holding = Holding {
            path: path.to_owned(),
            facts: Arc::clone(facts),
            peer: (!ended).then_some(peer),
        };
        self.holders.insert(facts.uuid, holding);
    }
}

#[cfg(test)]
mod tests;
