use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::facts::PathFacts;
use super::super::finding::Severity;
use super::super::path::{Node, NodeKind, Objection};
use super::super::transcript::Transcript;
use super::*;
use crate::console::{ConsoleState, Status};
use crate::core::id::ConsoleId;
use crate::core::position::{Generation, Position};
use crate::endpoint::{Direct, Holder, TcpAddress};
use crate::hypervisor::Instance;

const LOGIN: &[u8] = include_bytes!("../captures/linux-login.bin");
const NO_GETTY: &[u8] = include_bytes!("../captures/linux-no-getty.bin");
const NO_ARGUMENT: &[u8] = include_bytes!("../captures/linux-no-console-argument.bin");
const DIED: &[u8] = include_bytes!("../captures/linux-panic.bin");
const NO_DISK: &[u8] = include_bytes!("../captures/seabios-no-disk.bin");
const SHELL: &[u8] = include_bytes!("../captures/ovmf-shell.bin");

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn ago(seconds: u64) -> SystemTime {
    now() - Duration::from_secs(seconds)
}

fn device(alias: &str, kind: ConsoleKind, source: Source) -> ConsoleDevice {
    ConsoleDevice {
        alias: Alias::new(alias).expect("an alias"),
        kind,
        source,
        backend: "pty".to_owned(),
    }
}

fn vm(name: &str, consoles: Vec<ConsoleDevice>) -> Vm {
    Vm {
        uuid: "6f1f7f32-0000-4000-8000-000000000001"
            .parse()
            .expect("a UUID"),
        name: name.into(),
        state: VmState::Running,
        instance: Some(Instance(1)),
        consoles,
    }
}

/// A console of a VM that runs, attached 1000 s ago.
fn facts(device: ConsoleDevice) -> ConsoleFacts {
    let vm = vm("web-1", vec![device.clone()]);
    let state = ConsoleState {
        availability: Availability::Attached,
        since: ago(1000),
        vm_state: VmState::Running,
        detail: String::new(),
        next_try: None,
        holder: None,
        silent_since: None,
        wedged_since: None,
        generation: None,
    };
    let status = Status {
        id: ConsoleId {
            vm: vm.uuid,
            alias: device.alias.clone(),
        },
        vm_name: vm.name.clone(),
        device,
        state,
        viewers: 0,
        writer: None,
        oldest: None,
        head: None,
        last_output: None,
        last_input: None,
    };
    ConsoleFacts {
        now: now(),
        vm: Arc::new(vm),
        trouble: None,
        wanted: Some(status.id.alias.clone()),
        seen: Some(Seen {
            status,
            transcript: Transcript::default(),
            whole: true,
            path: None,
        }),
        agent: "vmconsole".to_owned(),
    }
}

fn serial() -> ConsoleFacts {
    facts(device(
        "serial0",
        ConsoleKind::Serial,
        Source::LibvirtConsole,
    ))
}

fn with(mut facts: ConsoleFacts, change: impl FnOnce(&mut Seen)) -> ConsoleFacts {
    change(facts.seen.as_mut().expect("a console"));
    facts
}

/// The guest wrote this, and nothing for so long.
fn wrote(facts: ConsoleFacts, output: &[u8], quiet: u64) -> ConsoleFacts {
    with(facts, |seen| {
        let generation = Generation::new(1.try_into().expect("not 0"));
        let offset = output.len() as u64;
        seen.status.head = Some(Position { generation, offset });
        seen.status.last_output = Some(ago(quiet));
        seen.transcript = Transcript::read(&[output]);
    })
}

fn unavailable(availability: Availability, source: Source) -> ConsoleFacts {
    with(
        facts(device("serial0", ConsoleKind::Serial, source)),
        |seen| {
            seen.status.state.availability = availability;
            seen.status.state.detail = "the detail".to_owned();
        },
    )
}

/// The one finding that there is.
fn one(facts: &ConsoleFacts) -> Finding {
    let mut findings = console(facts);
    assert_eq!(findings.len(), 1, "{findings:?}");
    findings.remove(0)
}

#[track_caller]
fn expect(facts: &ConsoleFacts, code: Code, severity: Severity, next: &str) -> Finding {
    let finding = one(facts);
    assert_eq!(
        (finding.code, finding.severity),
        (code, severity),
        "{finding:?}"
    );
    assert!(finding.next_step.contains(next), "{finding:?}");
    finding
}

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

#[test]
fn a_holder_is_named_and_how_to_be_rid_of_it() {
    let held = with(
        unavailable(Availability::HeldByOther, Source::LibvirtConsole),
        |seen| {
            seen.status.state.holder = Some(Holder {
                process: 812,
                command: "virsh".to_owned(),
                user: 0,
            });
        },
    );
    let finding = expect(&held, Code::HeldByOther, Severity::Problem, "process 812");
    assert_eq!(finding.evidence, "virsh (process 812 of user 0)");
    assert!(finding.next_step.contains("displace_outside_holder"));
    assert_eq!(finding.since, Some(ago(1000)));
    let socket = Source::Direct(Direct::Unix("/run/x".into()));
    let unknown = unavailable(Availability::HeldByOther, socket);
    let next = "Nobody can be displaced from a unix socket";
    let finding = expect(&unknown, Code::HeldByOther, Severity::Problem, next);
    assert_eq!(finding.evidence, "the detail");
}

fn denied_at(objection: Option<Objection>) -> ConsoleFacts {
    let socket = Source::Direct(Direct::Unix("/run/libvirt/qemu/web.sock".into()));
    with(unavailable(Availability::Denied, socket), |seen| {
        seen.path = Some(PathFacts {
            objection,
            evidence: "what is there".to_owned(),
            group: "kvm".to_owned(),
            owner: "mallory".to_owned(),
        });
    })
}

fn node(kind: NodeKind, mode: u32) -> Node {
    Node {
        path: "/run/libvirt/qemu".into(),
        kind,
        owner: 64055,
        group: 108,
        mode,
    }
}

#[test]
fn what_keeps_the_agent_from_a_path_is_told_with_what_gives_it_the_right() {
    let socket = |mode| Objection::Mode(node(NodeKind::Socket, mode));
    for (objection, next) in [
        (Some(socket(0o775)), "usermod -a -G kvm vmconsole"),
        (
            Some(socket(0o700)),
            "setfacl -m u:vmconsole:rw /run/libvirt/qemu",
        ),
        (
            Some(Objection::Search(node(NodeKind::Directory, 0o700))),
            "setfacl -m u:vmconsole:x /run/libvirt/qemu",
        ),
        (
            Some(Objection::Mode(node(NodeKind::Terminal, 0o600))),
            "through libvirt",
        ),
        (Some(Objection::Missing), "nothing is there"),
        (None, "AppArmor or SELinux"),
    ] {
        let finding = expect(
            &denied_at(objection),
            Code::Permission,
            Severity::Problem,
            next,
        );
        assert_eq!(finding.evidence, "what is there; the detail");
    }
}

#[test]
fn a_path_that_is_not_safe_is_told_as_that() {
    for (objection, summary, next) in [
        (
            Objection::Link("/run/x".into()),
            "/run/x is a symbolic link",
            "the real path",
        ),
        (
            Objection::Type(NodeKind::Other),
            "a file of another type",
            "who put it there",
        ),
        (
            Objection::Outside,
            "no directory that is allowed",
            "endpoints.directories",
        ),
        (
            Objection::Owner(1001),
            "user mallory (1001)",
            "endpoints.owners",
        ),
    ] {
        let facts = denied_at(Some(objection));
        let finding = expect(&facts, Code::UnsafePath, Severity::Problem, next);
        assert!(finding.summary.contains(summary), "{finding:?}");
    }
}

#[test]
fn other_permissions_name_the_key_or_the_group() {
    let libvirt = unavailable(Availability::Denied, Source::LibvirtConsole);
    let next = "usermod -a -G libvirt vmconsole";
    expect(&libvirt, Code::Permission, Severity::Problem, next);
    let said = "permission denied: read only access prevents virDomainOpenConsole";
    let read_only = with(libvirt, |seen| seen.status.state.detail = said.to_owned());
    expect(
        &read_only,
        Code::Permission,
        Severity::Problem,
        "libvirt.uri",
    );
    let tcp = Source::Direct(Direct::Tcp(TcpAddress {
        host: "192.0.2.1".to_owned(),
        port: 4000,
        telnet: false,
    }));
    let tcp = unavailable(Availability::Denied, tcp);
    expect(&tcp, Code::Permission, Severity::Problem, "endpoints.tcp");
    let socket = Source::Direct(Direct::Unix("/run/x".into()));
    let unseen = unavailable(Availability::Denied, socket);
    expect(
        &unseen,
        Code::Permission,
        Severity::Problem,
        "owner and mode",
    );
}

#[test]
fn a_console_that_is_lost_or_not_there_yet_says_when_it_is_tried_next() {
    for (availability, severity) in [
        (Availability::Lost, Severity::Problem),
        (Availability::Waiting, Severity::Warning),
    ] {
        let facts = with(unavailable(availability, Source::LibvirtConsole), |seen| {
            seen.status.state.next_try = Some(now() + Duration::from_secs(4));
        });
        let finding = one(&facts);
        assert_eq!(
            (finding.code, finding.severity),
            (Code::EndpointLost, severity)
        );
        assert_eq!(finding.evidence, "the detail; next try in 4 s");
    }
}

#[test]
fn a_guest_that_never_wrote_is_given_time_and_then_an_argument() {
    let at = |seconds| {
        with(serial(), |seen| {
            seen.status.state.silent_since = Some(ago(seconds));
        })
    };
    expect(&at(5), Code::GuestSilent, Severity::Note, "press Enter");
    let next = "add console=ttyS0 to the guest's kernel command line";
    let finding = expect(&at(60), Code::GuestSilent, Severity::Warning, next);
    assert_eq!(finding.since, Some(ago(60)));
    let typed = with(at(60), |seen| seen.status.last_input = Some(ago(20)));
    expect(
        &typed,
        Code::GuestSilent,
        Severity::Problem,
        "serial-getty@ttyS0.service",
    );
    // What an earlier QEMU wrote and was sent is no answer.
    let before = with(at(60), |seen| {
        (seen.status.last_output, seen.status.last_input) = (Some(ago(500)), Some(ago(400)));
    });
    expect(&before, Code::GuestSilent, Severity::Warning, next);
    let channel = device("channel0", ConsoleKind::Channel, Source::LibvirtChannel);
    expect(
        &facts(channel),
        Code::GuestSilent,
        Severity::Warning,
        "start the program",
    );
}

#[test]
fn firmware_alone_asks_for_the_argument_that_fits_the_console() {
    let early = wrote(serial(), NO_ARGUMENT, 10);
    expect(&early, Code::FirmwareOnly, Severity::Note, "wait a moment");
    let late = wrote(serial(), NO_ARGUMENT, 45);
    let finding = expect(
        &late,
        Code::FirmwareOnly,
        Severity::Warning,
        "console=ttyS0",
    );
    assert!(
        finding.summary.contains("started a kernel 45 s ago"),
        "{finding:?}"
    );
    assert!(finding.evidence.contains("Probing EDD"), "{finding:?}");
    // The firmware cleared its screen within the last word.
    let cut = wrote(serial(), &[NO_ARGUMENT, b"k"].concat(), 45);
    let finding = expect(&cut, Code::FirmwareOnly, Severity::Warning, "console=");
    let words = "it wrote: Probing EDD (edd=off to disable)... o; its last line: k";
    assert_eq!(finding.evidence, words);
    let typed = with(late, |seen| seen.status.last_input = Some(ago(30)));
    expect(
        &typed,
        Code::FirmwareOnly,
        Severity::Problem,
        "console=ttyS0",
    );

    let second = device("console2", ConsoleKind::Virtio, Source::LibvirtConsole);
    let mut facts = wrote(facts(second), b"SeaBIOS (version 1.16.2)\r\n", 300);
    let mut consoles = vec![
        device("serial0", ConsoleKind::Serial, Source::LibvirtConsole),
        device("console1", ConsoleKind::Virtio, Source::LibvirtConsole),
    ];
    consoles.extend(facts.vm.consoles.clone());
    Arc::make_mut(&mut facts.vm).consoles = consoles;
    expect(
        &facts,
        Code::FirmwareOnly,
        Severity::Warning,
        "console=hvc1",
    );
}

#[test]
fn firmware_that_cannot_go_on_is_told_at_once() {
    let nothing = wrote(serial(), NO_DISK, 1);
    expect(
        &nothing,
        Code::FirmwareOnly,
        Severity::Problem,
        "<boot order='1'/>",
    );
    let asking = wrote(serial(), SHELL, 1);
    expect(
        &asking,
        Code::FirmwareOnly,
        Severity::Problem,
        "boot by hand",
    );
}

#[test]
fn a_kernel_without_a_login_is_given_time_and_then_a_getty() {
    let early = wrote(serial(), NO_GETTY, 10);
    expect(&early, Code::NoLogin, Severity::Note, "wait a moment");
    let next = "systemctl enable --now serial-getty@ttyS0.service";
    let late = wrote(serial(), NO_GETTY, 20);
    let finding = expect(&late, Code::NoLogin, Severity::Warning, next);
    assert_eq!(finding.since, Some(ago(20)));
    let typed = with(late.clone(), |seen| seen.status.last_input = Some(ago(10)));
    expect(&typed, Code::NoLogin, Severity::Problem, next);
    // An answer that may still come is waited for.
    let just = with(late.clone(), |seen| seen.status.last_input = Some(ago(1)));
    expect(&just, Code::NoLogin, Severity::Warning, next);
    // A login may have been asked for before.
    let partial = with(late, |seen| seen.whole = false);
    expect(&partial, Code::NoLogin, Severity::Note, "press Enter");
    let late_words = b"[ 5000.000000] usb 1-1: new device\r\n";
    expect(
        &wrote(serial(), late_words, 99),
        Code::NoLogin,
        Severity::Note,
        "press Enter",
    );
}

#[test]
fn a_kernel_that_died_is_told_with_its_words() {
    let finding = expect(
        &wrote(serial(), DIED, 1),
        Code::GuestPanic,
        Severity::Problem,
        "reset",
    );
    assert!(
        finding.evidence.contains("Unable to mount root fs"),
        "{finding:?}"
    );
}

#[test]
fn input_that_nobody_takes_is_told_beside_what_the_guest_wrote() {
    let wedged = with(wrote(serial(), NO_GETTY, 100), |seen| {
        seen.status.state.wedged_since = Some(ago(7));
    });
    let findings = console(&wedged);
    assert_eq!(findings[0].code, Code::InputWedged);
    assert!(findings[0].summary.contains("for 7 s"));
    assert!(findings[0].next_step.contains("break web-1 --sysrq h"));
    assert_eq!(findings[1].code, Code::NoLogin);
}

#[test]
fn a_login_is_a_console_that_works() {
    let at_login = wrote(serial(), LOGIN, 3600);
    let finding = expect(&at_login, Code::ConsoleWorks, Severity::Good, "");
    assert_eq!(
        finding.evidence,
        "last output 60 min ago, last input never seen"
    );
    let typed = with(at_login, |seen| seen.status.last_input = Some(ago(10)));
    expect(&typed, Code::NoLogin, Severity::Warning, "press Enter");
    let mut secret = LOGIN.to_vec();
    secret.extend_from_slice(b"root\r\nPassword: ");
    let secret = with(wrote(serial(), &secret, 60), |seen| {
        seen.status.last_input = Some(ago(10));
    });
    expect(&secret, Code::ConsoleWorks, Severity::Good, "");
    let ready = unavailable(Availability::Ready, Source::LibvirtConsole);
    expect(&ready, Code::ConsoleWorks, Severity::Good, "");
}

#[test]
fn whatever_the_state_there_is_a_finding_and_every_cause_has_a_next_step() {
    let mut seen: BTreeMap<Code, usize> = BTreeMap::new();
    let outputs: [&[u8]; 7] = [b"", LOGIN, NO_GETTY, NO_ARGUMENT, DIED, NO_DISK, b"?"];
    for availability in Availability::ALL {
        for state in [
            VmState::Running,
            VmState::Stopping,
            VmState::Off,
            VmState::Unknown,
        ] {
            for output in outputs {
                for quiet in [0, 12, 40, 4000] {
                    let mut facts = wrote(
                        unavailable(availability, Source::LibvirtConsole),
                        output,
                        quiet,
                    );
                    Arc::make_mut(&mut facts.vm).state = state;
                    let findings = console(&facts);
                    assert!(!findings.is_empty());
                    for finding in findings {
                        let cause = finding.severity >= Severity::Warning;
                        assert!(!cause || !finding.next_step.is_empty(), "{finding:?}");
                        *seen.entry(finding.code).or_default() += 1;
                    }
                }
            }
        }
    }
    assert!(seen.len() >= 8, "{seen:?}");
}
