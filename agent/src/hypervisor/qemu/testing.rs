//! A provider for tests: it knows no console's directory, and waits for no QEMU for long.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{QemuConfig, QemuHypervisor};
use crate::endpoint::{DirectEndpoints, DirectRules, Reach, TcpRule};
use crate::shutdown::Tasks;

/// A provider of this directory and these sockets that runs among `tasks`.
pub(crate) fn started(
    directory: PathBuf,
    sockets: Vec<PathBuf>,
    tasks: &Tasks,
) -> Arc<QemuHypervisor> {
    let config = QemuConfig {
        directory,
        sockets,
        owners: Vec::new(),
        greeting_timeout: Duration::from_millis(300),
        command_timeout: Duration::from_millis(500),
        reach: Reach::ALL.to_vec(),
    };
    let rules = DirectRules {
        directories: Vec::new(),
        owners: Vec::new(),
        tcp: TcpRule::Off,
    };
    let direct = DirectEndpoints::new(rules, tasks.clone());
    let (hypervisor, task) = QemuHypervisor::new(config, direct, tasks.clone());
    tasks.spawn("qemu", task.run(tasks.token()));
    hypervisor
}
