//! The half of a stream that reads, checks, and acknowledges.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Status, Streaming};
use vmconsole_proto::v1;
use vmconsole_proto::v1::stream_console_request::Message as Request;
use vmconsole_proto::v1::stream_console_response::Message;

/// How much of what came a failure prints.
const TAIL: usize = 2048;

/// What comes from the agent. Every output and gap is held against where the one before
/// ended; a seam is a panic.
#[derive(Debug)]
pub struct ReceiveHalf {
    messages: Streaming<v1::StreamConsoleResponse>,
    requests: mpsc::Sender<v1::StreamConsoleRequest>,
    position: v1::Position,
    /// Acknowledge after so many bytes; never without a window.
    acknowledge_every: Option<u64>,
    acknowledging: bool,
    unacknowledged: u64,
    /// Bytes that were received.
    pub received: u64,
    /// Every gap, in order.
    pub gaps: Vec<v1::Gap>,
}

impl ReceiveHalf {
    pub(super) fn new(
        messages: Streaming<v1::StreamConsoleResponse>,
        requests: mpsc::Sender<v1::StreamConsoleRequest>,
        opened: &v1::Opened,
        window: u64,
    ) -> Self {
        Self {
            messages,
            requests,
            position: opened.position.expect("Opened tells a position"),
            acknowledge_every: (window > 0).then_some(window / 2),
            acknowledging: true,
            unacknowledged: 0,
            received: 0,
            gaps: Vec::new(),
        }
    }

    /// The next byte that is expected.
    pub const fn position(&self) -> v1::Position {
        self.position
    }

    /// Every gap but one at a generation's very beginning, which tells that a VM may have written
    /// before it was attached. Whether that is told hangs on how much of its start was seen.
    pub fn lost(&self) -> Vec<v1::Gap> {
        let is_late_start = |gap: &v1::Gap| {
            gap.reason() == v1::GapReason::NotAttached
                && !gap.length_known
                && gap.from == gap.to
                && gap.to.is_some_and(|to| to.offset == 0)
        };
        let lost = self.gaps.iter().filter(|gap| !is_late_start(gap));
        lost.copied().collect()
    }

    /// Whether to acknowledge what comes from now on, as is done unless told otherwise.
    pub const fn set_acknowledging(&mut self, acknowledging: bool) {
        self.acknowledging = acknowledging;
    }

    /// The next message; `None` once the stream has ended well.
    ///
    /// # Errors
    /// The status with which it ended otherwise.
    ///
    /// # Panics
    /// When output does not begin where the one before ended.
    ///
    /// # Cancel safety
    /// No message is lost; one acknowledgement may be late.
    pub async fn next(&mut self) -> Result<Option<Message>, Status> {
        let Some(response) = self.messages.message().await? else {
            return Ok(None);
        };
        let message = response.message.expect("the agent sends no empty message");
        match &message {
            Message::Output(output) => {
                let from = output.position.expect("Output tells its position");
                assert_eq!(from, self.position, "output with a seam");
                let length = output.data.len() as u64;
                assert!((1..=65536).contains(&length), "output of {length} bytes");
                self.position.offset += length;
                self.received += length;
                self.unacknowledged += length;
            }
            Message::Gap(gap) => {
                assert_eq!(gap.from, Some(self.position), "a gap with a seam");
                self.position = gap.to.expect("Gap tells where it ends");
                self.gaps.push(*gap);
            }
            Message::GenerationStarted(started) => {
                self.position = started.position.expect("it tells its position");
                assert_eq!(self.position.offset, 0, "a generation begins at 0");
            }
            _ => {}
        }
        self.acknowledge();
        Ok(Some(message))
    }

    fn acknowledge(&mut self) {
        let every = self.acknowledge_every.unwrap_or(u64::MAX);
        if !self.acknowledging || self.unacknowledged < every {
            return;
        }
        let position = Some(self.position);
        let message = Some(Request::OutputAck(v1::OutputAck { position }));
        // Where the queue is full the next output acknowledges this one too.
        if self
            .requests
            .try_send(v1::StreamConsoleRequest { message })
            .is_ok()
        {
            self.unacknowledged = 0;
        }
    }

    /// The next bytes of output; other messages are passed over. `None` at the end.
    ///
    /// # Errors
    /// As [`ReceiveHalf::next`].
    pub async fn output(&mut self) -> Result<Option<bytes::Bytes>, Status> {
        loop {
            match self.next().await? {
                Some(Message::Output(output)) => return Ok(Some(output.data)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// Reads until `pattern` has come, and returns all output up to that message's end.
    ///
    /// # Panics
    /// When the stream ends before, or `bound` passes; it prints what did come.
    pub async fn read_until(&mut self, pattern: &[u8], bound: Duration) -> Vec<u8> {
        let mut seen = Vec::new();
        let reading = async {
            let ended = |end: Option<Status>| panic!("the stream ended first: {end:?}");
            loop {
                match self.output().await {
                    Ok(Some(bytes)) => seen.extend_from_slice(&bytes),
                    Ok(None) => ended(None),
                    Err(status) => ended(Some(status)),
                }
                let newest = seen.len().saturating_sub(TAIL + pattern.len());
                if seen[newest..].windows(pattern.len()).any(|w| w == pattern) {
                    return;
                }
            }
        };
        if timeout(bound, reading).await.is_err() {
            let wanted = String::from_utf8_lossy(pattern).into_owned();
            let tail = String::from_utf8_lossy(&seen[seen.len().saturating_sub(TAIL)..]);
            panic!("{wanted:?} did not come within {bound:?}; what came: {tail:?}");
        }
        seen
    }

    /// Reads exactly until `count` more bytes of output or gap have passed. Returns how
    /// many of them were output.
    ///
    /// # Panics
    /// When the stream ends before, or `bound` passes.
    pub async fn pass(&mut self, count: u64, bound: Duration) -> u64 {
        let (end, before) = (self.position.offset + count, self.received);
        while self.position.offset < end {
            let next = within("more output", bound, self.next()).await;
            assert!(matches!(next, Ok(Some(_))), "the stream ended: {next:?}");
        }
        self.received - before
    }

    /// Reads until `wanted` picks a message, and returns what it made of it.
    ///
    /// # Panics
    /// When the stream ends before, or `bound` passes; `what` says what was waited for.
    pub async fn wait_for<T>(
        &mut self,
        what: &str,
        bound: Duration,
        mut wanted: impl FnMut(Message) -> Option<T>,
    ) -> T {
        let waiting = async {
            loop {
                match self.next().await {
                    Ok(Some(message)) => {
                        if let Some(found) = wanted(message) {
                            return found;
                        }
                    }
                    end => panic!("the stream ended before {what}: {end:?}"),
                }
            }
        };
        within(what, bound, waiting).await
    }

    /// Reads until the end: the `Closed` that came last, and the status after it if it is
    /// an error.
    ///
    /// # Panics
    /// When there is no `Closed`, something follows it, or `bound` passes.
    pub async fn closed(&mut self, bound: Duration) -> (v1::Closed, Option<Status>) {
        let pick = |message| match message {
            Message::Closed(closed) => Some(closed),
            _ => None,
        };
        let closed = self.wait_for("Closed", bound, pick).await;
        match within("the status after Closed", bound, self.next()).await {
            Ok(None) => (closed, None),
            Ok(Some(message)) => panic!("{message:?} came after Closed"),
            Err(status) => (closed, Some(status)),
        }
    }
}

async fn within<T>(what: &str, bound: Duration, future: impl Future<Output = T>) -> T {
    let result = timeout(bound, future).await;
    result.unwrap_or_else(|_| panic!("waited {bound:?} in vain for: {what}"))
}
