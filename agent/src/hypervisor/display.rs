//! Opens the way to a display, of whatever hypervisor: finds it in the inventory and tries its
//! ways, one after the other. How a hypervisor hands over a descriptor is the hypervisor's.

use std::sync::Arc;

use super::{ConsoleDevice, Inventory, Vm};
use crate::core::id::ConsoleId;
use crate::endpoint::{
    DirectEndpoints, DisplayAccess, DisplayLine, DisplaySource, DisplayStream, EndpointError,
    Reach, Source,
};

/// The display of this name and its VM, as of now.
///
/// # Errors
/// [`EndpointError::NotFound`] where there is none, [`EndpointError::Unsupported`] for a console
/// that is no display, or one that cannot be served.
pub(super) fn locate(
    inventory: &Inventory,
    display: &ConsoleId,
) -> Result<(Arc<Vm>, DisplaySource), EndpointError> {
    let unknown = || EndpointError::NotFound(display.to_string());
    let vm = inventory.vms.get(&display.vm).ok_or_else(unknown)?;
    let mut consoles = vm.consoles.iter();
    let device = consoles.find(|device| device.alias == display.alias);
    match &device.ok_or_else(unknown)?.source {
        Source::Display(source) => Ok((Arc::clone(vm), source.clone())),
        Source::Unserved(why) => Err(EndpointError::Unsupported(why.clone())),
        Source::LibvirtConsole | Source::LibvirtChannel | Source::Direct(_) => {
            let why = format!("{} is no display: use StreamConsole", display.alias);
            Err(EndpointError::Unsupported(why))
        }
    }
}

/// `device` as it is where only these ways are allowed to a display, in this order. `running`
/// says whether it is of a VM that runs, of which all ways are known.
pub(super) fn reached_by(device: ConsoleDevice, reach: &[Reach], running: bool) -> ConsoleDevice {
    let Source::Display(mut source) = device.source else {
        return device;
    };
    source.reach = reach.to_vec();
    let source = if running && source.ways().next().is_none() {
        let why = match Reach::ALL.into_iter().any(|way| source.has(way)) {
            true => {
                "graphics.reach of the agent's configuration has none of the ways by which it \
                 can be reached: add one of \"descriptor\", \"unix\" and \"tcp\""
            }
            false => {
                "it listens nowhere, and QEMU takes connections of its monitor's for its first \
                 display alone: have it listen on a unix socket"
            }
        };
        Source::Unserved(why.to_owned())
    } else {
        Source::Display(source)
    };
    ConsoleDevice { source, ..device }
}

/// Tries the ways to `source` until one is open: `descriptor` at most once, and the others by
/// `direct`, where `running` says that the VM's QEMU is there: what is found at a path while it
/// is not is somebody else's.
///
/// # Errors
/// [`EndpointError::NotRunning`] as soon as one says so, else what all of them said.
///
/// # Cancel safety
/// If dropped, nothing stays open, as far as `descriptor` keeps to that.
pub(super) async fn open(
    source: &DisplaySource,
    direct: &DirectEndpoints,
    running: bool,
    descriptor: impl Future<Output = Result<DisplayStream, EndpointError>> + Send,
) -> Result<DisplayLine, EndpointError> {
    let mut descriptor = Some(descriptor);
    let mut said: Vec<(Reach, EndpointError)> = Vec::new();
    for way in source.ways() {
        if said.iter().any(|(tried, _)| *tried == way) {
            continue;
        }
        let opened = match (way, descriptor.take_if(|_| way == Reach::Descriptor)) {
            (Reach::Descriptor, Some(descriptor)) => descriptor.await,
            _ if running => direct.connect_display(source, way).await,
            _ => Err(EndpointError::NotRunning),
        };
        match opened {
            Ok(stream) => {
                let (access, way) = (access(source, way), way.kind());
                return Ok(DisplayLine {
                    stream,
                    access,
                    way,
                });
            }
            Err(EndpointError::NotRunning) => return Err(EndpointError::NotRunning),
            Err(error) => said.push((way, error)),
        }
    }
    Err(outcome(source, said, running))
}

fn access(source: &DisplaySource, way: Reach) -> DisplayAccess {
    match way {
        Reach::Descriptor => DisplayAccess::Granted,
        Reach::Unix => DisplayAccess::AsAsked { host: None },
        Reach::Tcp => DisplayAccess::AsAsked {
            host: source.address.as_ref().map(|address| address.host.clone()),
        },
    }
}

/// One error of all: of the kind that is the likeliest to pass by itself, with what each said.
fn outcome(
    source: &DisplaySource,
    mut said: Vec<(Reach, EndpointError)>,
    running: bool,
) -> EndpointError {
    if said.is_empty() && !running {
        return EndpointError::NotRunning;
    }
    if said.len() == 1
        && let Some((_, only)) = said.pop()
    {
        return only;
    }
    let each: Vec<_> = said
        .iter()
        .map(|(way, error)| format!("{}: {}", source.describe(*way), text(error)))
        .collect();
    let told = each.join("; ");
    let rank = |error: &EndpointError| match error {
        EndpointError::NotRunning => 0,
        EndpointError::Unreachable(_) => 1,
        EndpointError::NotReady(_) => 2,
        EndpointError::HeldByOther(_) => 3,
        EndpointError::Denied(_) => 4,
        EndpointError::NotFound(_) => 5,
        EndpointError::Unsupported(_) => 6,
    };
    match said.into_iter().map(|(_, it)| it).min_by_key(rank) {
        Some(EndpointError::NotRunning) => EndpointError::NotRunning,
        Some(EndpointError::Unreachable(_)) => EndpointError::Unreachable(told),
        Some(EndpointError::NotReady(_)) => EndpointError::NotReady(told),
        Some(EndpointError::HeldByOther(_)) => EndpointError::HeldByOther(told),
        Some(EndpointError::Denied(_)) => EndpointError::Denied(told),
        Some(EndpointError::NotFound(_)) => EndpointError::NotFound(told),
        Some(EndpointError::Unsupported(_)) => EndpointError::Unsupported(told),
        None => EndpointError::Unsupported("no way to the display is allowed".to_owned()),
    }
}

/// What an error says, without its kind.
fn text(error: &EndpointError) -> String {
    match error {
        EndpointError::NotRunning => error.to_string(),
        EndpointError::NotReady(text)
        | EndpointError::HeldByOther(text)
        | EndpointError::Denied(text)
        | EndpointError::Unsupported(text)
        | EndpointError::NotFound(text)
        | EndpointError::Unreachable(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests;
