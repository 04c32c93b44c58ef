//! `vmconsolectl break`, `keys`, `nmi` and `screenshot`: what is done to a VM beside typing.
//!
//! Refuses to know keys: the agent does, and says which it does not.

mod picture;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use vmconsole_proto::v1::console_service_client::ConsoleServiceClient;
use vmconsole_proto::v1::{InjectNmiRequest, SendBreakRequest, SendKeysRequest};

pub(crate) use self::picture::{Target, screenshot};
use crate::reference;
use crate::refusal::Refusal;

/// How long the agent may take for one of them: longer than it gives itself.
const CALL_TIMEOUT: Duration = Duration::from_secs(150);

/// Why it was not done, or not all of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EffectError {
    /// The agent refused.
    #[error("the agent did not {what}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Why.
        source: Refusal,
    },
    /// Standard output is a terminal.
    #[error(
        "a picture is not written to a terminal: name a file with -o FILE, or send it on with -o - | PROGRAM"
    )]
    Terminal,
    /// What is there is no regular file.
    #[error("{} is no regular file: to write to it, use -o - > FILE", .0.display())]
    NotAFile(PathBuf),
    /// The agent's picture is not what it said.
    #[error("the agent's picture {0}: report this as a bug of the agent")]
    Picture(String),
    /// The file.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Stdout.
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
}

/// Keys that are pressed together, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Press(pub(crate) Vec<String>);

/// Puts a break on a console's line, with `sysrq` typed right after it.
///
/// # Errors
/// [`EffectError::Refused`].
pub(crate) async fn send_break(
    channel: Channel,
    vm: &str,
    console: &str,
    sysrq: Option<u8>,
) -> Result<(), EffectError> {
    let request = limited(SendBreakRequest {
        console: Some(reference::console(vm, console)),
        character: sysrq.into_iter().collect(),
    });
    let mut client = ConsoleServiceClient::new(channel);
    answered("send the break", client.send_break(request)).await
}

/// Presses keys, one press after the other, and stops at the first that is refused.
///
/// # Errors
/// [`EffectError::Refused`], which names the press.
pub(crate) async fn send_keys(
    channel: Channel,
    vm: &str,
    presses: Vec<Press>,
    hold: Option<Duration>,
) -> Result<(), EffectError> {
    let mut client = ConsoleServiceClient::new(channel);
    for Press(keys) in presses {
        let what = format!("press {}", keys.join("-"));
        let request = limited(SendKeysRequest {
            vm: Some(reference::vm(vm)),
            keys,
            // The command line's limit is far below what does not fit.
            hold: hold.and_then(|hold| hold.try_into().ok()),
        });
        answered(&what, client.send_keys(request)).await?;
    }
    Ok(())
}

/// Sends a non-maskable interrupt.
///
/// # Errors
/// [`EffectError::Refused`].
pub(crate) async fn inject_nmi(channel: Channel, vm: &str) -> Result<(), EffectError> {
    let request = limited(InjectNmiRequest {
        vm: Some(reference::vm(vm)),
    });
    let mut client = ConsoleServiceClient::new(channel);
    answered("send the NMI", client.inject_nmi(request)).await
}

fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// Waits for an answer that says nothing beyond that it came.
async fn answered<T>(
    what: &str,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<(), EffectError> {
    in_time(CALL_TIMEOUT, call)
        .await
        .map(|_| ())
        .map_err(|status| refused(what, &status))
}

/// What the agent answers within this time.
async fn in_time<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let late = |_| {
        Err(Status::deadline_exceeded(
            "the agent did not answer in time",
        ))
    };
    tokio::time::timeout(limit, call).await.unwrap_or_else(late)
}

fn refused(what: &str, status: &Status) -> EffectError {
    EffectError::Refused {
        what: what.to_owned(),
        source: Refusal::new(status),
    }
}
