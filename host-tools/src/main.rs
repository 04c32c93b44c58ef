//! vmconsolectl: the command line of vmconsole-agent for operators and proxies.
//!
//! Reads the command line, runs one command, and ends with the exit code that belongs to
//! what happened. Refuses to hold logic of its own.

mod attach;
mod cli;
mod connect;
mod exit;
mod list;
mod output;
mod pki;
mod refusal;
mod words;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use tonic::transport::Channel;

use crate::attach::AttachError;
use crate::cli::{Cli, Command, Connection, PkiCommand};
use crate::connect::{ConnectError, Credentials, Places, connect};
use crate::exit::Exit;
use crate::list::ListError;
use crate::output::{chain, tell};
use crate::pki::PkiError;
use crate::refusal::Refusal;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("cannot start: no more files or memory")]
    Runtime(#[source] std::io::Error),
}

impl Failure {
    /// The agent's refusal, if that is what failed.
    fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::List(ListError::Refused(refusal))
            | Self::Attach(AttachError::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }

    /// The exit for it.
    fn exit(&self) -> Exit {
        match self {
            Self::Connect(_) => Exit::Unreachable,
            Self::List(ListError::Refused(refusal))
            | Self::Attach(AttachError::Refused(refusal)) => refusal.exit_before_open(),
            Self::Attach(AttachError::Timeout) => Exit::Unreachable,
            Self::List(ListError::Stdout(error)) | Self::Pki(PkiError::Report(error))
                if error.kind() == std::io::ErrorKind::BrokenPipe =>
            {
                Exit::Done
            }
            Self::List(_) | Self::Attach(_) | Self::Pki(_) | Self::Runtime(_) => Exit::Failed,
        }
    }
}

fn main() -> ExitCode {
    let exit = match Cli::try_parse() {
        Ok(cli) => run(cli).unwrap_or_else(|failure| told(&failure)),
        Err(unread) => {
            // Help and version are asked for on stdout; a stream that is gone takes neither.
            let _ = unread.print();
            if unread.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            }
        }
    };
    ExitCode::from(exit.code())
}

/// Tells why a command failed, and returns the exit for it.
fn told(failure: &Failure) -> Exit {
    let exit = failure.exit();
    if exit != Exit::Done {
        tell(&chain(failure as &dyn Error));
        if let Some(hint) = failure.refusal().and_then(Refusal::hint_before_open) {
            tell(hint);
        }
    }
    exit
}

/// Runs the command.
fn run(cli: Cli) -> Result<Exit, Failure> {
    let Cli {
        connection,
        command,
    } = cli;
    match command {
        Command::Pki {
            command: PkiCommand::Init(args),
        } => {
            pki::init(args.into())?;
            Ok(Exit::Done)
        }
        Command::List(args) => block_on(async {
            let channel = channel(&connection).await?;
            list::run(channel, args.vms, args.output).await?;
            Ok(Exit::Done)
        }),
        Command::Attach(args) => block_on(async {
            let channel = channel(&connection).await?;
            Ok(attach::run(channel, args.into()).await?)
        }),
    }
}

/// Runs one future to its end. What the runtime still holds then, a name being resolved for
/// instance, is not waited for.
fn block_on(future: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}

/// The connection that the options ask for.
async fn channel(options: &Connection) -> Result<Channel, Failure> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let places = Places::new(variable("VMCONSOLE_PKI"), variable("HOME"));
    let credentials = Credentials::load(&options.paths(), &places)?;
    Ok(connect(&options.agent, options.server_name.as_deref(), credentials).await?)
}
