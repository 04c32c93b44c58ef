//! The VM, what it has, and its hypervisor.

use super::*;

#[test]
fn a_vm_without_consoles_is_told_what_to_add() {
    let mut facts = serial();
    facts.vm = Arc::new(vm("web-1", Vec::new()));
    (facts.wanted, facts.seen) = (None, None);
    let next = "virsh edit web-1): <serial type='pty'/>";
    expect(&facts, Code::NoConsoleDevice, Severity::Problem, next);
}

#[test]
fn an_alias_that_the_vm_lacks_is_answered_with_those_that_it_has() {
    let mut facts = serial();
    facts.wanted = Some(Alias::new("serial7").expect("an alias"));
    facts.seen = None;
    let finding = expect(
        &facts,
        Code::NoSuchConsole,
        Severity::Problem,
        "use one of those",
    );
    assert_eq!(finding.summary, "the VM has no console \"serial7\"");
    assert_eq!(finding.evidence, "it has: serial0");
}

#[test]
fn a_type_that_is_not_served_is_told_even_while_the_vm_is_off() {
    let source = Source::Unserved("its backend is \"file\"".to_owned());
    let mut facts = facts(device("console1", ConsoleKind::Virtio, source));
    let next = "<console type='pty'><target type='virtio'/></console>";
    let finding = expect(&facts, Code::TypeUnsupported, Severity::Problem, next);
    assert_eq!(finding.evidence, "its backend is \"file\"");
    Arc::make_mut(&mut facts.vm).state = VmState::Off;
    let codes: Vec<_> = console(&facts).iter().map(|f| f.code).collect();
    assert_eq!(codes, [Code::TypeUnsupported, Code::VmOff]);
    let by_endpoint = unavailable(Availability::Unsupported, Source::LibvirtConsole);
    let finding = expect(
        &by_endpoint,
        Code::TypeUnsupported,
        Severity::Problem,
        "\"pty\"",
    );
    assert_eq!(finding.evidence, "the detail");
}

#[test]
fn a_vm_that_is_off_crashed_or_paused_is_to_be_started_or_resumed() {
    for (state, code, next) in [
        (VmState::Off, Code::VmOff, "virsh start web-1"),
        (VmState::Crashed, Code::VmOff, "virsh start web-1"),
        (VmState::Paused, Code::VmPaused, "virsh resume web-1"),
    ] {
        let mut facts = serial();
        Arc::make_mut(&mut facts.vm).state = state;
        expect(&facts, code, Severity::Problem, next);
    }
}

#[test]
fn a_name_that_a_shell_would_obey_is_not_put_into_a_command() {
    for name in ["a; reboot", "$(x)", "-rf", "", "ä"] {
        let mut facts = serial();
        facts.vm = Arc::new(vm(name, facts.vm.consoles.clone()));
        Arc::make_mut(&mut facts.vm).state = VmState::Off;
        let next = "virsh start 6f1f7f32-0000-4000-8000-000000000001";
        expect(&facts, Code::VmOff, Severity::Problem, next);
    }
}

#[test]
fn a_hypervisor_that_is_gone_comes_before_all_else() {
    let mut facts = unavailable(Availability::Lost, Source::LibvirtConsole);
    facts.trouble = Some("libvirtd is gone".into());
    let next = "vmconsolectl doctor";
    let finding = expect(&facts, Code::HypervisorLost, Severity::Problem, next);
    assert_eq!(finding.evidence, "libvirtd is gone");
}
