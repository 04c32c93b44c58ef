//! A console that is a unix socket: drained by a task, written when it takes bytes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;
use vmconsole_agent::endpoint::{
    Attachment, Endpoint, EndpointEnd, EndpointError, EndpointKind, OutputSink,
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
    fn kind(&self) -> EndpointKind {
        EndpointKind::UnixSocket
    }

    async fn attach(
        &self,
        sink: Arc<dyn OutputSink>,
    ) -> Result<Box<dyn Attachment>, EndpointError> {
        let stream = UnixStream::connect(&self.path).await;
        let stream = stream.map_err(|error| EndpointError::NotReady(error.to_string()))?;
        let stream = Arc::new(stream);
        let reader = self
            .tasks
            .spawn_owned("standin", drain(stream.clone(), sink));
        Ok(Box::new(Attached { stream, reader }))
    }
}

async fn drain(stream: Arc<UnixStream>, sink: Arc<dyn OutputSink>) {
    let end = loop {
        if let Err(error) = stream.readable().await {
            break EndpointEnd::Lost(error.to_string());
        }
        let read = BUFFER.with_borrow_mut(|buffer| {
            let count = stream.try_read(buffer)?;
            if count > 0 {
                sink.output(&buffer[..count]);
            }
            Ok::<_, io::Error>(count)
        });
        match read {
            Ok(0) => break EndpointEnd::Eof,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => break EndpointEnd::Lost(error.to_string()),
        }
    };
    sink.ended(end);
}

struct Attached {
    stream: Arc<UnixStream>,
    reader: AbortOnDropHandle<()>,
}

#[async_trait::async_trait]
impl Attachment for Attached {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, EndpointError> {
        let broken = |error: io::Error| EndpointError::Unreachable(error.to_string());
        loop {
            self.stream.writable().await.map_err(broken)?;
            match self.stream.try_write(bytes) {
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
