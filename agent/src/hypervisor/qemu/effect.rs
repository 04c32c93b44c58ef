//! Does to a VM what was ordered, over its monitor, and takes pictures of its screen.
//!
//! A picture goes through a memory file that QEMU is handed by descriptor: there is no path
//! that anybody could guess, and it does not matter as which user QEMU runs.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::io::AsyncReadExt;

use super::order::Deed;
use super::qmp::client::{Client, ClientError};
use super::qmp::command::{AddFd, InjectNmi, KeyValue, RemoveFd, Screendump, SendBreak, SendKey};
use super::qmp::message::RefusalClass;
use crate::core::keys::{KeyPress, MAX_HOLD, MAX_KEYS};
use crate::hypervisor::{EffectError, MAX_SCREENSHOT_BYTES};

/// Does `deed`; a picture is what comes of it, or nothing. The second error is the
/// connection's, if it is of no use any longer.
///
/// # Cancel safety
/// If dropped, it may or may not be done.
pub(super) async fn perform(
    client: &mut Client,
    deed: &Deed,
) -> (Result<Vec<u8>, EffectError>, Option<ClientError>) {
    let done = match deed {
        Deed::Break(id) => plain(client.execute(&SendBreak { id }).await),
        Deed::Keys(keys) => plain(client.execute(&press(keys)).await),
        Deed::Nmi => plain(client.execute(&InjectNmi {}).await),
        Deed::Screenshot(0) => screenshot(client).await,
        Deed::Screenshot(_) => {
            let detail = "of a QEMU without libvirt the first screen alone can be had: ask for 0";
            return (Err(EffectError::Unsupported(detail.to_owned())), None);
        }
    };
    match done {
        Ok(picture) => (Ok(picture), None),
        Err(Failure::Effect(error)) => (Err(error), None),
        Err(Failure::Client(error)) => {
            let told = explain(&error);
            let fatal = !matches!(
                error,
                ClientError::Silent { .. } | ClientError::Refused { .. }
            );
            (Err(told), fatal.then_some(error))
        }
    }
}

/// Why a deed failed.
enum Failure {
    Effect(EffectError),
    Client(ClientError),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let text = format!("the agent has no memory for the picture: {error}");
        Self::Effect(EffectError::Unreachable(text))
    }
}

fn plain<A>(done: Result<A, ClientError>) -> Result<Vec<u8>, Failure> {
    done.map(|_| Vec::new()).map_err(Failure::Client)
}

fn explain(error: &ClientError) -> EffectError {
    match error {
        ClientError::Refused { refusal, .. } => match refusal.class {
            RefusalClass::DeviceNotFound => EffectError::NotFound(refusal.text.clone()),
            RefusalClass::CommandNotFound | RefusalClass::Generic => {
                EffectError::Unsupported(refusal.text.clone())
            }
        },
        other => EffectError::Unreachable(other.to_string()),
    }
}

fn press(keys: &KeyPress) -> SendKey {
    let hold = keys.hold.min(MAX_HOLD).as_millis();
    SendKey {
        keys: keys
            .keys
            .iter()
            .take(MAX_KEYS)
            .map(|key| KeyValue::Qcode(key.name))
            .collect(),
        hold_time: u64::try_from(hold).unwrap_or(u64::MAX),
    }
}

async fn screenshot(client: &mut Client) -> Result<Vec<u8>, Failure> {
    let memory = memfd_create("vmconsole-screenshot", MFdFlags::MFD_CLOEXEC)
        .map_err(|errno| Failure::from(io::Error::from(errno)))?;
    let fdset_id = client
        .execute_with_fd(&add_fd(), write_only(&memory)?.as_fd())
        .await?
        .fdset_id;
    let filename = format!("/dev/fdset/{fdset_id}");
    let filename = filename.as_str();
    let taken = client.execute(&Screendump { filename }).await;
    // Whether it was taken or not, QEMU is to let go of it.
    client.execute(&RemoveFd { fdset_id }).await?;
    taken?;
    let picture = read(memory).await?;
    if picture.len() > MAX_SCREENSHOT_BYTES {
        let detail = format!("the screen's picture has more than {MAX_SCREENSHOT_BYTES} bytes");
        return Err(Failure::Effect(EffectError::Unsupported(detail)));
    }
    Ok(picture)
}

const fn add_fd() -> AddFd {
    AddFd {
        opaque: "vmconsole-agent: screenshot",
    }
}

/// The memory file once more, for writing alone: QEMU takes from a set the descriptor that was
/// opened as it would have opened the file.
fn write_only(memory: &OwnedFd) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .open(format!("/proc/self/fd/{}", memory.as_raw_fd()))
}

/// Reads what QEMU wrote, and one byte more than is allowed. QEMU moved no offset of ours: the
/// two descriptors were opened apart.
async fn read(memory: OwnedFd) -> io::Result<Vec<u8>> {
    let most = u64::try_from(MAX_SCREENSHOT_BYTES).unwrap_or(u64::MAX);
    let mut picture = Vec::new();
    let mut file = tokio::fs::File::from_std(File::from(memory)).take(most + 1);
    file.read_to_end(&mut picture).await?;
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::keys::Key;
    use crate::hypervisor::qemu::qmp::message::Refusal;
    use std::io::Write;
    use std::time::Duration;

    #[test]
    fn a_refusal_says_what_is_missing() {
        let refused = |class| {
            let text = "no such thing".to_owned();
            let refusal = Refusal { class, text };
            explain(&ClientError::Refused {
                command: "x",
                refusal,
            })
        };
        let text = "no such thing".to_owned();
        let missing = refused(RefusalClass::DeviceNotFound);
        assert_eq!(missing, EffectError::NotFound(text.clone()));
        let generic = refused(RefusalClass::Generic);
        assert_eq!(generic, EffectError::Unsupported(text));
    }

    #[test]
    fn keys_are_bounded() {
        let key = Key {
            name: "a",
            linux: 30,
        };
        let pressed = press(&KeyPress {
            keys: vec![key; 100],
            hold: Duration::from_secs(100),
        });
        assert_eq!(pressed.keys.len(), MAX_KEYS);
        assert_eq!(pressed.hold_time, 5000);
    }

    #[tokio::test]
    async fn what_is_written_to_the_second_descriptor_is_read_from_the_first() {
        let memory = memfd_create("test", MFdFlags::MFD_CLOEXEC).unwrap();
        let mut writer = write_only(&memory).unwrap();
        writer.write_all(b"P6").unwrap();
        assert_eq!(read(memory).await.unwrap(), b"P6");
    }
}
