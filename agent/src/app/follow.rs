//! Keeps `/readyz` and the gauges of the hypervisors true.

use std::sync::Arc;

use prometheus::{IntGauge, IntGaugeVec, Registry};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::console::Directory;
use crate::http::Readiness;
use crate::hypervisor::Inventory;
use crate::metrics::{MetricsError, gauge, gauges};

/// What is shown of the hypervisors.
pub(super) struct FollowGauges {
    connected: IntGaugeVec,
    vms: IntGauge,
    stale: IntGauge,
    conflicts: IntGauge,
}

impl FollowGauges {
    pub(super) fn register(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            connected: gauges(
                registry,
                "vmconsole_hypervisor_connected",
                "Whether a source of VMs can be asked (1) or not (0)",
                &["hypervisor"],
            )?,
            vms: gauge(registry, "vmconsole_vms", "VMs that are known")?,
            stale: gauge(
                registry,
                "vmconsole_vms_uncertain",
                "VMs of which nothing is certain now: known from before, and not reached",
            )?,
            conflicts: gauge(
                registry,
                "vmconsole_identity_conflicts",
                "Claims to a VM's identity that are refused, as another has it",
            )?,
        })
    }

    fn show(&self, inventory: &Inventory) {
        for provider in &inventory.providers {
            self.connected
                .with_label_values(&[provider.name])
                .set(i64::from(provider.connected));
        }
        for (gauge, count) in [
            (&self.vms, inventory.vms.len()),
            (&self.stale, inventory.stale.len()),
            (&self.conflicts, inventory.conflicts.len()),
        ] {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// Follows what is known.
pub(super) struct Follow {
    pub(super) directory: watch::Receiver<Arc<Directory>>,
    pub(super) inventory: watch::Receiver<Arc<Inventory>>,
    pub(super) draining: CancellationToken,
    pub(super) ready: watch::Sender<Readiness>,
    pub(super) gauges: FollowGauges,
}

impl Follow {
    pub(super) async fn run(mut self, token: CancellationToken) {
        loop {
            let listed = self.directory.borrow_and_update().clone();
            let known = self.inventory.borrow_and_update().clone();
            let draining = self.draining.is_cancelled();
            self.gauges.show(&known);
            self.ready.send_replace(judge(&listed, &known, draining));
            tokio::select! {
                biased; // to stop comes before everything
                () = token.cancelled() => return,
                () = self.draining.cancelled(), if !draining => {}
                changed = self.directory.changed() => if changed.is_err() { return },
                changed = self.inventory.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// A VM that alone cannot be reached makes the host's other consoles no less ready.
fn judge(directory: &Directory, inventory: &Inventory, draining: bool) -> Readiness {
    let (vms, stale) = (inventory.vms.len(), inventory.stale.len());
    if draining {
        Readiness::NotReady("the agent is stopping".to_owned())
    } else if !inventory.connected {
        Readiness::NotReady(format!("not connected: {}", inventory.trouble))
    } else if !directory.synced {
        Readiness::NotReady("the VMs are being read".to_owned())
    } else if vms > 0 && stale == vms {
        let why = inventory.stale.values().next().map_or("", |why| &**why);
        Readiness::NotReady(format!("nothing is certain of any VM; of the first: {why}"))
    } else {
        Readiness::Ready
    }
}
