//! Which sources of VMs there are, by the configuration, as one.

use std::sync::Arc;

use nix::unistd::{User, geteuid};
use prometheus::Registry;
use tracing::{debug, warn};

use crate::config::{Config, DisplayWay, Endpoints, TcpConsoles};
use crate::endpoint::{DirectEndpoints, DirectRules, Reach, TcpRule};
use crate::hypervisor::Hypervisor;
use crate::hypervisor::libvirt::{LibvirtConfig, LibvirtHypervisor, LibvirtTask};
use crate::hypervisor::merged::{MergeTask, MergedHypervisor};
use crate::hypervisor::qemu::{
    DEFAULT_COMMAND_TIMEOUT, DEFAULT_GREETING_TIMEOUT, QemuConfig, QemuHypervisor, QemuTask,
};
use crate::metrics::MetricsError;
use crate::shutdown::Tasks;

/// The sources of VMs, and what keeps each of them.
pub struct Hypervisors {
    merged: Arc<MergedHypervisor>,
    merge: MergeTask,
    libvirt: Option<LibvirtTask>,
    qemu: Option<QemuTask>,
}

impl Hypervisors {
    /// Those that are enabled, libvirt first: what it knows, it has. They know nothing before
    /// [`Hypervisors::run`]. What they open is drained among `tasks`.
    ///
    /// # Errors
    /// [`MetricsError`] if their metrics are in `registry` already.
    pub fn new(config: &Config, registry: &Registry, tasks: &Tasks) -> Result<Self, MetricsError> {
        let rules = direct_rules(&config.endpoints);
        let owners = rules.owners.clone();
        let reach: Vec<Reach> = config.graphics.reach.iter().map(reach).collect();
        let direct = DirectEndpoints::new(rules, tasks.clone());
        direct.register_metrics(registry)?;
        let mut hypervisors: Vec<(&'static str, Arc<dyn Hypervisor>)> = Vec::new();
        let mut libvirt = None;
        if config.libvirt.enabled {
            let from = LibvirtConfig {
                uri: config.libvirt.uri.clone(),
                call_timeout: config.libvirt.call_timeout,
                channels: config.libvirt.channels.clone(),
                reach: reach.clone(),
                ..LibvirtConfig::default()
            };
            let (hypervisor, task) = LibvirtHypervisor::new(from, Arc::clone(&direct));
            hypervisor.register_metrics(registry)?;
            hypervisors.push(("libvirt", hypervisor));
            libvirt = Some(task);
        }
        let mut qemu = None;
        if config.qemu.enabled {
            let from = QemuConfig {
                directory: config.qemu.directory.clone(),
                sockets: config.qemu.sockets.clone(),
                owners,
                greeting_timeout: DEFAULT_GREETING_TIMEOUT,
                command_timeout: DEFAULT_COMMAND_TIMEOUT,
                reach: reach.clone(),
            };
            let (hypervisor, task) = QemuHypervisor::new(from, direct, tasks.clone());
            hypervisor.register_metrics(registry)?;
            hypervisors.push(("qemu", hypervisor));
            qemu = Some(task);
        }
        let (merged, merge) = MergedHypervisor::new(hypervisors);
        Ok(Self {
            merged,
            merge,
            libvirt,
            qemu,
        })
    }

    /// All of them, as one.
    pub fn merged(&self) -> Arc<dyn Hypervisor> {
        Arc::clone(&self.merged) as Arc<dyn Hypervisor>
    }

    /// Keeps them among `tasks` until those are told to stop.
    pub fn run(self, tasks: &Tasks) {
        tasks.spawn("hypervisors", self.merge.run(tasks.token()));
        if let Some(libvirt) = self.libvirt {
            tasks.spawn("libvirt", libvirt.run(tasks.token()));
        }
        if let Some(qemu) = self.qemu {
            tasks.spawn("qemu", qemu.run(tasks.token()));
        }
    }
}

const fn reach(way: &DisplayWay) -> Reach {
    match way {
        DisplayWay::Descriptor => Reach::Descriptor,
        DisplayWay::Unix => Reach::Unix,
        DisplayWay::Tcp => Reach::Tcp,
    }
}

/// Which endpoints the agent may open itself.
fn direct_rules(endpoints: &Endpoints) -> DirectRules {
    let mut owners = vec![geteuid().as_raw()];
    for name in &endpoints.owners {
        match User::from_name(name) {
            Ok(Some(user)) => owners.push(user.uid.as_raw()),
            Ok(None) => debug!(%name, "no such user here: owns no console"),
            Err(error) => warn!(%name, %error, "the user is not known: owns no console"),
        }
    }
    DirectRules {
        directories: endpoints.directories.clone(),
        owners,
        tcp: match endpoints.tcp {
            TcpConsoles::Off => TcpRule::Off,
            TcpConsoles::Loopback => TcpRule::Loopback,
            TcpConsoles::Any => TcpRule::Any,
        },
    }
}
