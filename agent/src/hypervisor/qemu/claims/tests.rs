//! Who gets a UUID, in every order of events.

use proptest::prelude::*;

use super::super::process::Process;
use super::*;
use crate::hypervisor::{Instance, new_conflicts};

fn uuid(number: u128) -> VmUuid {
    VmUuid::new(uuid::Uuid::from_u128(number))
}

fn serving(number: u128, instance: u64) -> Standing {
    answering(number, true, instance, &instance.to_string())
}

/// A QEMU that has this end, behind a socket that this process made.
fn answering(number: u128, claimed: bool, process: u64, end: &str) -> Standing {
    let facts = Facts {
        uuid: uuid(number),
        claimed,
        displays: Vec::new(),
        ends: [end.to_owned()].into(),
        name: "vm".into(),
        state: VmState::Running,
        passing: false,
        last_reset: None,
        consoles: Vec::new(),
    };
    let peer = Peer {
        process: Some(Process {
            id: 1,
            started: process,
        }),
        instance: Instance(process),
        place: (0, 0),
    };
    Standing::Serving {
        facts: Arc::new(facts),
        peer,
        trouble: None,
    }
}

fn path(name: &str) -> PathBuf {
    Path::new("/run").join(name)
}

impl View {
    fn holder(&self, number: u128) -> Option<PathBuf> {
        let holder = self.holders.get(&uuid(number));
        holder.map(|holding| holding.path.clone())
    }
}

fn holder(claims: &Claims, number: u128) -> Option<PathBuf> {
    claims.view().holder(number)
}

#[test]
fn the_first_keeps_a_uuid_until_its_qemu_ended() {
    let mut claims = Claims::default();
    claims.set(&path("b"), serving(1, 10));
    claims.set(&path("a"), serving(1, 20));
    assert_eq!(holder(&claims, 1), Some(path("b")));
    let conflict = Conflict {
        uuid: uuid(1),
        claimant: "/run/a".to_owned(),
        holder: "/run/b".to_owned(),
    };
    assert_eq!(claims.view().conflicts, [conflict]);

    claims.set(&path("b"), Standing::Lost("hangs".into()));
    let view = claims.view();
    assert_eq!(view.holder(1), Some(path("b")));
    assert_eq!(view.stale.get(&uuid(1)).map(|why| &**why), Some("hangs"));

    claims.set(&path("b"), Standing::Ended);
    let view = claims.view();
    assert_eq!(view.holder(1), Some(path("a")));
    assert_eq!(view.vms.get(&uuid(1)).unwrap().instance, Some(Instance(20)));
    assert!(view.conflicts.is_empty());

    // Who comes back finds it taken.
    claims.set(&path("b"), serving(1, 30));
    assert_eq!(holder(&claims, 1), Some(path("a")));
    assert_eq!(claims.view().conflicts.len(), 1);
}

#[test]
fn who_claims_another_uuid_lets_the_first_go() {
    let mut claims = Claims::default();
    claims.set(&path("a"), serving(1, 10));
    claims.set(&path("b"), serving(1, 20));
    claims.set(&path("a"), serving(2, 10));
    assert_eq!(holder(&claims, 1), Some(path("b")));
    assert_eq!(holder(&claims, 2), Some(path("a")));
    assert!(claims.view().conflicts.is_empty());
}

#[test]
fn two_monitors_of_one_qemu_are_no_conflict() {
    let mut claims = Claims::default();
    claims.set(&path("a"), serving(1, 10));
    claims.set(&path("b"), serving(1, 10));
    let view = claims.view();
    assert_eq!(view.vms.len(), 1);
    assert!(view.conflicts.is_empty());
}

#[test]
fn two_qemus_whose_sockets_one_process_made_are_two() {
    let mut claims = Claims::default();
    claims.set(&path("a"), answering(1, true, 10, "pty:/dev/pts/1"));
    claims.set(&path("b"), answering(1, true, 10, "pty:/dev/pts/2"));
    assert_eq!(claims.view().conflicts.len(), 1);
    let mut claims = Claims::default();
    claims.set(&path("a"), answering(1, false, 10, "pty:/dev/pts/1"));
    claims.set(&path("b"), answering(2, false, 10, "pty:/dev/pts/2"));
    assert_eq!(claims.view().vms.len(), 2);
}

#[test]
fn one_qemu_without_a_uuid_is_one_vm_by_the_first_of_its_paths() {
    let mut claims = Claims::default();
    claims.set(&path("b"), answering(2, false, 10, "pty:/dev/pts/1"));
    assert_eq!(holder(&claims, 2), Some(path("b")));
    claims.set(&path("a"), answering(1, false, 10, "pty:/dev/pts/1"));
    let view = claims.view();
    assert_eq!(view.vms.keys().collect::<Vec<_>>(), [&uuid(1)]);
    assert_eq!(view.holder(1), Some(path("a")));
    assert!(view.conflicts.is_empty());
    // It is gone as a whole, or not at all; what is left then is another one.
    claims.set(&path("a"), Standing::Ended);
    assert_eq!(holder(&claims, 2), Some(path("b")));
}

#[test]
fn what_is_wrong_with_a_served_socket_is_told_last() {
    let mut claims = Claims::default();
    let Standing::Serving { facts, peer, .. } = serving(1, 10) else {
        panic!("it serves");
    };
    let trouble = Some("replaced".into());
    let serving = Standing::Serving {
        facts,
        peer,
        trouble,
    };
    claims.set(&path("a"), serving);
    claims.set(&path("b"), Standing::Lost("is held".into()));
    let troubles: Vec<_> = claims.troubles().map(|(path, _)| path.to_owned()).collect();
    assert_eq!(troubles, [path("b"), path("a")]);
    assert!(claims.view().stale.is_empty());
}

#[test]
fn an_ended_vm_is_off_until_its_socket_is_forgotten() {
    let mut claims = Claims::default();
    claims.set(&path("a"), Standing::Ended);
    assert!(claims.view().vms.is_empty());
    claims.set(&path("a"), serving(1, 10));
    claims.set(&path("a"), Standing::Ended);
    let view = claims.view();
    let vm = view.vms.get(&uuid(1)).unwrap();
    assert_eq!((vm.state, vm.instance), (VmState::Off, None));
    // Trouble with what lies at its path does not bring it back.
    claims.set(&path("a"), Standing::Lost("a fifo".into()));
    let view = claims.view();
    assert_eq!(view.vms.get(&uuid(1)).unwrap().state, VmState::Off);
    assert!(view.stale.is_empty());
    claims.remove(&path("a"));
    assert!(claims.view().vms.is_empty());
}

#[test]
fn those_never_served_are_told_of_first() {
    let mut claims = Claims::default();
    claims.set(&path("a"), serving(1, 10));
    claims.set(&path("a"), Standing::Lost("hangs".into()));
    claims.set(&path("b"), Standing::Lost("is held".into()));
    let troubles: Vec<_> = claims.troubles().map(|(path, _)| path.to_owned()).collect();
    assert_eq!(troubles, [path("b"), path("a")]);
}

#[test]
fn a_conflict_is_new_once() {
    let conflict = |claimant: &str| Conflict {
        uuid: uuid(1),
        claimant: claimant.to_owned(),
        holder: "/run/a".to_owned(),
    };
    let now = [conflict("b"), conflict("c")];
    assert_eq!(new_conflicts(&[], &now).len(), 2);
    assert_eq!(new_conflicts(&now[..1], &now), [&now[1]]);
    assert!(new_conflicts(&now, &now).is_empty());
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        3 => (1u128..4, 1u64..6).prop_map(|(number, instance)| serving(number, instance)),
        1 => Just(Standing::Lost("x".into())),
        1 => Just(Standing::Ended),
    ]
}

proptest! {
    #[test]
    fn a_uuid_changes_hands_only_when_its_holder_lets_it_go(
        steps in prop::collection::vec((0usize..5, prop::option::weighted(0.9, standing())), 0..60),
    ) {
        let mut claims = Claims::default();
        let mut before = claims.view();
        for (socket, standing) in steps {
            let socket = path(&socket.to_string());
            match &standing {
                Some(standing) => claims.set(&socket, standing.clone()),
                None => claims.remove(&socket),
            }
            let view = claims.view();
            for (uuid, Holding { path: held_by, .. }) in &before.holders {
                let lived = before.vms.get(uuid).is_some_and(|vm| vm.state != VmState::Off);
                if lived && *held_by != socket {
                    let now = view.holders.get(uuid).map(|it| &it.path);
                    prop_assert_eq!(now, Some(held_by));
                }
            }
            for (uuid, vm) in &view.vms {
                prop_assert_eq!(vm.uuid, *uuid);
                prop_assert_eq!(vm.instance.is_none(), vm.state == VmState::Off);
            }
            for uuid in view.stale.keys() {
                prop_assert!(view.vms.contains_key(uuid));
            }
            before = view;
        }
    }
}
