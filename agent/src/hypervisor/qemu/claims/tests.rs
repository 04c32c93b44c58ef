//! Who gets a UUID, in every order of events.

use proptest::prelude::*;

use super::*;
use crate::hypervisor::new_conflicts;

fn uuid(number: u128) -> VmUuid {
    VmUuid::new(uuid::Uuid::from_u128(number))
}

fn serving(number: u128, instance: u64) -> Standing {
    let facts = Facts {
        uuid: uuid(number),
        name: "vm".into(),
        state: VmState::Running,
        consoles: Vec::new(),
    };
    Standing::Serving(Arc::new(facts), Instance(instance))
}

fn path(name: &str) -> PathBuf {
    Path::new("/run").join(name)
}

impl View {
    fn holder(&self, number: u128) -> Option<PathBuf> {
        let holder = self.holders.get(&uuid(number));
        holder.map(|(path, _)| path.clone())
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
            for (uuid, (held_by, _)) in &before.holders {
                let lived = before.vms.get(uuid).is_some_and(|vm| vm.state != VmState::Off);
                if lived && *held_by != socket {
                    let now = view.holders.get(uuid).map(|(path, _)| path);
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
