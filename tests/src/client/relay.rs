//! A relay of a display, as a proxy has it: bytes of RFB by offset and window, and beside them
//! what the session tells.
//!
//! It keeps to the windows, and panics where the agent does not.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use vmconsole_proto::v1;
use vmconsole_proto::v1::graphics_service_client::GraphicsServiceClient;
use vmconsole_proto::v1::relay_graphics_request::Message as Request;
use vmconsole_proto::v1::relay_graphics_response::Message;

use super::{Client, SEND_QUEUE, first_of};

/// The most bytes of one `RelayData`.
const MAX_DATA: usize = 64 * 1024;

/// An open relay. Dropping it cancels it.
#[derive(Debug)]
pub struct Relay {
    /// The agent's first message.
    pub opened: v1::RelayOpened,
    /// What was told beside bytes and acknowledgements, the oldest first.
    pub told: VecDeque<Message>,
    requests: Option<mpsc::Sender<v1::RelayGraphicsRequest>>,
    messages: Streaming<v1::RelayGraphicsResponse>,
    /// Bytes that came and were not read yet.
    came: BytesMut,
    received: u64,
    /// Whether to acknowledge what is read.
    window: u64,
    acknowledged: u64,
    sent: u64,
    /// How far may be sent.
    limit: u64,
    /// How the stream ended, once it did.
    ended: Option<Option<Status>>,
}

impl Client {
    /// Opens a relay.
    ///
    /// # Errors
    /// The agent's refusal.
    ///
    /// # Panics
    /// When the first message is not `RelayOpened`.
    pub async fn relay(&self, open: v1::RelayOpen) -> Result<Relay, Status> {
        let window = open.output_window;
        let (requests, queue) = mpsc::channel(SEND_QUEUE);
        let message = Some(Request::Open(open));
        let first = v1::RelayGraphicsRequest { message };
        requests.try_send(first).expect("the queue is new");
        let mut service = GraphicsServiceClient::new(self.channel.clone());
        let answered = service.relay_graphics(ReceiverStream::new(queue)).await;
        let mut messages = answered?.into_inner();
        let opened = match messages.message().await?.and_then(|first| first.message) {
            Some(Message::Opened(opened)) => opened,
            other => panic!("the first message was not RelayOpened: {other:?}"),
        };
        Ok(Relay {
            limit: opened.input_window,
            opened,
            told: VecDeque::new(),
            requests: Some(requests),
            messages,
            came: BytesMut::new(),
            received: 0,
            window,
            acknowledged: 0,
            sent: 0,
            ended: None,
        })
    }
}

impl Relay {
    /// Sends any message; nothing once the stream has ended.
    pub async fn say(&mut self, message: Request) {
        let message = Some(message);
        if let Some(requests) = &self.requests {
            // The receive side says why it ended.
            let _ = requests.send(v1::RelayGraphicsRequest { message }).await;
        }
    }

    /// Sends bytes of RFB as the window allows.
    ///
    /// # Panics
    /// When the window does not open within `bound`, or the stream ends.
    pub async fn send(&mut self, bytes: impl Into<Bytes>, bound: Duration) {
        let mut bytes = bytes.into();
        while !bytes.is_empty() {
            let room = usize::try_from(self.limit - self.sent).unwrap_or(MAX_DATA);
            if room == 0 {
                let more = timeout(bound, self.next()).await;
                assert!(more.expect("the window opens"), "the stream ended");
                continue;
            }
            let data = bytes.split_to(bytes.len().min(room).min(MAX_DATA));
            let offset = self.sent;
            self.sent += data.len() as u64;
            self.say(Request::Data(v1::RelayData { offset, data }))
                .await;
        }
    }

    /// The client has nothing more to say.
    pub fn hang_up(&mut self) {
        self.requests = None;
    }

    /// Takes the next message. False once the stream has ended.
    ///
    /// # Panics
    /// When bytes do not join.
    pub async fn next(&mut self) -> bool {
        match self.message().await {
            Some(Some(data)) => self.came.extend_from_slice(&data),
            Some(None) => {}
            None => return false,
        }
        true
    }

    /// The next bytes as they came, which are acknowledged where there is a window; `None` at the
    /// end. Not to be mixed with [`Relay::next`], after which bytes may wait to be read.
    ///
    /// # Panics
    /// When bytes do not join, or others wait.
    pub async fn bytes(&mut self) -> Option<Bytes> {
        assert!(self.came.is_empty(), "bytes wait to be read");
        loop {
            if let Some(data) = self.message().await? {
                self.acknowledge().await;
                return Some(data);
            }
        }
    }

    /// Takes the next message, and returns its bytes if it is of bytes; `None` once the stream has
    /// ended.
    async fn message(&mut self) -> Option<Option<Bytes>> {
        if self.ended.is_some() {
            return None;
        }
        let response = match self.messages.message().await {
            Ok(Some(response)) => response,
            Ok(None) => {
                self.ended = Some(None);
                return None;
            }
            Err(status) => {
                self.ended = Some(Some(status));
                return None;
            }
        };
        match response.message.expect("the agent sends no empty message") {
            Message::Data(data) => {
                assert_eq!(data.offset, self.received, "bytes with a seam");
                assert!((1..=MAX_DATA).contains(&data.data.len()), "a frame's size");
                self.received += data.data.len() as u64;
                if self.window > 0 {
                    assert!(
                        self.received - self.acknowledged <= self.window,
                        "the window"
                    );
                }
                return Some(Some(data.data));
            }
            Message::InputAck(ack) => self.limit = ack.offset + ack.window,
            told => self.told.push_back(told),
        }
        Some(None)
    }

    /// The next `count` bytes, which are acknowledged where there is a window.
    ///
    /// # Panics
    /// When they do not come within `bound`.
    pub async fn read(&mut self, count: usize, bound: Duration) -> Bytes {
        let mut read = BytesMut::new();
        while read.len() < count {
            if self.came.is_empty() {
                let more = timeout(bound, self.next()).await;
                let more = more.unwrap_or_else(|_| panic!("no byte within {bound:?}"));
                assert!(more, "the stream ended: {:?} {:?}", self.told, self.ended);
            }
            let piece = self.came.split_to(self.came.len().min(count - read.len()));
            read.extend_from_slice(&piece);
            self.acknowledge().await;
        }
        read.freeze()
    }

    async fn acknowledge(&mut self) {
        let offset = self.received - self.came.len() as u64;
        if self.window > 0 && offset - self.acknowledged >= self.window / 2 {
            self.acknowledged = offset;
            self.say(Request::Ack(v1::RelayAck { offset })).await;
        }
    }

    /// Waits until something that is `wanted` is told; what was told before goes.
    ///
    /// # Panics
    /// When it is not within `bound`.
    pub async fn hears<T>(&mut self, bound: Duration, wanted: impl Fn(&Message) -> Option<T>) -> T {
        let heard = async {
            loop {
                while let Some(told) = self.told.pop_front() {
                    if let Some(found) = wanted(&told) {
                        return Some(found);
                    }
                }
                if !self.next().await {
                    return None;
                }
            }
        };
        let heard = timeout(bound, heard).await.expect("it is told in time");
        heard.unwrap_or_else(|| panic!("it is told before the end: {:?}", self.ended))
    }

    /// Reads to the end: the last message, and the status unless that is OK.
    ///
    /// # Panics
    /// When it does not end within `bound`, or not with `Closed`.
    pub async fn closed(&mut self, bound: Duration) -> (v1::Closed, Option<Status>) {
        let end = async {
            while self.next().await {
                // A window is for what was read.
                let _ = self.came.split();
                self.acknowledge().await;
            }
        };
        timeout(bound, end).await.expect("it ends in time");
        match self.told.pop_back() {
            Some(Message::Closed(closed)) => (closed, self.ended.take().flatten()),
            other => panic!(
                "the last message was not Closed: {other:?}, {:?}",
                self.ended
            ),
        }
    }
}

/// A `RelayOpen` of the first display of the VM named `vm`, in `mode`.
pub fn relay_open(vm: &str, mode: v1::Mode) -> v1::RelayOpen {
    v1::RelayOpen {
        console: Some(first_of(vm)),
        mode: mode.into(),
        ..Default::default()
    }
}
