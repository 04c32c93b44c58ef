//! QMP, QEMU's monitor protocol, as far as the agent needs it.
//!
//! The peer is hostile ground: whoever may put a socket where the agent looks for one may
//! answer anything. [`frames`] cuts its bytes into messages of bounded size and depth,
//! [`message`] tells what a message is, [`command`] what may be asked, and [`client`] asks.
//! Only `client` does I/O.
//!
//! Source: QEMU's `docs/interop/qmp-spec.rst` and QAPI schemas, and QEMU 7.2 as it behaves.

pub(super) mod client;
pub(super) mod command;
pub(super) mod frames;
pub(super) mod message;
pub(super) mod pace;
pub(super) mod text;

use self::command::{Chardev, Name, QomProperty, SocketAddress, Status, Uuid};
use self::frames::Frames;
use self::message::Message;

/// Reads `bytes` as a client reads what a QMP server sends, every message as each of the
/// answers that the agent knows, and tells how many messages there were. For fuzzing: no input
/// may panic, or make it keep more than a message.
pub fn read_all(bytes: &[u8]) -> usize {
    let mut frames = Frames::default();
    let mut messages = 0;
    for chunk in bytes.chunks(client::READ_BYTES) {
        frames.extend(chunk);
        loop {
            match frames.next() {
                Ok(Some(message)) => {
                    messages += 1;
                    read_one(&message);
                }
                Ok(None) => break,
                Err(_) => return messages,
            }
        }
    }
    messages
}

fn read_one(bytes: &[u8]) {
    if !matches!(message::parse(bytes), Ok(Message::Reply { .. })) {
        return;
    }
    let _name = message::answer::<Name>(bytes);
    let _uuid = message::answer::<Uuid>(bytes);
    let _status = message::answer::<Status>(bytes).map(|status| status.state());
    let _properties = message::answer::<Vec<QomProperty>>(bytes);
    let address = message::answer::<SocketAddress>(bytes).ok();
    for chardev in message::answer::<Vec<Chardev>>(bytes).unwrap_or_default() {
        let _backend = super::chardev::backend(&chardev.filename, address.as_ref());
    }
}
