//! Reads one VM from libvirt. Every function here may block, and is for [`Calls`] to run.
//!
//! [`Calls`]: super::calls::Calls

use std::sync::Arc;

use super::LibvirtConfig;
use super::ffi::{Connection, Domain, LibvirtError, RawState, code};
use super::resets::Resets;
use super::xml;
use crate::core::id::VmUuid;
use crate::hypervisor::{Vm, VmState, display};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// The VM is like this.
    Present(Arc<Vm>),
    /// There is no such VM (any longer).
    Gone,
}

/// Which VMs there are.
pub(super) fn list(connection: &Connection) -> Result<Vec<VmUuid>, LibvirtError> {
    Ok(Domain::list(connection)?
        .into_iter()
        .map(VmUuid::new)
        .collect())
}

/// Reads a VM's state and definition, and what is known of resets. They are two calls: where the
/// VM changes in between, an event follows and has it read again.
pub(super) fn read(
    connection: &Arc<Connection>,
    vm: VmUuid,
    config: &LibvirtConfig,
    resets: &Resets,
) -> Result<Reading, LibvirtError> {
    match read_present(connection, vm, config, resets) {
        Ok(vm) => Ok(Reading::Present(Arc::new(vm))),
        Err(error) if error.code == code::NO_DOMAIN => Ok(Reading::Gone),
        Err(error) => Err(error),
    }
}

fn read_present(
    connection: &Arc<Connection>,
    uuid: VmUuid,
    config: &LibvirtConfig,
    resets: &Resets,
) -> Result<Vm, LibvirtError> {
    let domain = Domain::lookup(connection, &uuid.to_string())?;
    let state = match domain.state()? {
        RawState::Running => VmState::Running,
        RawState::Paused | RawState::Suspended => VmState::Paused,
        RawState::ShuttingDown => VmState::Stopping,
        RawState::Off => VmState::Off,
        RawState::Moved => VmState::Moved,
        RawState::Crashed => VmState::Crashed,
        RawState::None => VmState::Unknown,
    };
    let definition = match xml::parse(&domain.xml()?, &config.channels) {
        Ok(definition) => definition,
        Err(error) => {
            tracing::warn!(vm.uuid = %uuid, error = %error, "the VM's consoles are not known");
            let name = domain.name().into();
            return Ok(Vm {
                uuid,
                name,
                state,
                instance: None,
                last_reset: None,
                consoles: Vec::new(),
            });
        }
    };
    if definition.left_out > 0 {
        tracing::warn!(vm.uuid = %uuid, count = definition.left_out, "consoles were left out");
    }
    let instance = definition.instance.filter(|_| state.has_console());
    let running = instance.is_some();
    let consoles = definition.consoles.into_iter();
    let consoles = consoles.map(|it| display::reached_by(it, &config.reach, running));
    Ok(Vm {
        uuid,
        name: definition.name.into(),
        state,
        instance,
        last_reset: resets.last(uuid, instance),
        consoles: consoles.collect(),
    })
}
