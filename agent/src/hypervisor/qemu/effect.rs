//! Does to a VM what was ordered, over its monitor. It decides nothing about whether it should.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use super::canvas::Canvas;
use super::order::Deed;
use super::qmp::client::{Client, ClientError};
use super::qmp::command::{
    AddClient, AddFd, CloseFd, GetFd, InjectNmi, KeyValue, QueryFdsets, Screendump, SendBreak,
    SendKey,
};
use super::qmp::message::RefusalClass;
use crate::core::keys::{KeyPress, MAX_HOLD, MAX_KEYS};
use crate::hypervisor::{EffectError, MAX_SCREENSHOT_BYTES};

/// What QEMU calls a connection to its display on the way from one command to the next.
const DISPLAY_FD: &str = "vmconsole-display";

/// Does `deed`; a picture is what comes of it, or nothing. The second error is the
/// connection's, if it is of no use any longer. `canvas` is what this QEMU's pictures go
/// through, once there was one.
///
/// # Cancel safety
/// If dropped, it may or may not be done.
pub(super) async fn perform(
    client: &mut Client,
    canvas: &mut Option<Canvas>,
    deed: &Deed,
) -> (Result<Vec<u8>, EffectError>, Option<ClientError>) {
    let done = match deed {
        Deed::Break(id) => plain(client.execute(&SendBreak { id }).await),
        Deed::Keys(keys) => plain(client.execute(&press(keys)).await),
        Deed::Nmi => plain(client.execute(&InjectNmi {}).await),
        Deed::ServeDisplay(end) => serve_display(client, end.as_fd()).await,
        Deed::Screenshot(0) => screenshot(client, canvas).await,
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

/// Hands QEMU `end` for its first VNC display. Nothing stays behind of one that is refused, and of
/// one that is not answered at most this one, until the next or the monitor's end.
async fn serve_display(client: &mut Client, end: BorrowedFd<'_>) -> Result<Vec<u8>, Failure> {
    let get = GetFd { fdname: DISPLAY_FD };
    client.execute_with_fd(&get, end).await?;
    let add = AddClient {
        protocol: "vnc",
        fdname: DISPLAY_FD,
        skipauth: true,
    };
    let added = client.execute(&add).await;
    if let Err(ClientError::Refused { .. }) = added {
        let close = CloseFd { fdname: DISPLAY_FD };
        match client.execute(&close).await {
            // QEMU had taken it before it refused, and closed it.
            Ok(_) | Err(ClientError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    plain(added)
}

async fn screenshot(client: &mut Client, kept: &mut Option<Canvas>) -> Result<Vec<u8>, Failure> {
    // QEMU does one command after the other: once it answers this one, nothing of an earlier
    // picture that was given up is written any more.
    let sets = client.execute(&QueryFdsets {}).await?;
    let canvas = match kept {
        Some(canvas) => canvas,
        None => kept.insert(Canvas::new()?),
    };
    let fdset_id = match canvas.set_among(&sets) {
        Some(fdset_id) => fdset_id,
        None => {
            let add = AddFd {
                opaque: canvas.opaque(),
            };
            let added = client.execute_with_fd(&add, canvas.for_qemu());
            added.await?.fdset_id
        }
    };
    canvas.wipe()?;
    let filename = format!("/dev/fdset/{fdset_id}");
    let filename = filename.as_str();
    let taken = client.execute(&Screendump { filename }).await;
    let picture = match taken {
        Ok(_) => canvas.read().await.map_err(Failure::from),
        Err(error) => Err(error.into()),
    };
    // The memory is given back, whatever came of it.
    canvas.wipe()?;
    let picture = picture?;
    if picture.len() > MAX_SCREENSHOT_BYTES {
        let detail = format!("the screen's picture has more than {MAX_SCREENSHOT_BYTES} bytes");
        return Err(Failure::Effect(EffectError::Unsupported(detail)));
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::keys::Key;
    use crate::hypervisor::qemu::qmp::message::Refusal;
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
}
