//! The libvirt side by itself, without an agent around it: in this process, on a libvirtd of
//! the test's own.

mod channel;
mod displays;
mod effects;
pub(crate) mod turns;

use std::sync::Arc;
use std::time::Duration;

use nix::unistd::User;
use tokio::sync::watch;
use vmconsole_agent::core::id::{Alias, ConsoleId, VmUuid};
use vmconsole_agent::endpoint::{
    Attachment, DirectEndpoints, DirectRules, Endpoint, EndpointEnd, OutputSink, TcpRule,
};
use vmconsole_agent::hypervisor::libvirt::{LibvirtConfig, LibvirtHypervisor};
use vmconsole_agent::hypervisor::{Hypervisor, VmState};
use vmconsole_agent::shutdown::Tasks;
use vmconsole_tests::guest::{Guest, GuestOptions};
use vmconsole_tests::libvirtd::Libvirtd;

/// Far more than anything takes on an idle machine.
const BOUND: Duration = Duration::from_secs(120);

/// A libvirtd, and what the agent would see of it.
struct Rig {
    hypervisor: Arc<LibvirtHypervisor>,
    tasks: Tasks,
    libvirtd: Libvirtd,
}

impl Rig {
    fn start() -> Self {
        let libvirtd = Libvirtd::start();
        let tasks = Tasks::new();
        let hypervisor = connect(&libvirtd, &tasks);
        Self {
            hypervisor,
            tasks,
            libvirtd,
        }
    }

    /// Starts a guest with further devices and waits until it is known to run.
    async fn guest(&self, options: GuestOptions, devices: &str) -> (Guest, VmUuid) {
        let guest = Guest::define(&self.libvirtd, options);
        // A display's password is among what is secret.
        let dump = ["dumpxml", "--security-info", guest.name()];
        let dump = self.libvirtd.virsh(&dump).unwrap();
        let xml = dump.replace("</devices>", &format!("{devices}</devices>"));
        let path = self.libvirtd.dir().join("more.xml");
        std::fs::write(&path, xml).unwrap();
        let path = path.to_str().unwrap();
        self.libvirtd.virsh(&["define", path]).unwrap();
        guest.start();
        let uuid = guest.uuid().parse().unwrap();
        runs(&self.hypervisor, uuid).await;
        (guest, uuid)
    }

    fn endpoint(&self, vm: VmUuid, alias: &str) -> (ConsoleId, Arc<dyn Endpoint>) {
        let alias = Alias::new(alias).unwrap();
        let console = ConsoleId { vm, alias };
        let endpoint = self.hypervisor.endpoint(&console);
        (console, endpoint)
    }

    async fn stop(self) {
        self.tasks.close();
        self.tasks.drained(BOUND).await;
    }
}

/// One more client of libvirtd.
fn connect(libvirtd: &Libvirtd, tasks: &Tasks) -> Arc<LibvirtHypervisor> {
    connect_by(libvirtd, tasks, |_| {})
}

/// One more client of libvirtd, that is not as usual.
fn connect_by(
    libvirtd: &Libvirtd,
    tasks: &Tasks,
    change: impl FnOnce(&mut LibvirtConfig),
) -> Arc<LibvirtHypervisor> {
    let qemu = User::from_name("libvirt-qemu").unwrap().unwrap();
    let qemu = qemu.uid.as_raw();
    let rules = DirectRules {
        directories: vec![libvirtd.dir().to_owned()],
        owners: vec![0, qemu],
        tcp: TcpRule::Loopback,
    };
    let mut config = LibvirtConfig {
        uri: libvirtd.uri(),
        channels: vec!["org.vmconsole.*".to_owned()],
        ..LibvirtConfig::default()
    };
    change(&mut config);
    let direct = DirectEndpoints::new(rules, tasks.clone());
    let (hypervisor, task) = LibvirtHypervisor::new(config, direct);
    tasks.spawn("libvirt", task.run(tasks.token()));
    hypervisor
}

/// Waits until the VM is known to run.
async fn runs(hypervisor: &LibvirtHypervisor, vm: VmUuid) {
    let mut inventory = hypervisor.inventory();
    let runs = inventory.wait_for(|inventory| {
        let vm = inventory.vms.get(&vm);
        vm.is_some_and(|vm| vm.state == VmState::Running && vm.instance.is_some())
    });
    tokio::time::timeout(BOUND, runs).await.unwrap().unwrap();
}

/// All that a console said, and how it ended.
#[derive(Default)]
struct Heard {
    said: Vec<u8>,
    end: Option<EndpointEnd>,
}

/// Listens to a console.
struct Ear(watch::Sender<Heard>);

impl Ear {
    fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::default()))
    }

    /// Waits until the console has said this `count` times.
    #[track_caller]
    fn hears(&self, text: &str, count: usize) -> impl Future<Output = ()> {
        let heard = self.0.subscribe();
        let text = text.as_bytes().to_vec();
        async move {
            let said = |heard: &Heard| {
                let windows = heard.said.windows(text.len());
                windows.filter(|part| *part == text).count() >= count
            };
            let all = || String::from_utf8_lossy(&heard.borrow().said).into_owned();
            let mut waiting = heard.clone();
            let came = tokio::time::timeout(BOUND, waiting.wait_for(said)).await;
            let text = String::from_utf8_lossy(&text);
            assert!(came.is_ok(), "{text:?} did not come; but:\n{}", all());
        }
    }

    async fn end(&self) -> EndpointEnd {
        let mut heard = self.0.subscribe();
        let ended = heard.wait_for(|heard| heard.end.is_some());
        let heard = tokio::time::timeout(BOUND, ended).await.unwrap().unwrap();
        heard.end.clone().unwrap()
    }
}

impl OutputSink for Ear {
    fn output(&self, bytes: &[u8]) {
        self.0.send_modify(|heard| heard.said.extend(bytes));
    }

    fn ended(&self, end: EndpointEnd) {
        self.0.send_modify(|heard| heard.end = Some(end));
    }
}

async fn send(to: &mut dyn Attachment, text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let taken = tokio::time::timeout(BOUND, to.write(rest)).await;
        rest = &rest[taken.unwrap().unwrap()..];
    }
}
