//! What is done to a VM beside carrying its consoles' bytes: a break, keys, an interrupt, a
//! picture. Each is one call among the others of its VM, with their limits of time and number.
//! Nothing is tried twice, since it may have happened.

use std::sync::Arc;
use std::time::Instant;

use tokio::time::timeout;

use super::effect_error::{Effect, failed, monitor_answer};
use super::ffi::{Connection, Domain, LibvirtError};
use super::{LibvirtHypervisor, Shared, xml};
use crate::core::id::{ConsoleId, VmUuid};
use crate::core::keys::{KeyPress, MAX_HOLD};
use crate::hypervisor::{ConsoleKind, EffectError, MAX_SCREENSHOT_BYTES, Screenshot};

/// What libvirt puts before a device's alias to name its character device to QEMU.
const CHARDEV_PREFIX: &str = "char";

/// The monitor's command for a break on a console. What the alias holds cannot leave its
/// string.
fn break_command(alias: &str) -> String {
    let id = format!("{CHARDEV_PREFIX}{alias}");
    let arguments = serde_json::json!({ "id": id });
    serde_json::json!({ "execute": "chardev-send-break", "arguments": arguments }).to_string()
}

impl LibvirtHypervisor {
    pub(super) async fn break_line(&self, console: &ConsoleId) -> Result<(), EffectError> {
        let kind = {
            let inventory = self.inventory.borrow();
            let vm = inventory.vms.get(&console.vm);
            let mut consoles = vm.iter().flat_map(|vm| &vm.consoles);
            let device = consoles.find(|device| device.alias == console.alias);
            device.map(|device| device.kind)
        };
        match kind.ok_or_else(|| EffectError::NotFound(console.to_string()))? {
            ConsoleKind::Serial => {}
            ConsoleKind::Virtio | ConsoleKind::Channel | ConsoleKind::Vnc => {
                let why = format!("{} has no line to break: serial ports have", console.alias);
                return Err(EffectError::Unsupported(why));
            }
        }
        let command = break_command(console.alias.as_str());
        let ask = move |domain: &Domain| domain.monitor_command(&command);
        let answer = self.act(console.vm, Effect::Break, ask).await?;
        monitor_answer(&answer)
    }

    pub(super) async fn press(&self, vm: VmUuid, press: &KeyPress) -> Result<(), EffectError> {
        let keys: Vec<u16> = press.keys.iter().map(|key| key.linux).collect();
        let hold = press.hold.min(MAX_HOLD);
        let press = move |domain: &Domain| {
            // QEMU throws keys away where there is no keyboard, and says nothing.
            if xml::parse(&domain.xml()?, &[]).is_ok_and(|definition| !definition.keyboard) {
                return Ok(false);
            }
            domain.send_keys(&keys, hold).map(|()| true)
        };
        if self.act(vm, Effect::Keys, press).await? {
            return Ok(());
        }
        let why = "it has no keyboard: add <input type=\"keyboard\" bus=\"usb\"/>";
        Err(EffectError::Unsupported(why.to_owned()))
    }

    pub(super) async fn interrupt(&self, vm: VmUuid) -> Result<(), EffectError> {
        self.act(vm, Effect::Nmi, Domain::inject_nmi).await
    }

    pub(super) async fn picture(&self, vm: VmUuid, screen: u32) -> Result<Screenshot, EffectError> {
        let shared = Arc::clone(&self.shared);
        let limit = shared.config.call_timeout;
        let connecting = Arc::clone(&shared.connecting).acquire_owned();
        let connecting = timeout(limit, connecting).await.map_err(|_| {
            EffectError::NotDone("libvirtd does not take up connections in time".to_owned())
        })?;
        let take = move || {
            let picture = picture(&shared, vm, screen, connecting)?;
            Ok(Screenshot(picture))
        };
        let what = Effect::Screenshot.what();
        let picture = self.shared.calls.call(Some(vm), what, take).await;
        match picture.map_err(|error| failed(Effect::Screenshot, error))? {
            picture if picture.0.is_empty() => {
                let why = "the picture is empty: see QEMU's log";
                Err(EffectError::Unreachable(why.to_owned()))
            }
            picture => Ok(picture),
        }
    }

    /// Does `act` to the domain, as the VM's one call at a time.
    async fn act<T: Send + 'static>(
        &self,
        vm: VmUuid,
        effect: Effect,
        act: impl FnOnce(&Domain) -> Result<T, LibvirtError> + Send + 'static,
    ) -> Result<T, EffectError> {
        let Some(connection) = self.shared.connection.lock().upgrade() else {
            let trouble = self.inventory.borrow().trouble.clone();
            let why = format!("not connected to libvirt: {trouble}");
            return Err(EffectError::NotDone(why));
        };
        let act = move || act(&Domain::lookup(&connection, &vm.to_string())?);
        let done = self.shared.calls.call(Some(vm), effect.what(), act).await;
        done.map_err(|error| failed(effect, error))
    }
}

/// Takes a picture over a connection of its own: a picture is up to
/// [`MAX_SCREENSHOT_BYTES`] long, and nobody else's answer should stand behind it. May block.
fn picture<P>(
    shared: &Shared,
    vm: VmUuid,
    screen: u32,
    connecting: P,
) -> Result<Vec<u8>, LibvirtError> {
    let deadline = Instant::now() + shared.config.call_timeout;
    let connection = Connection::open(&shared.config.uri)?;
    drop(connecting);
    let connection = Arc::new(connection);
    super::unit::keep_alive(&connection);
    let picture = Domain::lookup(&connection, &vm.to_string())
        .and_then(|domain| domain.screenshot(screen, MAX_SCREENSHOT_BYTES, deadline));
    if let Some(connection) = Arc::into_inner(connection) {
        connection.close();
    }
    picture
}

#[cfg(test)]
mod tests;
