//! What keeps the agent from a console.

use super::super::facts::{ConsoleFacts, PathFacts, Seen};
use super::super::finding::{Code, Finding, age, length};
use super::super::path::{NodeKind, Objection};
use super::{display, shell_word};
use crate::console::Availability;
use crate::endpoint::{Direct, Source, TcpDenial};

/// What libvirt says to whoever came by its read-only socket (`virReportRestrictedError`).
pub(super) const READ_ONLY: &str = "read only access";

/// The group of root: nobody is told to join it, since much more than a console is writable
/// for it.
const ROOT: u32 = 0;

/// What keeps the agent from the console of a VM that runs; nothing where it has it, or can.
pub(super) fn rules(facts: &ConsoleFacts, seen: &Seen) -> Option<Finding> {
    let state = &seen.status.state;
    let finding = match state.availability {
        Availability::Attached => return None,
        Availability::Ready => foreseen(facts, seen)?,
        Availability::Waiting => waiting(facts, seen),
        Availability::HeldByOther => held(facts, seen),
        Availability::Denied => denied(facts, seen),
        Availability::Unsupported if is_display(seen) => display::unsupported(&state.detail),
        Availability::Unsupported => Finding::problem(
            Code::TypeUnsupported,
            "this console cannot be served",
        )
        .evidence(&state.detail)
        .next("make its type \"pty\" in the VM's definition; it comes with the VM's next start"),
        Availability::Lost => lost(facts, seen),
    };
    Some(finding.since(Some(state.since)))
}

/// What will keep the agent from a console that it does not hold now.
fn foreseen(facts: &ConsoleFacts, seen: &Seen) -> Option<Finding> {
    let path = seen.path.as_ref()?;
    match &seen.status.device.source {
        Source::Display(source) => display::foreseen(source, path, &facts.agent),
        _ => foreseen_at(path, &facts.agent),
    }
}

/// What will keep the agent from what is at this path.
pub(super) fn foreseen_at(path: &PathFacts, agent: &str) -> Option<Finding> {
    path.objection.as_ref()?;
    let detail = "the console is not attached now, and will not be";
    Some(of_path(path, agent, detail))
}

const fn is_display(seen: &Seen) -> bool {
    matches!(seen.status.device.source, Source::Display(_))
}

fn waiting(facts: &ConsoleFacts, seen: &Seen) -> Finding {
    let state = &seen.status.state;
    let summary = "the VM runs, and its console is not there yet";
    Finding::warning(Code::EndpointLost, summary)
        .evidence(with_next_try(facts, seen))
        .next(format!(
            "wait a moment; if it lasts (it has for {}), see that the VM really runs; a socket that was removed \
             comes back with the VM's next start",
            length(age(facts.now, state.since))
        ))
}

fn held(facts: &ConsoleFacts, seen: &Seen) -> Finding {
    let state = &seen.status.state;
    let (summary, evidence) = match &state.holder {
        Some(holder) => (
            format!("{} holds the console", holder.command),
            holder.to_string(),
        ),
        None => (
            "another process holds the console".to_owned(),
            state.detail.clone(),
        ),
    };
    let leave = match &state.holder {
        Some(holder) => format!(
            "leave it there (Ctrl-] in virsh console), or end process {}",
            holder.process
        ),
        None => "look for a virsh console, or another program that has the console open, and leave it there (Ctrl-])".to_owned(),
    };
    let then = match state.next_try {
        Some(_) => "the agent takes the console up by itself then",
        // Nobody views it: this is how the last who tried found it.
        None => "then attach again: this is how it was when somebody last tried",
    };
    let next = match &seen.status.device.source {
        Source::LibvirtConsole | Source::LibvirtChannel => format!(
            "{leave}; {then}. To take it away from there: vmconsolectl \
             attach {} {} --displace (displace_outside_holder of a client)",
            shell_word(&facts.vm),
            seen.status.id.alias
        ),
        Source::Direct(direct) => format!(
            "{leave}; {then}. Nobody can be displaced from {}",
            a_kind(direct)
        ),
        Source::Display(_) | Source::Unserved(_) => leave,
    };
    Finding::problem(Code::HeldByOther, summary)
        .evidence(evidence)
        .next(next)
}

const fn a_kind(direct: &Direct) -> &'static str {
    match direct {
        Direct::Pty(_) => "a terminal",
        Direct::Unix(_) => "a unix socket",
        Direct::Tcp(_) => "a TCP port",
    }
}

fn denied(facts: &ConsoleFacts, seen: &Seen) -> Finding {
    let detail = &seen.status.state.detail;
    let agent = &facts.agent;
    match (&seen.status.device.source, &seen.path) {
        (Source::Display(source), path) => display::denied(source, path.as_ref(), agent, detail),
        (Source::Direct(Direct::Tcp(_)), _) => of_tcp(detail),
        (Source::Direct(_), Some(path)) => of_path(path, agent, detail),
        (Source::Direct(_), None) => {
            Finding::problem(Code::Permission, "the agent may not open the console")
                .evidence(detail)
                .next(format!("compare the path's owner and mode with what user {agent} may do"))
        }
        _ if detail.contains(READ_ONLY) => {
            Finding::problem(Code::Permission, "libvirt does not let the agent open the console")
                .evidence(detail)
                .next("the agent came by libvirt's read-only socket: have libvirt.uri name the one whose name does not end in -ro, and restart the agent")
        }
        _ => Finding::problem(Code::Permission, "libvirt does not let the agent open the console")
            .evidence(detail)
            .next(format!(
                "give user {agent} the right: add it to the group of libvirt's socket \
                 (usermod -a -G libvirt {agent}; restart the agent), and where access_drivers = [\"polkit\"] \
                 is set, allow it org.libvirt.api.domain.open-device"
            )),
    }
}

pub(super) fn of_tcp(detail: &str) -> Finding {
    let (summary, next) = match TcpDenial::told_by(detail) {
        Some(TcpDenial::Address) => (
            "the configuration keeps the agent from this TCP address",
            "set endpoints.tcp to \"loopback\" or \"any\" in the agent's configuration and restart it, or have the console listen on 127.0.0.1",
        ),
        Some(TcpDenial::Listener) => (
            "the console's TCP port is that of a user who is not trusted",
            "add the user to endpoints.owners in the agent's configuration and restart it, if QEMU runs as that user; if not, find out who listens there",
        ),
        Some(TcpDenial::Unseen) => (
            "the kernel does not tell the agent who listens on the console's TCP port",
            "let the agent ask it: AF_NETLINK among RestrictAddressFamilies of its service (systemctl cat vmconsole-agent), and in what else confines it; then restart it",
        ),
        None => (
            "the agent may not connect to the console's TCP port",
            "compare what it says with endpoints.tcp and endpoints.owners in the agent's configuration",
        ),
    };
    Finding::problem(Code::Permission, summary)
        .evidence(detail)
        .next(next)
}

pub(super) fn of_path(path: &PathFacts, agent: &str, detail: &str) -> Finding {
    let evidence = format!("{}; {detail}", path.evidence);
    let is_unsafe = |summary: String, next: String| {
        Finding::problem(Code::UnsafePath, summary)
            .evidence(&evidence)
            .next(next)
    };
    let mode = "the permissions keep the agent from the console's path";
    let restricted = |next: String| {
        Finding::problem(Code::Permission, mode)
            .evidence(&evidence)
            .next(next)
    };
    match &path.objection {
        Some(Objection::Link(link)) => is_unsafe(
            format!("{} is a symbolic link, and none is followed", link.display()),
            "name the real path in the VM's definition; if nobody made the link on purpose, find out who did".to_owned(),
        ),
        Some(Objection::Type(kind)) => is_unsafe(
            format!("the console's path leads to a {kind}"),
            "see who put it there; remove it, and start the VM anew".to_owned(),
        ),
        Some(Objection::Outside) => is_unsafe(
            "the console's path lies below no directory that is allowed".to_owned(),
            "add its directory to endpoints.directories in the agent's configuration and restart it, or move the socket below one of those".to_owned(),
        ),
        Some(Objection::Owner(user)) => is_unsafe(
            format!("the console's path belongs to user {} ({user}), who is not trusted", path.owner),
            "add the user to endpoints.owners in the agent's configuration and restart it, if QEMU runs as that user; if not, find out who put it there".to_owned(),
        ),
        Some(Objection::Search(node)) => restricted(format!(
            "let {agent} search {}: setfacl -m u:{agent}:x {}", node.path.display(), node.path.display()
        )),
        Some(Objection::Mode(node)) if node.kind == NodeKind::Terminal => restricted(format!(
            "a terminal of QEMU is for its user alone: reach it through libvirt (libvirt.enabled), or give the \
             console a unix socket that a group of user {agent} may write to"
        )),
        Some(Objection::Mode(node)) if node.mode & 0o020 != 0 && node.group != ROOT => restricted(format!(
            "add user {agent} to the group: usermod -a -G {} {agent}; restart the agent", path.group
        )),
        Some(Objection::Mode(node)) => restricted(format!(
            "let {agent} write to it: setfacl -m u:{agent}:rw {}, or make it writable for a group that {agent} is in", node.path.display()
        )),
        Some(Objection::Missing) => restricted(
            "nothing is there any more: see that the VM runs with the definition that it has".to_owned(),
        ),
        None => restricted(
            "owner and mode would allow it: look for a denial by AppArmor or SELinux (vmconsolectl doctor, as root), and at who listens there".to_owned(),
        ),
    }
}

fn lost(facts: &ConsoleFacts, seen: &Seen) -> Finding {
    let next = match seen.status.state.next_try {
        Some(_) => "the agent goes on trying; see that the hypervisor answers and QEMU runs",
        None => {
            "attach again: this is how it was when somebody last tried; see that the hypervisor answers and QEMU runs"
        }
    };
    Finding::problem(Code::EndpointLost, "the way to the console is broken")
        .evidence(with_next_try(facts, seen))
        .next(next)
}

/// The state's detail, and when the agent tries next.
fn with_next_try(facts: &ConsoleFacts, seen: &Seen) -> String {
    let state = &seen.status.state;
    match state.next_try {
        Some(next) => {
            let wait = length(age(next, facts.now));
            format!("{}; next try in {wait}", state.detail)
        }
        None => state.detail.clone(),
    }
}
