//! The half of a stream that types and acknowledges.

use bytes::Bytes;
use tokio::sync::mpsc;
use vmconsole_proto::v1;
use vmconsole_proto::v1::stream_console_request::Message;

/// The most bytes of one `Input`.
const MAX_INPUT: usize = 64 * 1024;

/// What goes to the agent. Once the stream has ended nothing is sent any more, and the
/// receive half says why.
#[derive(Debug)]
pub struct SendHalf {
    requests: mpsc::Sender<v1::StreamConsoleRequest>,
    offset: u64,
    epoch: u64,
}

impl SendHalf {
    pub(super) const fn new(
        requests: mpsc::Sender<v1::StreamConsoleRequest>,
        opened: &v1::Opened,
    ) -> Self {
        let offset = match opened.next_input_offset {
            Some(offset) => offset,
            None => 0,
        };
        Self {
            requests,
            offset,
            epoch: opened.write_epoch,
        }
    }

    pub(super) fn clone_for_acks(&self) -> mpsc::Sender<v1::StreamConsoleRequest> {
        self.requests.clone()
    }

    /// The offset of the next byte to type.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// From now on types under this epoch of the lease.
    pub const fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// Types `bytes`, whatever the input window is.
    pub async fn type_bytes(&mut self, bytes: impl Into<Bytes>) {
        let mut bytes = bytes.into();
        while !bytes.is_empty() {
            let data = bytes.split_to(bytes.len().min(MAX_INPUT));
            let (offset, write_epoch) = (self.offset, self.epoch);
            self.offset += data.len() as u64;
            let input = v1::Input {
                offset,
                write_epoch,
                data,
            };
            self.send(Message::Input(input)).await;
        }
    }

    /// Says that `position` is the next byte that is expected. The receive half does so by
    /// itself where the stream has a window.
    pub async fn acknowledge(&self, position: v1::Position) {
        let position = Some(position);
        self.send(Message::OutputAck(v1::OutputAck { position }))
            .await;
    }

    /// Sends any message.
    pub async fn send(&self, message: Message) {
        let message = Some(message);
        // A stream that has ended takes nothing more; the receive half tells.
        let _ = self
            .requests
            .send(v1::StreamConsoleRequest { message })
            .await;
    }
}
