//! Gathers the facts about one console.
//!
//! What the agent has in memory is taken on the spot; what lies at a path, and what users and
//! groups are called, may block and belongs on a thread of its own.

use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgroups};

use super::facts::{ConsoleFacts, PathFacts, Seen};
use super::path::{self, NodeKind, Objection, Way, Who};
use super::transcript::Transcript;
use crate::console::{Console, MAX_NEWEST};
use crate::endpoint::{Direct, Reach, Source};

/// What may be opened, as the configuration has it.
#[derive(Debug)]
pub(super) struct Rules {
    /// Below which directories.
    pub(super) directories: Vec<PathBuf>,
    /// The names of the users whom it may belong to.
    pub(super) owners: Vec<String>,
}

/// What the agent has in memory of a console.
pub(super) fn seen(console: &Console) -> Seen {
    let recent = console.recent(MAX_NEWEST);
    Seen {
        status: console.status(),
        transcript: Transcript::read(&[&recent.beginning, &recent.newest]),
        whole: recent.whole,
        path: None,
    }
}

/// Adds what has to be looked up. Blocks.
pub(super) fn complete(facts: &mut ConsoleFacts, rules: &Rules) {
    let who = who();
    facts.agent.clone_from(&who.name);
    let Some(seen) = facts.seen.as_mut() else {
        return;
    };
    seen.path = match &seen.status.device.source {
        Source::Direct(Direct::Unix(path)) => Some(look(path, NodeKind::Socket, rules, &who)),
        Source::Direct(Direct::Pty(path)) => Some(look(path, NodeKind::Terminal, rules, &who)),
        Source::Display(display) if display.ways().any(|way| way == Reach::Unix) => {
            let path = display.socket.as_deref();
            path.map(|path| look(path, NodeKind::Socket, rules, &who))
        }
        Source::Direct(Direct::Tcp(_))
        | Source::Display(_)
        | Source::LibvirtConsole
        | Source::LibvirtChannel
        | Source::Unserved(_) => None,
    };
}

fn look(path: &Path, kind: NodeKind, rules: &Rules, who: &Who) -> PathFacts {
    let user = |name: &String| User::from_name(name).ok().flatten();
    let owners: Vec<u32> = rules
        .owners
        .iter()
        .filter_map(user)
        .map(|user| user.uid.as_raw())
        .collect();
    let below = path::below(path, &rules.directories);
    let way = path::look(below.as_deref().unwrap_or(path));
    let objection = match below {
        Some(_) => path::objection(kind, &way, &owners, who),
        None => Some(Objection::Outside),
    };
    let last = way.nodes.last();
    PathFacts {
        objection,
        evidence: evidence(path, &way, who),
        group: last.map_or_else(String::new, |node| group_name(node.group)),
        owner: last.map_or_else(String::new, |node| user_name(node.owner)),
    }
}

/// What is there, and who the agent is.
fn evidence(path: &Path, way: &Way, who: &Who) -> String {
    let groups: Vec<_> = who.groups.iter().map(|group| group_name(*group)).collect();
    let agent = format!(
        "the agent runs as user {} ({}), groups {}",
        who.name,
        who.user,
        groups.join(", ")
    );
    let Some(node) = way.nodes.last() else {
        return format!("{} cannot be looked at; {agent}", path.display());
    };
    let stopped = way
        .stopped
        .map(|why| format!("; what is below it cannot be looked at: {why}"));
    format!(
        "{} is a {} of user {} ({}), group {} ({}), mode {:04o}{}; {agent}",
        node.path.display(),
        node.kind,
        user_name(node.owner),
        node.owner,
        group_name(node.group),
        node.group,
        node.mode,
        stopped.unwrap_or_default(),
    )
}

fn who() -> Who {
    let user = geteuid().as_raw();
    let mut groups = vec![getegid().as_raw()];
    for group in getgroups().unwrap_or_default() {
        if !groups.contains(&group.as_raw()) {
            groups.push(group.as_raw());
        }
    }
    Who {
        name: user_name(user),
        user,
        groups,
    }
}

fn user_name(user: u32) -> String {
    let found = User::from_uid(Uid::from_raw(user)).ok().flatten();
    found.map_or_else(|| user.to_string(), |user| user.name)
}

fn group_name(group: u32) -> String {
    let found = Group::from_gid(Gid::from_raw(group)).ok().flatten();
    found.map_or_else(|| group.to_string(), |group| group.name)
}
