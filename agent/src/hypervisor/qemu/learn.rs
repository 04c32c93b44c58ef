//! Asks a QEMU what it is: its name, its UUID, what it is doing, its consoles and displays.
//! Queries only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::chardev;
use super::devices::{self, Console, MAX_CONSOLES, MAX_LABEL_BYTES, Model, Port};
use super::displays;
use super::qmp::client::{Client, ClientError};
use super::qmp::command::{
    Chardev, QomGet, QomList, QueryChardev, QueryName, QueryStatus, QueryUuid, QueryVnc,
    QueryVncServers, SocketAddress,
};
use super::qmp::message::MessageError;
use super::qmp::text::printable;
use crate::core::id::VmUuid;
use crate::hypervisor::{ConsoleDevice, VmState};

/// Where devices are looked for.
const PARENTS: [&str; 3] = [
    "/machine/unattached",
    "/machine/peripheral",
    "/machine/peripheral-anon",
];
/// The longest VM name that is kept, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// What a QEMU says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// The identity that it claims, or that its socket gives it.
    pub(super) uuid: VmUuid,
    /// Whether it claims it.
    pub(super) claimed: bool,
    /// The terminals and listening sockets of all its chardevs, its monitors' among them: no
    /// other QEMU has any of them.
    pub(super) ends: BTreeSet<String>,
    /// Its name, printable and not empty.
    pub(super) name: Arc<str>,
    /// What it is doing.
    pub(super) state: VmState,
    /// Whether that is a state that it leaves by itself and tells nobody.
    pub(super) passing: bool,
    /// When it was last reset, if it was seen to be.
    pub(super) last_reset: Option<SystemTime>,
    /// Its consoles.
    pub(super) consoles: Vec<Console>,
    /// Its VNC displays.
    pub(super) displays: Vec<ConsoleDevice>,
}

/// Asks all of it, in at most `limit`. `own` is the identity that its socket gives it.
///
/// # Errors
/// See [`ClientError`].
///
/// # Cancel safety
/// If dropped, the connection stays of use.
pub(super) async fn learn(
    client: &mut Client,
    socket: &Path,
    own: VmUuid,
    limit: Duration,
) -> Result<Facts, ClientError> {
    let learnt = tokio::time::timeout(limit, ask_all(client, socket, own)).await;
    learnt.unwrap_or(Err(ClientError::Silent {
        command: "all that is asked of it",
        limit,
    }))
}

async fn ask_all(client: &mut Client, socket: &Path, own: VmUuid) -> Result<Facts, ClientError> {
    let uuid = client.execute(&QueryUuid {}).await?.uuid;
    let claimed = !uuid.is_nil();
    let name = client
        .execute(&QueryName {})
        .await?
        .name
        .unwrap_or_default();
    let status = client.execute(&QueryStatus {}).await?;
    let chardevs = client.execute(&QueryChardev {}).await?;
    let displays = displays(client, socket).await?;
    let ports = ports(client).await?;
    let addresses = addresses(client, &chardevs).await?;
    Ok(Facts {
        uuid: if claimed { VmUuid::new(uuid) } else { own },
        claimed,
        ends: chardevs.iter().filter_map(chardev::own_end).collect(),
        name: name_of(&name, socket).into(),
        state: status.state(),
        passing: status.is_passing(),
        last_reset: client.last_reset(),
        consoles: devices::consoles(ports, &chardevs, &addresses, socket),
        displays,
    })
}

/// The VM's name, or what its socket's is without the ending.
fn name_of(name: &str, socket: &Path) -> String {
    let name = printable(name.trim(), MAX_NAME_BYTES);
    if !name.is_empty() {
        return name;
    }
    let stem = socket.file_stem().unwrap_or_default();
    printable(&stem.to_string_lossy(), MAX_NAME_BYTES)
}

/// The ports of all devices that are consoles.
async fn ports(client: &mut Client) -> Result<Vec<Port>, ClientError> {
    let mut ports = Vec::new();
    let mut asked = 0;
    for (parent, path) in PARENTS.into_iter().enumerate() {
        let below = granted(client.execute(&QomList { path }).await)?;
        for child in below.unwrap_or_default() {
            let Some(model) = Model::of(&child.kind) else {
                continue;
            };
            if child.name.len() > MAX_LABEL_BYTES || asked == MAX_CONSOLES {
                continue;
            }
            asked += 1;
            let device = format!("{path}/{}", child.name);
            let bus = bus(client, model, &device).await?;
            for (port, property) in model.chardevs.iter().enumerate() {
                let chardev: Option<String> = get(client, &device, property).await?;
                if let Some(chardev) = chardev.filter(|label| !label.is_empty()) {
                    let bus = (bus.0.as_str(), bus.1);
                    ports.push(Port::new(
                        model,
                        (parent, &child.name),
                        bus,
                        (port, chardev),
                    ));
                }
            }
        }
    }
    Ok(ports)
}

/// The VNC displays; none where QEMU was built without VNC, or answers in a shape of its own.
async fn displays(client: &mut Client, socket: &Path) -> Result<Vec<ConsoleDevice>, ClientError> {
    if let Some(servers) = understood(client.execute(&QueryVncServers {}).await)? {
        return Ok(displays::listed(&servers, socket));
    }
    let only = understood(client.execute(&QueryVnc {}).await)?;
    Ok(only
        .map(|vnc| displays::only(&vnc, socket))
        .unwrap_or_default())
}

/// On which bus a device is, where that matters, and as which number.
async fn bus(
    client: &mut Client,
    model: Model,
    device: &str,
) -> Result<(String, u64), ClientError> {
    let Some(property) = model.number else {
        return Ok((String::new(), 0));
    };
    let number: Option<u64> = get(client, device, property).await?;
    let bus: Option<String> = match property {
        "nr" => get(client, device, "parent_bus").await?,
        _ => None,
    };
    Ok((bus.unwrap_or_default(), number.unwrap_or(u64::MAX)))
}

/// The addresses of those chardevs whose file name does not tell them for certain.
async fn addresses(
    client: &mut Client,
    chardevs: &[Chardev],
) -> Result<BTreeMap<String, SocketAddress>, ClientError> {
    let mut addresses = BTreeMap::new();
    let asked = chardevs.iter().filter(|chardev| {
        chardev.label.len() <= MAX_LABEL_BYTES && chardev::has_address(&chardev.filename)
    });
    for chardev in asked.take(MAX_CONSOLES) {
        let path = format!("/chardevs/{}", chardev.label);
        if let Some(address) = get(client, &path, "addr").await? {
            addresses.insert(chardev.label.clone(), address);
        }
    }
    Ok(addresses)
}

async fn get<A>(client: &mut Client, path: &str, property: &str) -> Result<Option<A>, ClientError>
where
    A: serde::de::DeserializeOwned + Send,
{
    understood(client.execute(&QomGet::<A>::new(path, property)).await)
}

/// An answer, or nothing where this QEMU does not know the question, or means another thing by it
/// than the agent: that is of no use here.
fn understood<A>(answer: Result<A, ClientError>) -> Result<Option<A>, ClientError> {
    match answer {
        Err(ClientError::Message(MessageError::Answer(_))) => Ok(None),
        answer => granted(answer),
    }
}

/// An answer, or nothing where this QEMU does not know the question.
fn granted<A>(answer: Result<A, ClientError>) -> Result<Option<A>, ClientError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(ClientError::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_without_a_name_is_called_after_its_socket() {
        let socket = Path::new("/run/vmconsole/qmp/web.sock");
        assert_eq!(name_of("db 1", socket), "db 1");
        assert_eq!(name_of(" \n", socket), "web");
        assert_eq!(name_of("", Path::new("/run/a")), "a");
    }
}
