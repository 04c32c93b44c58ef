//! What becomes of VMs that are gone: those that went on to another host are told apart.

use super::*;
use crate::endpoint::{DirectEndpoints, DirectRules, TcpRule};
use crate::hypervisor::libvirt::{LibvirtConfig, LibvirtHypervisor};
use crate::hypervisor::{Instance, MAX_MOVED};
use crate::shutdown::Tasks;

fn uuid(number: usize) -> VmUuid {
    VmUuid::new(uuid::Uuid::from_u128(number as u128))
}

fn vm(number: usize, state: VmState, instance: Option<Instance>) -> Arc<Vm> {
    Arc::new(Vm {
        uuid: uuid(number),
        name: "vm".into(),
        state,
        instance,
        last_reset: None,
        consoles: Vec::new(),
    })
}

fn running(number: usize) -> Arc<Vm> {
    vm(number, VmState::Running, Some(Instance(1)))
}

fn task() -> LibvirtTask {
    let rules = DirectRules {
        directories: Vec::new(),
        owners: Vec::new(),
        tcp: TcpRule::Off,
    };
    let direct = DirectEndpoints::new(rules, Tasks::new());
    LibvirtHypervisor::new(LibvirtConfig::default(), direct).1
}

#[test]
fn that_a_vm_went_outlasts_a_read_that_was_under_way_and_one_that_finds_it_off() {
    let mut task = task();
    assert!(task.present(uuid(1), running(1)));
    task.shared.dirty.moved(uuid(1));
    assert!(!task.present(uuid(1), running(1)), "as it was before");
    task.shared.dirty.take(|_| true);
    assert!(task.present(uuid(1), vm(1, VmState::Off, None)));
    assert!(task.gone(uuid(1)));
    assert!(task.inventory.moved.contains(&uuid(1)));
    assert!(task.present(uuid(1), running(1)));
    assert!(task.inventory.moved.is_empty(), "it is back");
    assert!(task.gone(uuid(1)));
    assert!(task.inventory.moved.is_empty(), "it went nowhere");
}

#[test]
fn a_vm_that_a_list_shows_to_be_gone_went_if_that_was_told() {
    let mut task = task();
    for number in 1..=3 {
        task.present(uuid(number), running(number));
    }
    task.shared.dirty.moved(uuid(1));
    task.retain(&BTreeSet::from([uuid(3)]));
    assert_eq!(task.inventory.moved, BTreeSet::from([uuid(1)]));
    assert_eq!(task.inventory.vms.len(), 1);
}

#[test]
fn the_newest_that_went_are_known_however_many_went_before() {
    let mut task = task();
    for number in (0..=MAX_MOVED).rev() {
        task.present(uuid(number), running(number));
        task.shared.dirty.moved(uuid(number));
        task.gone(uuid(number));
    }
    assert_eq!(task.inventory.moved.len(), MAX_MOVED);
    assert!(task.inventory.moved.contains(&uuid(0)));
    assert!(!task.inventory.moved.contains(&uuid(MAX_MOVED)));
}
