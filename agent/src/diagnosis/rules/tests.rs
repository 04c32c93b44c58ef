//! Facts about a console that works, for the tests of each subject to change.

mod display;
mod endpoint;
mod guest;
mod vm;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::finding::Severity;
use super::super::transcript::Transcript;
use super::*;
use crate::console::{Availability, ConsoleState, Status};
use crate::core::id::ConsoleId;
use crate::core::position::{Generation, Position};
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
        last_reset: None,
        consoles,
    }
}

/// A console of a VM that runs, attached 1000 s ago.
fn facts(device: ConsoleDevice) -> ConsoleFacts {
    let vm = vm("web-1", vec![device.clone()]);
    let state = ConsoleState {
        availability: Availability::Attached,
        since: ago(1000),
        checked: None,
        vm_state: VmState::Running,
        detail: String::new(),
        next_try: None,
        holder: None,
        silent_since: None,
        wedged_since: None,
        generation: None,
        booted: None,
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
