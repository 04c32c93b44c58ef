//! VNC displays.

use super::super::super::facts::PathFacts;
use super::super::super::path::Objection;
use super::*;
use crate::endpoint::{DisplayHandle, DisplaySource, Reach, TcpAddress, TcpDenial};

fn display(handle: DisplayHandle, reach: &[Reach]) -> Source {
    Source::Display(DisplaySource {
        number: 0,
        handle,
        socket: Some("/run/vmconsole/web.vnc".into()),
        address: Some(TcpAddress {
            host: "127.0.0.1".to_owned(),
            port: 5900,
            telnet: false,
        }),
        reach: reach.to_vec(),
    })
}

fn libvirts(reach: &[Reach]) -> ConsoleFacts {
    let source = display(DisplayHandle::Libvirt(0), reach);
    facts(device("vnc0", ConsoleKind::Vnc, source))
}

fn being(facts: ConsoleFacts, availability: Availability, detail: &str) -> ConsoleFacts {
    with(facts, |seen| {
        seen.status.state.availability = availability;
        seen.status.state.detail = detail.to_owned();
    })
}

fn on_the_way(facts: ConsoleFacts, objection: Option<Objection>) -> ConsoleFacts {
    with(facts, |seen| {
        seen.path = Some(PathFacts {
            objection,
            evidence: "what is there".to_owned(),
            group: "kvm".to_owned(),
            owner: "mallory".to_owned(),
        });
    })
}

#[test]
fn a_display_is_not_accused_of_silence() {
    let open = libvirts(&Reach::ALL);
    let finding = expect(&open, Code::ConsoleWorks, Severity::Good, "");
    let ways = "a descriptor from libvirt, then socket /run/vmconsole/web.vnc, then tcp 127.0.0.1 port 5900";
    assert!(finding.evidence.ends_with(ways), "{finding:?}");
    let ready = being(open, Availability::Ready, "");
    let next = "vmconsolectl vnc web-1 --console vnc0";
    expect(&ready, Code::NotCaptured, Severity::Note, next);
}

#[test]
fn of_a_vm_that_is_off_that_is_what_is_said() {
    let mut off = being(
        libvirts(&Reach::ALL),
        Availability::Waiting,
        "the VM is off",
    );
    Arc::make_mut(&mut off.vm).state = VmState::Off;
    expect(&off, Code::VmOff, Severity::Problem, "virsh start web-1");
}

#[test]
fn a_path_matters_before_it_is_tried_only_where_it_is_the_only_way() {
    let outside = || Some(Objection::Outside);
    let one = being(libvirts(&[Reach::Unix]), Availability::Ready, "");
    let foreseen = on_the_way(one.clone(), outside());
    let next = "endpoints.directories";
    expect(&foreseen, Code::UnsafePath, Severity::Problem, next);
    let safe = on_the_way(one, None);
    expect(&safe, Code::NotCaptured, Severity::Note, "vmconsolectl vnc");
    let several = being(libvirts(&Reach::ALL), Availability::Ready, "");
    let several = on_the_way(several, outside());
    expect(
        &several,
        Code::NotCaptured,
        Severity::Note,
        "vmconsolectl vnc",
    );
}

#[test]
fn what_is_denied_is_told_by_the_way_that_denies_it() {
    let permission =
        |facts: &ConsoleFacts, next| expect(facts, Code::Permission, Severity::Problem, next);
    let denied = |facts, detail: &str| being(facts, Availability::Denied, detail);
    let polkit = denied(libvirts(&Reach::ALL), "access denied");
    permission(&polkit, "org.libvirt.api.domain.open-graphics");
    let read_only = denied(libvirts(&Reach::ALL), "read only access prevents it");
    permission(&read_only, "libvirt.uri");

    let qemu = display(DisplayHandle::Qemu("default".to_owned()), &Reach::ALL);
    let qemu = facts(device("vnc0", ConsoleKind::Vnc, qemu));
    let qemu = denied(qemu, "QEMU's monitor: refused; socket: below none");
    let next = "endpoints.directories";
    let unsafe_path = on_the_way(qemu, Some(Objection::Outside));
    expect(&unsafe_path, Code::UnsafePath, Severity::Problem, next);

    let off = TcpDenial::off("127.0.0.1", 5900).to_string();
    let tcp = denied(libvirts(&[Reach::Tcp]), &off);
    permission(&tcp, "set endpoints.tcp");
    let both = denied(libvirts(&[Reach::Unix, Reach::Tcp]), &off);
    permission(&on_the_way(both, None), "set endpoints.tcp");
    let socket = denied(libvirts(&[Reach::Unix]), "denied");
    permission(&on_the_way(socket, None), "AppArmor or SELinux");
}

#[test]
fn a_display_that_cannot_be_served_is_not_to_be_made_a_terminal() {
    let detail = "QEMU's monitor: no such command";
    let refused = being(libvirts(&Reach::ALL), Availability::Unsupported, detail);
    let next = "graphics.reach";
    let finding = expect(&refused, Code::TypeUnsupported, Severity::Problem, next);
    assert_eq!(finding.evidence, detail);
    let why = "it listens nowhere".to_owned();
    let unserved = facts(device("vnc1", ConsoleKind::Vnc, Source::Unserved(why)));
    let finding = expect(&unserved, Code::TypeUnsupported, Severity::Problem, next);
    assert_eq!(finding.evidence, "it listens nowhere");
    assert!(!finding.next_step.contains("pty"));
}

#[test]
fn a_vm_with_displays_only_has_no_console_and_one_with_consoles_only_no_display() {
    let mut facts = libvirts(&Reach::ALL);
    (facts.wanted, facts.seen) = (None, None);
    let next = "<serial type='pty'/>";
    let finding = expect(&facts, Code::NoConsoleDevice, Severity::Problem, next);
    assert_eq!(finding.evidence, "it has: vnc0");

    let mut facts = unavailable(Availability::Ready, Source::LibvirtConsole);
    (facts.wanted, facts.seen) = (Alias::new("vnc0").ok(), None);
    let next = "<graphics type='vnc'><listen type='none'/>";
    let finding = expect(&facts, Code::NoSuchConsole, Severity::Problem, next);
    assert_eq!(finding.evidence, "it has: serial0");
    facts.vm = Arc::new(vm("web-1", Vec::new()));
    let finding = expect(&facts, Code::NoSuchConsole, Severity::Problem, next);
    assert_eq!(finding.evidence, "it has: none");
}
