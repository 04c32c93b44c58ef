//! From facts to findings about one console. Pure: no clock, no I/O.
//!
//! What is nearer to the agent is looked at first: what keeps it from the console makes
//! everything behind that unknown, so the guest is only judged where its output arrives.

mod display;
mod endpoint;
mod guest;

use super::facts::{ConsoleFacts, Seen};
use super::finding::{Code, Finding, age, length, order};
use crate::core::id::Alias;
use crate::endpoint::Source;
use crate::hypervisor::{ConsoleDevice, ConsoleKind, Vm, VmState};

/// What is found about one console, the likeliest cause first: at least one finding.
pub(super) fn console(facts: &ConsoleFacts) -> Vec<Finding> {
    let mut findings = match &facts.seen {
        None => vec![not_there(facts)],
        Some(seen) => of_console(facts, seen),
    };
    if let (Some(seen), true) = (&facts.seen, findings.is_empty()) {
        findings.push(works(facts, seen));
    }
    order(&mut findings);
    findings
}

fn of_console(facts: &ConsoleFacts, seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(trouble) = &facts.trouble {
        findings.push(hypervisor_lost(trouble));
    }
    if let Source::Unserved(why) = &seen.status.device.source {
        findings.push(unserved(&seen.status.device, why));
    }
    findings.extend(vm_state(facts));
    if !findings.is_empty() {
        return findings;
    }
    findings.extend(endpoint::rules(facts, seen));
    if !findings.is_empty() {
        return findings;
    }
    if let Source::Display(source) = &seen.status.device.source {
        findings.push(display::rules(facts, seen, source));
    } else {
        findings.extend(wedged(facts, seen));
        findings.extend(guest::rules(facts, seen));
    }
    findings
}

fn not_there(facts: &ConsoleFacts) -> Finding {
    let vm = &facts.vm;
    let has: Vec<_> = vm
        .consoles
        .iter()
        .map(|device| device.alias.as_str())
        .collect();
    let has = match has.is_empty() {
        true => "none".to_owned(),
        false => has.join(", "),
    };
    let displays = vm.consoles.iter().any(|it| it.kind == ConsoleKind::Vnc);
    let wants = |prefix| (facts.wanted.as_ref()).is_some_and(|it| it.as_str().starts_with(prefix));
    if wants("vnc") && !displays {
        return display::none(vm, &has);
    }
    if facts.wanted.is_none() || vm.consoles.is_empty() {
        let summary = "the VM has no serial or virtio console";
        let next = format!(
            "add one to its definition (virsh edit {}): <serial type='pty'/> for a serial port, \
             or <console type='pty'><target type='virtio'/></console>; a QEMU without libvirt: \
             -serial unix:/run/vmconsole/NAME.sock,server=on,wait=off. It comes with the next start",
            shell_word(vm)
        );
        let finding = Finding::problem(Code::NoConsoleDevice, summary).next(next);
        return match displays {
            true => finding.evidence(format!("it has: {has}")),
            false => finding,
        };
    }
    let wanted = facts.wanted.as_ref().map_or("", Alias::as_str);
    let summary = format!("the VM has no console \"{wanted}\"");
    Finding::problem(Code::NoSuchConsole, summary)
        .evidence(format!("it has: {has}"))
        .next("use one of those; a console that was added to its definition comes with the VM's next start")
}

fn hypervisor_lost(trouble: &str) -> Finding {
    Finding::problem(Code::HypervisorLost, "the VM's hypervisor cannot be asked, so its console is as last known")
        .evidence(trouble)
        .next("see what vmconsolectl doctor says of the host; the agent goes on by itself once the hypervisor answers")
}

fn unserved(device: &ConsoleDevice, why: &str) -> Finding {
    let summary = format!("a console of type \"{}\" cannot be served", device.backend);
    let element = match device.kind {
        ConsoleKind::Vnc => return display::unsupported(why),
        ConsoleKind::Serial => "<serial type='pty'/>",
        ConsoleKind::Virtio => "<console type='pty'><target type='virtio'/></console>",
        ConsoleKind::Channel => "<channel type='unix'> with a target of type virtio",
    };
    Finding::problem(Code::TypeUnsupported, summary)
        .evidence(why)
        .next(format!(
            "make it {element} in the VM's definition; it comes with the VM's next start"
        ))
}

fn vm_state(facts: &ConsoleFacts) -> Option<Finding> {
    let vm = &facts.vm;
    let word = shell_word(vm);
    match vm.state {
        VmState::Off => Some(Finding::problem(Code::VmOff, "the VM is off").next(format!(
            "start it: virsh start {word}, or its QEMU where it runs without libvirt"
        ))),
        VmState::Crashed => Some(
            Finding::problem(Code::VmOff, "the VM crashed").next(format!(
                "see why in /var/log/libvirt/qemu, then start it: virsh start {word}"
            )),
        ),
        VmState::Paused => Some(
            Finding::problem(
                Code::VmPaused,
                "the VM is paused, so its guest writes and reads nothing",
            )
            .next(format!(
                "let it go on: virsh resume {word}; where it was paused by an I/O error \
                 (virsh domstate --reason {word}), make room on its storage first"
            )),
        ),
        VmState::Moved => Some(
            Finding::problem(Code::VmOff, "the VM went on to another host")
                .next("ask the agent of the host that it runs on now"),
        ),
        VmState::Running | VmState::Stopping | VmState::Unknown => None,
    }
}

fn wedged(facts: &ConsoleFacts, seen: &Seen) -> Option<Finding> {
    let since = seen.status.state.wedged_since?;
    let summary = format!(
        "input makes no progress for {}: the guest does not read its console",
        length(age(facts.now, since))
    );
    let next = match seen.status.device.kind {
        ConsoleKind::Serial => format!(
            "see whether the guest is alive: vmconsolectl break {} --sysrq h; where its kernel answers, what reads the console hangs",
            shell_word(&facts.vm)
        ),
        ConsoleKind::Virtio | ConsoleKind::Channel | ConsoleKind::Vnc => {
            "see whether the guest is alive by another console or the network; the program that has the console open in the guest does not read".to_owned()
        }
    };
    let finding = Finding::problem(Code::InputWedged, summary);
    Some(finding.next(next).since(Some(since)))
}

fn works(facts: &ConsoleFacts, seen: &Seen) -> Finding {
    let status = &seen.status;
    let ago = |what: &str, time| match time {
        Some(time) => format!("{what} {} ago", length(age(facts.now, time))),
        None => format!("{what} never seen"),
    };
    let evidence = format!(
        "{}, {}",
        ago("last output", status.last_output),
        ago("last input", status.last_input)
    );
    let summary = "the console is attached and nothing stands between the guest and its viewers";
    Finding::good(Code::ConsoleWorks, summary).evidence(evidence)
}

/// The VM as a word of a command: its name, or its UUID where a shell would read the name as
/// more than a name.
fn shell_word(vm: &Vm) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+:@".contains(&b);
    let name = &*vm.name;
    if !name.is_empty() && name.len() <= 64 && name.bytes().all(plain) && !name.starts_with('-') {
        name.to_owned()
    } else {
        vm.uuid.to_string()
    }
}

/// What the guest most likely calls this console. Linux names them by their order.
fn device_in_guest(vm: &Vm, device: &ConsoleDevice) -> String {
    let same = vm.consoles.iter().filter(|other| other.kind == device.kind);
    let index = same.take_while(|other| other.alias != device.alias).count();
    match device.kind {
        ConsoleKind::Serial => format!("ttyS{index}"),
        ConsoleKind::Virtio => format!("hvc{index}"),
        ConsoleKind::Channel => "the channel's port".to_owned(),
        ConsoleKind::Vnc => "the screen".to_owned(),
    }
}

#[cfg(test)]
mod tests;
