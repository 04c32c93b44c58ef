//! A viewer's connection, by whichever way, with as little of its own work as can be: bytes are
//! counted and not kept.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;
use vmconsole_proto::v1;
use vmconsole_proto::v1::relay_graphics_request::Message as Request;
use vmconsole_tests::client::Relay;
use vmconsole_tests::process::Process;
use vmconsole_tests::rfb::V3_8;
use vmconsole_tests::standin::{SERVER_INIT, UPDATE};

use crate::server::BUFFER;

/// KeyEvent: `a` goes down. It is answered with one byte.
const KEY: &[u8] = &[4, 1, 0, 0, 0, 0, 0, 0x61];

/// FramebufferUpdateRequest of the whole picture.
const LOOK: &[u8] = &[3, 0, 0, 0, 0, 0, 1, 0, 1, 0];

/// Pictures that are on their way at once, so that the display never waits for the viewer.
const PICTURES_AHEAD: usize = 3;

/// How long anything may take.
const BOUND: Duration = Duration::from_secs(20);

/// Asks for a WebSocket, as noVNC does.
const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: binary\r\n\r\n";

/// A way to a display, open.
pub(super) enum Link {
    /// The agent's relay.
    Relay(Box<Relay>),
    /// TLS, and nothing else.
    Tls(Box<TlsStream<TcpStream>>),
    /// WebSocket in TLS.
    Web(Box<WebSocket>),
    /// The display's socket, or what forwards it.
    Unix {
        /// To what listens there.
        stream: UnixStream,
        /// What forwards ends with it.
        _forwards: Option<Box<Process>>,
    },
}

impl From<Relay> for Link {
    fn from(relay: Relay) -> Self {
        Self::Relay(Box::new(relay))
    }
}

impl Link {
    async fn send(&mut self, bytes: &'static [u8]) {
        match self {
            Self::Relay(relay) => relay.send(Bytes::from_static(bytes), BOUND).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await.expect("it is open");
                stream.flush().await.expect("it is open");
            }
            Self::Web(socket) => socket.send(bytes).await,
            Self::Unix { stream, .. } => stream.write_all(bytes).await.expect("it is open"),
        }
    }

    /// How many bytes came next; at most `buffer` holds.
    async fn read(&mut self, buffer: &mut [u8]) -> usize {
        let count = match self {
            Self::Relay(relay) => relay.bytes().await.map_or(0, |bytes| bytes.len()),
            Self::Tls(stream) => stream.read(buffer).await.expect("it is open"),
            Self::Web(socket) => socket.read().await,
            Self::Unix { stream, .. } => stream.read(buffer).await.expect("it is open"),
        };
        assert!(count > 0, "the link ended");
        count
    }
}

/// A viewer that has greeted.
pub(super) struct Viewer {
    link: Link,
    buffer: Vec<u8>,
}

impl Viewer {
    /// Greets, as version 3.8 has it, up to ServerInit.
    pub(super) async fn greet(link: Link) -> Self {
        let buffer = vec![0; BUFFER];
        let mut viewer = Self { link, buffer };
        viewer.expect(12).await;
        viewer.link.send(V3_8).await;
        viewer.expect(2).await;
        viewer.link.send(&[1]).await;
        viewer.expect(4).await;
        viewer.link.send(&[1]).await;
        viewer.expect(SERVER_INIT).await;
        // What is idle holds no more than it has to.
        viewer.buffer = Vec::new();
        viewer
    }

    /// Exactly so many bytes.
    async fn expect(&mut self, count: usize) {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER];
        }
        let mut received = 0;
        while received < count {
            received += self.link.read(&mut self.buffer).await;
        }
        assert_eq!(received, count, "more than was asked for");
    }

    /// One key, and its answer.
    pub(super) async fn press(&mut self) {
        self.link.send(KEY).await;
        self.expect(1).await;
    }

    /// So many pictures, each asked for when one has come.
    pub(super) async fn look(&mut self, pictures: usize) {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER];
        }
        let (mut asked, mut received) = (0, 0);
        while received < pictures * UPDATE {
            while asked < pictures && asked < received / UPDATE + PICTURES_AHEAD {
                self.link.send(LOOK).await;
                asked += 1;
            }
            received += self.link.read(&mut self.buffer).await;
        }
        assert_eq!(received, pictures * UPDATE);
    }

    /// Ends a relay, and waits for that.
    pub(super) async fn detach(self) {
        if let Link::Relay(mut relay) = self.link {
            relay.say(Request::Detach(v1::Detach {})).await;
            relay.closed(BOUND).await;
        }
    }
}

/// A WebSocket's client side (RFC 6455), of binary frames.
pub(super) struct WebSocket {
    stream: TlsStream<TcpStream>,
    /// What came, of which the part from `at` to `end` is to be looked at.
    came: Vec<u8>,
    at: usize,
    end: usize,
    /// Bytes of the current frame that are still to come.
    left: u64,
}

impl WebSocket {
    /// Asks for one on `stream`.
    pub(super) async fn open(mut stream: TlsStream<TcpStream>) -> Self {
        stream.write_all(UPGRADE).await.expect("it is open");
        stream.flush().await.expect("it is open");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.expect("an answer"));
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        Self {
            stream,
            came: vec![0; BUFFER],
            at: 0,
            end: 0,
            left: 0,
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        let length = u8::try_from(bytes.len()).expect("short");
        assert!(length < 126, "a short message");
        // Masked, as a client's have to be, with a mask that changes nothing.
        let mut frame = vec![0x82, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(bytes);
        self.stream.write_all(&frame).await.expect("it is open");
        self.stream.flush().await.expect("it is open");
    }

    async fn read(&mut self) -> usize {
        loop {
            let held = self.end - self.at;
            if self.left > 0 && held > 0 {
                let count = held.min(usize::try_from(self.left).unwrap_or(held));
                self.at += count;
                self.left -= count as u64;
                return count;
            }
            if self.left == 0 && self.head() {
                continue;
            }
            self.came.copy_within(self.at..self.end, 0);
            (self.at, self.end) = (0, held);
            let read = self.stream.read(&mut self.came[held..]).await;
            let read = read.expect("it is open");
            if read == 0 {
                return 0;
            }
            self.end += read;
        }
    }

    /// Takes a frame's head, if it is all there.
    fn head(&mut self) -> bool {
        let bytes = &self.came[self.at..self.end];
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        let (used, left) = match bytes {
            [_, 126, a, b, ..] => (4, number(&[*a, *b])),
            [_, 127, rest @ ..] if rest.len() >= 8 => (10, number(&rest[..8])),
            [_, 126 | 127, ..] | [] | [_] => return false,
            [_, length, ..] => (2, u64::from(*length)),
        };
        assert_eq!(bytes[0], 0x82, "one binary frame");
        (self.at, self.left) = (self.at + used, left);
        true
    }
}
