//! An attached console: one task reads it, whether anybody looks or not. It awaits nothing but
//! the descriptor and its own rests.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio_util::task::AbortOnDropHandle;

use super::counters::{Counters, Held};
use super::far::Far;
use super::rest::Rests;
use super::wire::Wire;
use crate::core::pace::{Next, Pace};
use crate::endpoint::{Abandoned, Attachment, EndpointEnd, EndpointError, OutputSink};
use crate::shutdown::Tasks;

/// The most bytes of one read.
const READ_BYTES: usize = 64 * 1024;

/// After so many bytes, or so many reads, other consoles have their turn.
const BYTES_IN_A_TURN: usize = 4 * READ_BYTES;
const READS_IN_A_TURN: usize = 64;

thread_local! {
    /// What a read goes to before the sink copies it: one a thread, since hundreds of consoles
    /// are silent at any time.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// An attached console. Dropping it closes the descriptor at once.
pub(super) struct Attached {
    wire: Arc<Wire>,
    far: Far,
    reader: Option<AbortOnDropHandle<()>>,
    /// How many bytes were written by a write that has not told so.
    taken: usize,
    /// Whether the byte after them was written in part by it.
    halved: bool,
}

impl Attached {
    /// Begins to read `wire` in a task among `tasks`.
    pub(super) fn begin(
        wire: Wire,
        far: Far,
        sink: Arc<dyn OutputSink>,
        tasks: &Tasks,
        counters: &Arc<Counters>,
    ) -> Self {
        let wire = Arc::new(wire);
        let drain = Drain {
            wire: wire.clone(),
            far,
            sink,
            counters: counters.clone(),
            pace: Pace::new(far.buffer()),
            rests: None,
            _open: counters.open(far.kind()),
        };
        Self {
            wire,
            far,
            reader: Some(tasks.spawn_owned("endpoint", drain.run())),
            taken: 0,
            halved: false,
        }
    }
}

struct Drain {
    wire: Arc<Wire>,
    far: Far,
    sink: Arc<dyn OutputSink>,
    counters: Arc<Counters>,
    pace: Pace,
    /// While a run of small reads lasts.
    rests: Option<Rests>,
    _open: Held,
}

impl Drain {
    async fn run(mut self) {
        let (mut bytes, mut reads) = (0, 0);
        let end = loop {
            let count = match poll_fn(|cx| self.poll_read(cx)).await {
                Ok(count) => count,
                Err(end) => break end,
            };
            (bytes, reads) = (bytes + count, reads + 1);
            if self.wire.line.take_answer_due() {
                self.pace.input_written();
            }
            if let Next::Rest(rest) = self.pace.read(count, Instant::now()) {
                self.rest(rest).await;
                (bytes, reads) = (0, 0);
            } else if bytes >= BYTES_IN_A_TURN || reads >= READS_IN_A_TURN {
                tokio::task::yield_now().await;
                (bytes, reads) = (0, 0);
            }
        };
        self.wire.line.close();
        self.sink.ended(end);
    }

    /// One read, handed to the sink.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, EndpointEnd>> {
        BUFFER.with_borrow_mut(|buffer| {
            let (pace, rests) = (&mut self.pace, &mut self.rests);
            let nothing_came = || {
                pace.nothing_came();
                *rests = None;
            };
            let read = ready!(self.wire.line.poll_read(cx, buffer, nothing_came));
            let came = match read {
                Ok(0) => return Poll::Ready(Err(self.far.closed())),
                Ok(count) => buffer.get(..count).unwrap_or_default(),
                Err(error) => return Poll::Ready(Err(self.far.failed(&error))),
            };
            self.counters.read(came.len());
            let received = self.wire.receive(came, |bytes| self.sink.output(bytes));
            Poll::Ready(match received {
                Ok(()) => Ok(came.len()),
                Err(error) => Err(EndpointEnd::Lost(error.to_string())),
            })
        })
    }

    /// Lets output gather, unless input is written.
    async fn rest(&mut self, rest: std::time::Duration) {
        let line = &self.wire.line;
        let written = line.written();
        if line.take_answer_due() {
            self.pace.input_written();
            return;
        }
        line.unwatch();
        if self.rests.is_none() {
            // Without a descriptor for it nothing rests, which costs time and no output.
            self.rests = Rests::new().ok();
        }
        let Some(rests) = &mut self.rests else {
            return;
        };
        Counters::bump(&self.counters.rests);
        tokio::select! {
            biased; // an answer may come at once
            () = written => {}
            // A timer that fails ends the rest.
            _ = rests.rest(rest) => {}
        }
        if line.take_answer_due() {
            self.pace.input_written();
        }
    }
}

impl Attached {
    fn broken(&self, error: &io::Error) -> EndpointError {
        let detail = match error.kind() {
            io::ErrorKind::NotConnected => "the console has ended".to_owned(),
            _ => format!("the console cannot be written: {error}"),
        };
        EndpointError::Unreachable(detail)
    }

    /// Tries until it does not have to wait.
    async fn when_writable<T>(
        &self,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> Result<T, EndpointError> {
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(self.broken(&error)),
            }
            let writable = self.wire.line.writable().await;
            writable.map_err(|error| self.broken(&error))?;
        }
    }
}

#[async_trait::async_trait]
impl Attachment for Attached {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, EndpointError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        // Nothing of a write before is told as this one's.
        self.settle().await?;
        let written = self.when_writable(|| self.wire.try_write(bytes)).await?;
        (self.taken, self.halved) = (written.whole, written.halved);
        self.settle().await
    }

    fn abandon(&mut self) -> Abandoned {
        if self.halved && !self.wire.is_halved() {
            self.halved = false;
            self.taken += 1;
        }
        Abandoned {
            taken: std::mem::take(&mut self.taken),
            under_way: usize::from(self.halved),
        }
    }

    async fn settle(&mut self) -> Result<usize, EndpointError> {
        if self.halved {
            self.when_writable(|| self.wire.try_flush()).await?;
            self.halved = false;
            self.taken += 1;
        }
        Ok(std::mem::take(&mut self.taken))
    }

    async fn send_break(&mut self) -> Result<(), EndpointError> {
        let unsupported = || {
            let detail = "only a telnet console carries a break; this one's hypervisor may";
            Err(EndpointError::Unsupported(detail.to_owned()))
        };
        self.when_writable(|| self.wire.try_break().transpose())
            .await?
            .map_or_else(unsupported, Ok)
    }

    fn is_breaking(&self) -> bool {
        self.wire.is_breaking()
    }

    fn unread(&self) -> Option<usize> {
        self.far.unread(&self.wire.line)
    }

    async fn detach(mut self: Box<Self>) {
        self.wire.line.close();
        if let Some(reader) = self.reader.take() {
            reader.abort();
            // Aborted is as good as ended: either way nothing comes any more.
            let _ = reader.await;
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.wire.line.close();
    }
}
