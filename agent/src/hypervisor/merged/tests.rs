//! Who has a VM that two know, and what is said of it meanwhile.

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::hypervisor::{Instance, Provider, Vm, VmState};
use crate::shutdown::Tasks;

fn uuid(number: u128) -> VmUuid {
    VmUuid::new(Uuid::from_u128(number))
}

fn inventory(name: &'static str, vms: &[(u128, &str)]) -> Inventory {
    let vm = |(number, name): &(u128, &str)| {
        let vm = Vm {
            uuid: uuid(*number),
            name: (*name).into(),
            state: VmState::Running,
            instance: Some(Instance(1)),
            last_reset: None,
            consoles: Vec::new(),
        };
        (vm.uuid, Arc::new(vm))
    };
    Inventory {
        connected: true,
        synced: true,
        vms: vms.iter().map(vm).collect(),
        providers: vec![Provider {
            name,
            place: "there".to_owned(),
            connected: true,
            trouble: String::new(),
        }],
        ..Inventory::default()
    }
}

fn merged(first: &Inventory, second: &Inventory) -> Merge {
    merge(&[
        ("libvirt", Arc::new(first.clone())),
        ("qemu", Arc::new(second.clone())),
    ])
}

#[test]
fn the_first_that_knows_a_vm_has_it_and_the_other_claim_is_reported() {
    let libvirt = inventory("libvirt", &[(1, "one"), (2, "two")]);
    let qemu = inventory("qemu", &[(2, "false"), (3, "three")]);
    let merge = merged(&libvirt, &qemu);
    let names: Vec<&str> = merge.inventory.vms.values().map(|vm| &*vm.name).collect();
    assert_eq!(names, ["one", "two", "three"]);
    assert_eq!(
        *merge.owners,
        Owners::from([(uuid(1), 0), (uuid(2), 0), (uuid(3), 1)])
    );
    let conflict = Conflict {
        uuid: uuid(2),
        claimant: "qemu: false".to_owned(),
        holder: "libvirt".to_owned(),
    };
    assert_eq!(merge.inventory.conflicts, [conflict]);
    assert!(merge.inventory.stale.is_empty());
    let providers: Vec<&str> = merge.inventory.providers.iter().map(|it| it.name).collect();
    assert_eq!(providers, ["libvirt", "qemu"]);
}

#[test]
fn nothing_of_a_later_one_is_certain_before_the_earlier_was_read() {
    let mut libvirt = inventory("libvirt", &[]);
    (libvirt.connected, libvirt.synced) = (false, false);
    libvirt.trouble = "no socket".to_owned();
    let qemu = inventory("qemu", &[(3, "three")]);
    let merge = merged(&libvirt, &qemu);
    assert!(merge.inventory.stale[&uuid(3)].contains("libvirt.enabled = false"));
    assert!(!merge.inventory.connected && !merge.inventory.synced);
    assert_eq!(merge.inventory.trouble, "libvirt: no socket");
    // Once it was read, what it knows stays known while it is away.
    libvirt.synced = true;
    assert!(merged(&libvirt, &qemu).inventory.stale.is_empty());
}

#[test]
fn one_that_is_away_makes_only_its_own_vms_uncertain() {
    let mut libvirt = inventory("libvirt", &[(1, "one")]);
    libvirt.connected = false;
    libvirt.stale = [(uuid(1), "it is away".into())].into();
    let merge = merged(&libvirt, &inventory("qemu", &[(3, "three")]));
    let stale: Vec<VmUuid> = merge.inventory.stale.keys().copied().collect();
    assert_eq!(stale, [uuid(1)]);
}

#[test]
fn refused_claims_are_bounded() {
    let many: Vec<(u128, &str)> = (0..100).map(|number| (number, "vm")).collect();
    let merge = merged(&inventory("libvirt", &many), &inventory("qemu", &many));
    assert_eq!(merge.inventory.conflicts.len(), MAX_CONFLICTS);
}

/// A hypervisor that has an inventory and answers to side effects with its name.
struct Named(&'static str, watch::Sender<Arc<Inventory>>);

#[async_trait::async_trait]
impl Hypervisor for Named {
    fn inventory(&self) -> watch::Receiver<Arc<Inventory>> {
        self.1.subscribe()
    }

    fn endpoint(&self, _: &ConsoleId) -> Arc<dyn Endpoint> {
        Arc::new(Refusing(self.0))
    }

    async fn inject_nmi(&self, _: VmUuid) -> Result<(), EffectError> {
        Err(EffectError::Denied(self.0.to_owned()))
    }
}

struct Refusing(&'static str);

#[async_trait::async_trait]
impl Endpoint for Refusing {
    async fn attach(
        &self,
        _: Arc<dyn OutputSink>,
        _: Claim,
    ) -> Result<Box<dyn Attachment>, EndpointError> {
        Err(EndpointError::Denied(self.0.to_owned()))
    }
}

struct Nowhere;

impl OutputSink for Nowhere {
    fn output(&self, _: &[u8]) {}
    fn ended(&self, _: crate::endpoint::EndpointEnd) {}
}

#[tokio::test(start_paused = true)]
async fn calls_and_consoles_go_to_whoever_has_the_vm_at_the_time() {
    let libvirt = Arc::new(Named(
        "libvirt",
        watch::Sender::new(Arc::new(inventory("libvirt", &[]))),
    ));
    let qemu = Named(
        "qemu",
        watch::Sender::new(Arc::new(inventory("qemu", &[(3, "three")]))),
    );
    let (merged, task) = MergedHypervisor::new(vec![
        ("libvirt", Arc::clone(&libvirt) as Arc<dyn Hypervisor>),
        ("qemu", Arc::new(qemu)),
    ]);
    let tasks = Tasks::new();
    tasks.spawn("merge", task.run(tasks.token()));
    let mut seen = merged.inventory();
    seen.wait_for(|it| it.vms.contains_key(&uuid(3)))
        .await
        .unwrap();
    let console = ConsoleId {
        vm: uuid(3),
        alias: crate::core::id::Alias::new("serial0").unwrap(),
    };
    let endpoint = merged.endpoint(&console);
    let who = async || match endpoint.attach(Arc::new(Nowhere), Claim::IfFree).await {
        Err(EndpointError::Denied(who)) => who,
        other => panic!("{:?}", other.err()),
    };
    assert_eq!(who().await, "qemu");
    assert_eq!(
        merged.inject_nmi(uuid(3)).await,
        Err(EffectError::Denied("qemu".to_owned()))
    );
    let unknown = merged.inject_nmi(uuid(9)).await;
    assert!(matches!(unknown, Err(EffectError::NotFound(_))));
    // libvirt gets to know the VM.
    libvirt
        .1
        .send_replace(Arc::new(inventory("libvirt", &[(3, "three")])));
    seen.wait_for(|it| !it.conflicts.is_empty()).await.unwrap();
    assert_eq!(who().await, "libvirt");
    tasks.close();
    tasks.drained(Duration::from_secs(1)).await;
}
