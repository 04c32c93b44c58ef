//! vmconsolectl: the command line of vmconsole-agent for operators and proxies.
//!
//! Reads the command line, runs one command, and ends with the exit code that belongs to
//! what happened. Refuses to hold logic of its own.

mod attach;
mod cli;
mod connect;
mod doctor;
mod effects;
mod exit;
mod list;
mod output;
mod pki;
mod reference;
mod refusal;
mod relay;
mod words;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use tonic::transport::Channel;

use crate::attach::{AttachError, LinkError};
use crate::cli::{Cli, Command, Connection, PkiCommand};
use crate::connect::{ConnectError, Connector, Places};
use crate::doctor::DoctorError;
use crate::effects::EffectError;
use crate::exit::Exit;
use crate::list::ListError;
use crate::output::{chain, tell};
use crate::pki::PkiError;
use crate::refusal::Refusal;
use crate::relay::RelayError;

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
    Relay(#[from] RelayError),
    #[error(transparent)]
    Effect(#[from] EffectError),
    #[error(transparent)]
    Doctor(#[from] DoctorError),
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
            | Self::Relay(RelayError::List(ListError::Refused(refusal)))
            | Self::Attach(AttachError::Link(LinkError::Refused(refusal)))
            | Self::Effect(EffectError::Refused {
                source: refusal, ..
            }) => Some(refusal),
            _ => None,
        }
    }

    /// The exit for it.
    fn exit(&self) -> Exit {
        match self {
            Self::Connect(_) => Exit::Unreachable,
            Self::Attach(AttachError::Link(error)) => error.exit_before_open(),
            Self::Relay(error) => error.exit(),
            Self::List(ListError::Refused(refusal))
            | Self::Effect(EffectError::Refused {
                source: refusal, ..
            }) => refusal.exit_before_open(),
            Self::Effect(EffectError::Terminal | EffectError::NotAFile(_)) => Exit::Usage,
            Self::List(ListError::Stdout(error))
            | Self::Effect(EffectError::Stdout(error))
            | Self::Doctor(DoctorError::Stdout(error))
            | Self::Pki(PkiError::Report(error))
                if error.kind() == std::io::ErrorKind::BrokenPipe =>
            {
                Exit::Done
            }
            Self::List(_)
            | Self::Attach(_)
            | Self::Effect(_)
            | Self::Doctor(_)
            | Self::Pki(_)
            | Self::Runtime(_) => Exit::Failed,
        }
    }
}

fn main() -> ExitCode {
    let exit = match Cli::try_parse() {
        Ok(cli) => block_on(run(cli)).unwrap_or_else(|failure| told(&failure)),
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
async fn run(cli: Cli) -> Result<Exit, Failure> {
    let to = cli.connection;
    match cli.command {
        Command::Pki {
            command: PkiCommand::Init(args),
        } => pki::init(args.into())?,
        Command::List(args) => list::run(channel(&to).await?, args.vms, args.output).await?,
        Command::Attach(args) => return Ok(attach::run(connector(&to), args.into()).await?),
        Command::Tail(args) => return Ok(attach::run(connector(&to), args.into()).await?),
        Command::Vnc(args) => {
            let viewer = variable("VMCONSOLE_VIEWER");
            return Ok(relay::run(connector(&to), args.options(viewer)).await?);
        }
        Command::Relay(args) => return Ok(relay::run(connector(&to), args.into()).await?),
        Command::Break(args) => {
            let channel = channel(&to).await?;
            effects::send_break(channel, &args.vm, &args.console, args.sysrq).await?;
        }
        Command::Keys(args) => {
            let hold = args.hold();
            effects::send_keys(channel(&to).await?, &args.vm, args.presses, hold).await?;
        }
        Command::Nmi(args) => effects::inject_nmi(channel(&to).await?, &args.vm).await?,
        Command::Screenshot(args) => {
            args.output.check()?;
            let channel = channel(&to).await?;
            effects::screenshot(channel, &args.vm, args.screen, &args.output).await?;
        }
        Command::Doctor(args) => {
            return Ok(doctor::run(args.into(), &to.agent, channel(&to)).await?);
        }
    }
    Ok(Exit::Done)
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
    Ok(connector(options).connect().await?)
}

/// Connections as the options ask for them.
fn connector(options: &Connection) -> Connector {
    Connector {
        agent: options.agent.clone(),
        server_name: options.server_name.clone(),
        paths: options.paths(),
        places: Places::new(variable("VMCONSOLE_PKI"), variable("HOME")),
    }
}

/// The path in an environment variable, if it is set.
fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}
