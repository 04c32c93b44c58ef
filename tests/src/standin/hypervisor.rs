//! A hypervisor whose VMs each have one console that is a unix socket: a serial console, or a
//! display.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::sync::watch;
use vmconsole_agent::core::id::{Alias, ConsoleId, VmUuid};
use vmconsole_agent::endpoint::{
    Direct, DirectEndpoints, DirectRules, DisplayAccess, DisplayHandle, DisplayLine, DisplaySource,
    DisplayStream, Endpoint, EndpointError, EndpointKind, Reach, Source, TcpRule,
};
use vmconsole_agent::hypervisor::{
    ConsoleDevice, ConsoleKind, Hypervisor, Instance, Inventory, Vm, VmState,
};
use vmconsole_agent::shutdown::Tasks;

use super::socket::SocketEndpoint;

/// The alias of the one console of every VM that has no display.
pub const ALIAS: &str = "serial0";

/// The alias of a display.
const DISPLAY_ALIAS: &str = "vnc0";

/// The extension of a socket that is a display.
pub(super) const DISPLAY: &str = "vnc";

/// The UUID of the VM with this number, from 0.
///
/// # Panics
/// Never: the text is a UUID.
pub fn vm_uuid(number: usize) -> VmUuid {
    let text = format!("00000000-0000-4000-8000-{number:012x}");
    text.parse().expect("this is how a UUID is written")
}

/// VMs that are unix sockets.
#[derive(Debug)]
pub struct StandinHypervisor {
    inventory: watch::Sender<Arc<Inventory>>,
    sockets: BTreeMap<VmUuid, PathBuf>,
    endpoints: Arc<DirectEndpoints>,
}

impl StandinHypervisor {
    /// One VM for each socket, named for the socket's file without its extension, its UUID
    /// [`vm_uuid`] of its place. It is a display where that extension is `vnc`. All of them run.
    /// Reading runs among `tasks`.
    pub fn new(sockets: impl IntoIterator<Item = PathBuf>, tasks: Tasks) -> Self {
        let sockets: BTreeMap<_, _> = sockets
            .into_iter()
            .enumerate()
            .map(|(number, path)| (vm_uuid(number), path))
            .collect();
        let directories = sockets.values().filter_map(|path| path.parent());
        let directories: BTreeSet<_> = directories.map(Path::to_owned).collect();
        let rules = DirectRules {
            directories: directories.into_iter().collect(),
            owners: Vec::new(),
            tcp: TcpRule::Off,
        };
        let vms = sockets.iter();
        let vms = vms.map(|(uuid, path)| (*uuid, Arc::new(vm(*uuid, path, true))));
        let inventory = Inventory {
            connected: true,
            synced: true,
            trouble: String::new(),
            vms: vms.collect(),
            ..Inventory::default()
        };
        Self {
            inventory: watch::Sender::new(Arc::new(inventory)),
            sockets,
            endpoints: DirectEndpoints::new(rules, tasks),
        }
    }

    /// Says that the VM `name` runs, or is off.
    ///
    /// # Panics
    /// When there is no such VM.
    pub fn set_running(&self, name: &str, running: bool) {
        self.inventory.send_modify(|inventory| {
            let inventory = Arc::make_mut(inventory);
            let mut vms = inventory.vms.values_mut();
            let found = vms.find(|vm| &*vm.name == name).expect("such a VM");
            *found = Arc::new(vm(found.uuid, &self.sockets[&found.uuid], running));
        });
    }
}

fn vm(uuid: VmUuid, path: &Path, running: bool) -> Vm {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Vm {
        uuid,
        name: name.into(),
        state: if running {
            VmState::Running
        } else {
            VmState::Off
        },
        instance: running.then_some(Instance(1)),
        last_reset: None,
        consoles: vec![device(path)],
    }
}

fn device(path: &Path) -> ConsoleDevice {
    let alias = |text| Alias::new(text).expect("a good alias");
    if path.extension().is_some_and(|it| it == DISPLAY) {
        let source = DisplaySource {
            number: 0,
            handle: DisplayHandle::Qemu(DISPLAY_ALIAS.to_owned()),
            socket: Some(path.to_owned()),
            address: None,
            reach: vec![Reach::Unix],
        };
        ConsoleDevice {
            alias: alias(DISPLAY_ALIAS),
            kind: ConsoleKind::Vnc,
            source: Source::Display(source),
            backend: "vnc".to_owned(),
        }
    } else {
        ConsoleDevice {
            alias: alias(ALIAS),
            kind: ConsoleKind::Serial,
            source: Source::Direct(Direct::Unix(path.to_owned())),
            backend: "unix".to_owned(),
        }
    }
}

#[async_trait::async_trait]
impl Hypervisor for StandinHypervisor {
    fn inventory(&self) -> watch::Receiver<Arc<Inventory>> {
        self.inventory.subscribe()
    }

    fn endpoint(&self, console: &ConsoleId) -> Arc<dyn Endpoint> {
        // A console that was never in the inventory has no socket: attaching it fails.
        let path = self.sockets.get(&console.vm).cloned().unwrap_or_default();
        Arc::new(SocketEndpoint::new(path, self.endpoints.clone()))
    }

    async fn open_display(&self, display: &ConsoleId) -> Result<DisplayLine, EndpointError> {
        let unknown = || EndpointError::Unsupported("no such display".to_owned());
        let path = self.sockets.get(&display.vm).ok_or_else(unknown)?;
        let stream = UnixStream::connect(path).await;
        let stream = stream.map_err(|error| EndpointError::Unreachable(error.to_string()))?;
        Ok(DisplayLine {
            stream: DisplayStream::Unix(stream),
            access: DisplayAccess::AsAsked { host: None },
            way: EndpointKind::UnixSocket,
        })
    }
}
