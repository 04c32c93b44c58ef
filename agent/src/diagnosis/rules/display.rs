//! VNC displays: what keeps the agent from one, and what can be said of one that it reaches. What
//! a guest shows on it nobody reads here.

use super::super::facts::{ConsoleFacts, PathFacts, Seen};
use super::super::finding::{Code, Finding, age, length};
use super::endpoint::{READ_ONLY, foreseen_at, of_path, of_tcp};
use super::shell_word;
use crate::console::Availability;
use crate::endpoint::{DisplayHandle, DisplaySource, Reach};
use crate::graphics;
use crate::hypervisor::Vm;

/// What is to be added to a VM that has none.
const ADD: &str = "<graphics type='vnc'><listen type='none'/></graphics>, which no port and no \
    password goes with; a QEMU without libvirt: -vnc none";

/// How a display that nothing keeps the agent from is.
pub(super) fn rules(facts: &ConsoleFacts, seen: &Seen, display: &DisplaySource) -> Finding {
    let state = &seen.status.state;
    let ways = format!("the ways to it, in the order that they are tried: {display}");
    if state.availability == Availability::Attached {
        let summary = "the display is open, and nothing stands between it and its viewers";
        return Finding::good(Code::ConsoleWorks, summary).evidence(ways);
    }
    let checked = state.checked.map(|checked| {
        let ago = length(age(facts.now, checked));
        format!("; that it can be opened was seen {ago} ago")
    });
    Finding::note(
        Code::NotCaptured,
        "nobody views the display; it can be opened, as far as is known",
    )
    .evidence(ways + &checked.unwrap_or_default())
    .next(format!(
        "open it: vmconsolectl vnc {} --console {}",
        shell_word(&facts.vm),
        seen.status.id.alias
    ))
}

/// A VM without displays, of which one is wanted.
pub(super) fn none(vm: &Vm, has: &str) -> Finding {
    let word = shell_word(vm);
    Finding::problem(Code::NoSuchConsole, "the VM has no VNC display")
        .evidence(format!("it has: {has}"))
        .next(format!(
            "add one to its definition (virsh edit {word}): {ADD}. It comes with the next start"
        ))
}

/// What will keep the agent from a display, seen by the path that is the only way to it.
pub(super) fn foreseen(display: &DisplaySource, path: &PathFacts, agent: &str) -> Option<Finding> {
    display
        .ways()
        .all(|way| way == Reach::Unix)
        .then(|| foreseen_at(path, agent))
        .flatten()
}

/// What the agent lacks to open a display, by the way that is most its own.
pub(super) fn denied(
    display: &DisplaySource,
    path: Option<&PathFacts>,
    agent: &str,
    detail: &str,
) -> Finding {
    if graphics::says_so_itself(detail) {
        return Finding::problem(Code::Permission, "the display does not let the agent in")
            .evidence(detail)
            .next(
                "set what it asks for: graphics.password_file (and graphics.username), or graphics.ca \
                 and graphics.expected_name; or have it reached by \"descriptor\" (graphics.reach), \
                 which needs none of these",
            );
    }
    let has = |way| display.ways().any(|it| it == way);
    let by_libvirt = matches!(display.handle, DisplayHandle::Libvirt(_)) && has(Reach::Descriptor);
    let finding = Finding::problem(
        Code::Permission,
        "libvirt does not let the agent open the display",
    )
    .evidence(detail);
    match path {
        _ if by_libvirt && detail.contains(READ_ONLY) => finding.next(
            "the agent came by libvirt's read-only socket: have libvirt.uri name the one whose name does not end in -ro, and restart the agent",
        ),
        _ if by_libvirt => finding.next(format!(
            "give user {agent} the right: add it to the group of libvirt's socket \
             (usermod -a -G libvirt {agent}; restart the agent), and where access_drivers = [\"polkit\"] \
             is set, allow it org.libvirt.api.domain.open-graphics"
        )),
        Some(path) if path.objection.is_some() || !has(Reach::Tcp) => of_path(path, agent, detail),
        _ => of_tcp(detail),
    }
}

/// A display that cannot be opened though nothing forbids it.
pub(super) fn unsupported(detail: &str) -> Finding {
    Finding::problem(Code::TypeUnsupported, "this display cannot be opened")
        .evidence(detail)
        .next(
            "see that graphics.reach in the agent's configuration has a way by which it can be \
             reached, and have it listen on a unix socket where it has none",
        )
}
