//! Where an attach goes, by the inventory of that moment.

use super::*;
use crate::core::id::{Alias, VmUuid};
use crate::endpoint::{DirectRules, EndpointEnd, TcpRule};
use crate::hypervisor::libvirt::{LibvirtConfig, LibvirtHypervisor};
use crate::hypervisor::{ConsoleDevice, ConsoleKind, Hypervisor, VmState};
use crate::shutdown::Tasks;

const UUID: &str = "c3ca651d-ff60-4eee-8814-66c8ffd2ecec";

/// Takes what nothing of these tests gives.
struct Nowhere;

impl OutputSink for Nowhere {
    fn output(&self, _bytes: &[u8]) {}

    fn ended(&self, _end: EndpointEnd) {}
}

fn device(source: Source) -> ConsoleDevice {
    ConsoleDevice {
        alias: Alias::new("serial0").unwrap(),
        kind: ConsoleKind::Serial,
        source,
        backend: "unix".to_owned(),
    }
}

fn inventory(state: VmState, consoles: Vec<ConsoleDevice>) -> Arc<Inventory> {
    let uuid: VmUuid = UUID.parse().unwrap();
    let vm = Vm {
        uuid,
        name: "vm".into(),
        state,
        instance: None,
        last_reset: None,
        consoles,
    };
    Arc::new(Inventory {
        vms: [(uuid, Arc::new(vm))].into(),
        ..Inventory::default()
    })
}

/// The endpoint of a libvirt that is not there, with an inventory that is given.
fn endpoint() -> (watch::Sender<Arc<Inventory>>, LibvirtEndpoint) {
    let rules = DirectRules {
        directories: Vec::new(),
        owners: Vec::new(),
        tcp: TcpRule::Off,
    };
    let direct = DirectEndpoints::new(rules, Tasks::new());
    let config = LibvirtConfig {
        uri: "qemu:///none?socket=/nonexistent".to_owned(),
        ..LibvirtConfig::default()
    };
    let (libvirt, _task) = LibvirtHypervisor::new(config, Arc::clone(&direct));
    assert!(libvirt.inventory().borrow().vms.is_empty());
    let console = ConsoleId {
        vm: UUID.parse().unwrap(),
        alias: Alias::new("serial0").unwrap(),
    };
    let (publish, inventory) = watch::channel(Arc::default());
    let shared = Arc::clone(&libvirt.shared);
    (
        publish,
        LibvirtEndpoint::new(shared, inventory, direct, console),
    )
}

async fn refusal(endpoint: &LibvirtEndpoint) -> EndpointError {
    let attached = endpoint.attach(Arc::new(Nowhere), Claim::IfFree).await;
    attached.err().expect("nothing is there to attach")
}

#[tokio::test]
async fn each_attach_goes_by_the_latest_inventory() {
    let (publish, endpoint) = endpoint();
    assert!(matches!(
        refusal(&endpoint).await,
        EndpointError::NotFound(_)
    ));
    publish.send_replace(inventory(VmState::Running, Vec::new()));
    assert!(matches!(
        refusal(&endpoint).await,
        EndpointError::NotFound(_)
    ));

    let unserved = || vec![device(Source::Unserved("use a pty".to_owned()))];
    publish.send_replace(inventory(VmState::Running, unserved()));
    let expected = EndpointError::Unsupported("use a pty".to_owned());
    assert_eq!(refusal(&endpoint).await, expected);

    let libvirts = || vec![device(Source::LibvirtConsole)];
    publish.send_replace(inventory(VmState::Running, libvirts()));
    assert!(matches!(
        refusal(&endpoint).await,
        EndpointError::Unreachable(_)
    ));
}

#[tokio::test]
async fn a_socket_is_opened_only_while_its_vm_runs_and_names_it() {
    let (publish, endpoint) = endpoint();
    let socket = |path: &str| vec![device(Source::Direct(Direct::Unix(path.into())))];
    publish.send_replace(inventory(VmState::Off, socket("/run/a")));
    assert_eq!(refusal(&endpoint).await, EndpointError::NotRunning);
    publish.send_replace(inventory(VmState::Running, socket("")));
    assert!(matches!(
        refusal(&endpoint).await,
        EndpointError::NotReady(_)
    ));
    publish.send_replace(inventory(VmState::Running, socket("/run/a")));
    let direct = refusal(&endpoint).await;
    assert!(!matches!(
        direct,
        EndpointError::NotReady(_) | EndpointError::NotRunning
    ));
}
