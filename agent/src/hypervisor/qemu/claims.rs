//! Who is which VM: what each socket's QEMU says of itself, put together to an inventory. Pure.
//!
//! A QMP peer may claim any UUID. The first that was served with it has it, as long as its QEMU
//! lives; a second is refused, and may have it after that.
//!
//! ```text
//!  untried ─▶ serving ◀─▶ lost ─▶ ended ─▶ (removed)
//!     │          └─────────────────▲
//!     └──────▶ lost, ended: nothing is known of it, and it is no VM
//! ```

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::learn::Facts;
use crate::core::id::VmUuid;
use crate::hypervisor::{Conflict, Instance, MAX_CONFLICTS, Vm, VmState};

/// What a socket's QEMU is to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was not tried yet.
    Untried,
    /// It answers, this.
    Serving(Arc<Facts>, Instance),
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
    /// Which socket each VM is behind, and what was told there.
    pub(super) holders: BTreeMap<VmUuid, (PathBuf, Arc<Facts>)>,
}

#[derive(Clone, Debug)]
struct Socket {
    standing: Standing,
    /// What it was when it last answered.
    known: Option<(Arc<Facts>, Instance)>,
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
            Standing::Serving(facts, instance) => {
                let before = socket.known.replace((Arc::clone(facts), *instance));
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
        let serving = |socket: &&Socket| matches!(socket.standing, Standing::Serving(..));
        self.sockets.values().filter(serving).count()
    }

    /// Why sockets are not served, those first of which no VM is known.
    pub(super) fn troubles(&self) -> impl Iterator<Item = (&Path, &Arc<str>)> {
        let troubled = |known: bool| {
            self.sockets.iter().filter_map(move |(path, socket)| {
                match (&socket.standing, socket.known.is_some() == known) {
                    (Standing::Lost(why), true) => Some((path.as_path(), why)),
                    _ => None,
                }
            })
        };
        troubled(false).chain(troubled(true))
    }

    /// All of it, as it is to be published.
    pub(super) fn view(&self) -> View {
        let mut view = View::default();
        for (path, socket) in &self.sockets {
            let Some((facts, instance)) = &socket.known else {
                continue;
            };
            let uuid = facts.uuid;
            match self.holders.get(&uuid) {
                Some(holder) if holder == path => view.list(path, socket, facts, *instance),
                Some(holder) => {
                    let held_by = self.sockets.get(holder).and_then(|it| it.known.as_ref());
                    // Two monitors of one QEMU are no conflict.
                    let same = held_by.is_some_and(|(_, held_by)| held_by == instance);
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
        let mut best: BTreeMap<VmUuid, (bool, bool, u64, &PathBuf)> = BTreeMap::new();
        for (path, socket) in &self.sockets {
            let Some((facts, _)) = &socket.known else {
                continue;
            };
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
}

impl View {
    fn list(&mut self, path: &Path, socket: &Socket, facts: &Arc<Facts>, instance: Instance) {
        let ended = socket.ended;
        let devices = facts.consoles.iter().map(|console| console.device.clone());
        let vm = Vm {
            uuid: facts.uuid,
            name: Arc::clone(&facts.name),
            state: if ended { VmState::Off } else { facts.state },
            instance: (!ended).then_some(instance),
            consoles: devices.collect(),
        };
        if let (Standing::Lost(why), false) = (&socket.standing, ended) {
            self.stale.insert(facts.uuid, Arc::clone(why));
        }
        self.vms.insert(facts.uuid, Arc::new(vm));
        self.holders
            .insert(facts.uuid, (path.to_owned(), Arc::clone(facts)));
    }
}

#[cfg(test)]
mod tests;
