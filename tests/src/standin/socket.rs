//! A console that is a unix socket: drained by a task, written when it takes bytes.

use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::task::AbortOnDropHandle;
use vmconsole_agent::endpoint::{
    Attachment, Claim, Endpoint, EndpointEnd, EndpointError, OutputSink,
};
use vmconsole_agent::shutdown::Tasks;

/// The most bytes of one read.
const READ: usize = 64 * 1024;

thread_local! {
    /// What a read goes to before the sink copies it: one a thread, since hundreds of
    /// consoles are silent at any time.
    static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; READ]);
}

/// The way to a console that is a unix socket.
#[derive(Debug)]
pub struct SocketEndpoint {
    path: PathBuf,
    tasks: Tasks,
}

impl SocketEndpoint {
    /// The console behind `path`; its reading runs among `tasks`.
    pub const fn new(path: PathBuf, tasks: Tasks) -> Self {
        Self { path, tasks }
    }
}

#[async_trait::async_trait]
impl Endpoint for SocketEndpoint {
    async fn attach(
        &self,
        sink: Arc<dyn OutputSink>,
        _claim: Claim,
    ) -> Result<Box<dyn Attachment>, EndpointError> {
        let stream = UnixStream::connect(&self.path).await;
        let stream = stream.map_err(|error| EndpointError::NotReady(error.to_string()))?;
        let (reader, writer) = stream.into_split();
        let reader = self.tasks.spawn_owned("standin", drain(reader, sink));
        Ok(Box::new(Attached { writer, reader }))
    }
}

async fn drain(mut stream: OwnedReadHalf, sink: Arc<dyn OutputSink>) {
    let end = loop {
        match poll_fn(|cx| read(&mut stream, sink.as_ref(), cx)).await {
            Ok(0) => break EndpointEnd::Eof,
            Ok(_) => {}
            Err(error) => break EndpointEnd::Lost(error.to_string()),
        }
    };
    sink.ended(end);
}

/// One read: the socket is not asked again before it has more, if it gave less than fits.
fn read(
    stream: &mut OwnedReadHalf,
    sink: &dyn OutputSink,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        if !buffer.filled().is_empty() {
            sink.output(buffer.filled());
        }
        Poll::Ready(Ok(buffer.filled().len()))
    })
}

struct Attached {
    writer: OwnedWriteHalf,
    reader: AbortOnDropHandle<()>,
}

#[async_trait::async_trait]
impl Attachment for Attached {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, EndpointError> {
        let broken = |error: io::Error| EndpointError::Unreachable(error.to_string());
        loop {
            self.writer.writable().await.map_err(broken)?;
            match self.writer.try_write(bytes) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }

    async fn detach(self: Box<Self>) {
        self.reader.abort();
        // Aborted is as good as ended: either way the reader's half of the socket is gone.
        let _ = self.reader.await;
    }
}
