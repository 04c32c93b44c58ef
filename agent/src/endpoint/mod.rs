//! How the agent reaches a console's bytes.
//!
//! The trait is small on purpose: whoever drives a console knows that bytes come, that
//! bytes go, and that it ends. What an endpoint must keep is that it drains what the
//! guest writes whether anybody looks or not, and that it keeps no descriptor of the
//! console open while it does not.

pub(crate) mod direct;
pub(crate) mod display;
mod source;
pub(crate) mod telnet;

use std::fmt;
use std::sync::Arc;

pub use direct::{DirectEndpoints, DirectRules, TcpRule};
pub(crate) use direct::{TcpDenial, usual_name};
pub use display::{DisplayAccess, DisplayHandle, DisplayLine, DisplaySource, DisplayStream, Reach};
pub use source::{Direct, Source, TcpAddress};

/// How an endpoint is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointKind {
    /// A console stream of libvirt.
    LibvirtStream,
    /// A pseudo-terminal opened by path.
    Pty,
    /// A unix socket.
    UnixSocket,
    /// A TCP socket.
    TcpSocket,
    /// A descriptor of a display, handed over by the hypervisor.
    GraphicsFd,
}

/// Takes what an attached endpoint delivers.
///
/// Called from whatever thread the endpoint reads on, and so never blocks: it copies the
/// bytes away under a lock that nobody holds for longer than a copy of 64 KiB.
pub trait OutputSink: Send + Sync + 'static {
    /// Bytes from the guest, in order.
    fn output(&self, bytes: &[u8]);

    /// Nothing more will come. Called once, after the last [`OutputSink::output`].
    fn ended(&self, end: EndpointEnd);
}

/// How an attachment ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointEnd {
    /// The far side closed: the QEMU is gone, or going. All that it had written came.
    Eof,
    /// The far side hung up a terminal: the QEMU is gone, or going. The kernel throws away what
    /// it wrote and nobody had read yet, and tells nobody whether there was any.
    HungUp,
    /// Somebody else took the console from us.
    Displaced,
    /// The way there broke, as this says; the QEMU may well live on.
    Lost(String),
}

/// Why an endpoint could not be attached or written to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The VM is off.
    #[error("the VM is not running")]
    NotRunning,
    /// The VM starts and its console is not there yet.
    #[error("the console does not exist yet: {0}")]
    NotReady(String),
    /// Another process holds the console.
    #[error("another process holds the console: {0}")]
    HeldByOther(String),
    /// The agent lacks the permission.
    #[error("permission denied: {0}")]
    Denied(String),
    /// This type of endpoint is not served.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// The VM or the console is not known (any longer).
    #[error("no such console: {0}")]
    NotFound(String),
    /// The hypervisor could not be reached, did not answer in time, or failed.
    #[error("the hypervisor did not serve the console: {0}")]
    Unreachable(String),
}

/// What to do about somebody else who holds a console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Leave it to them.
    IfFree,
    /// Take it from them.
    Displace,
}

/// A process outside the agent that holds a console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub process: u32,
    /// Its command's name, printable and at most 64 bytes long.
    pub command: String,
    /// Its user's id.
    pub user: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            process,
            command,
            user,
        } = self;
        write!(f, "{command} (process {process} of user {user})")
    }
}

/// A way to one console, which can be attached any number of times, one at a time.
#[async_trait::async_trait]
pub trait Endpoint: Send + Sync + 'static {
    /// Attaches: from now on everything that the guest writes goes to `sink`. Nobody is
    /// displaced, unless `claim` says so and the endpoint's kind can: where it cannot, it
    /// stays [`EndpointError::HeldByOther`].
    ///
    /// # Errors
    /// See [`EndpointError`]; none of them leaves anything attached.
    ///
    /// # Cancel safety
    /// If dropped, nothing stays attached (though letting go may take a moment).
    async fn attach(
        &self,
        sink: Arc<dyn OutputSink>,
        claim: Claim,
    ) -> Result<Box<dyn Attachment>, EndpointError>;

    /// Who holds the console, as far as that can be found out: asked after
    /// [`EndpointError::HeldByOther`] or [`EndpointEnd::Displaced`]. Takes a second at most.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    async fn holder(&self) -> Option<Holder> {
        None
    }
}

/// What became of a write that was dropped, or failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abandoned {
    /// So many of its bytes were taken and not told yet.
    pub taken: usize,
    /// So many after those are on their way, and nobody knows yet whether they will be taken.
    /// What follows them was not taken, and is not any more.
    pub under_way: usize,
}

/// An attached endpoint. Dropping it lets the console go, without waiting for that.
#[async_trait::async_trait]
pub trait Attachment: Send + 'static {
    /// Writes the beginning of `bytes` to the guest and tells how many bytes were taken,
    /// at least one unless `bytes` is empty. Waits while the guest does not read. Taken means
    /// that they have left this process.
    ///
    /// # Errors
    /// The attachment is broken; [`OutputSink::ended`] is called too. What became of the bytes
    /// is [`Attachment::abandon`]'s to tell.
    ///
    /// # Cancel safety
    /// If dropped before it returns, [`Attachment::abandon`] tells how much was taken. To be
    /// asked before anything else is written.
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, EndpointError>;

    /// Takes back what can be of a write that was dropped or failed, and tells what became of
    /// the rest. Asked again, it tells what has become of it since. Does not wait.
    fn abandon(&mut self) -> Abandoned {
        Abandoned::default()
    }

    /// Waits until it is known what became of the bytes that [`Attachment::abandon`] found on
    /// their way, and tells how many of them were taken; the others were not, and are not any
    /// more.
    ///
    /// # Errors
    /// As [`Attachment::write`]. What is still on its way then, nobody will know of.
    ///
    /// # Cancel safety
    /// Nothing is lost: [`Attachment::abandon`] tells it, and this can be called again.
    async fn settle(&mut self) -> Result<usize, EndpointError> {
        Ok(0)
    }

    /// Puts a break on the line, where the endpoint itself can.
    ///
    /// # Errors
    /// [`EndpointError::Unsupported`] if it cannot: the hypervisor may be able to. Others as
    /// [`Attachment::write`].
    ///
    /// # Cancel safety
    /// If dropped before it returns, nothing was sent, unless [`Attachment::is_breaking`].
    async fn send_break(&mut self) -> Result<(), EndpointError> {
        let detail = "this endpoint carries no break";
        Err(EndpointError::Unsupported(detail.to_owned()))
    }

    /// Whether a break that was given up is on its way in part: its rest goes before whatever is
    /// written next.
    fn is_breaking(&self) -> bool {
        false
    }

    /// How many bytes of input were taken and wait for QEMU to read them, where that can be
    /// known.
    fn unread(&self) -> Option<usize> {
        None
    }

    /// Lets the console go and waits until it is free for others.
    async fn detach(self: Box<Self>);
}
