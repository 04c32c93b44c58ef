//! The command line: what may be said, and what it means.
//!
//! Refuses to do anything: `main` acts on what is parsed here.

mod lease;
mod relays;
mod streams;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};

use self::relays::{RelayArgs, VncArgs, relay_help, vnc_help};
use self::streams::{ATTACH_HELP, AttachArgs, TailArgs};
use crate::connect::{AgentAddress, CredentialPaths};
use crate::doctor::{self, LogSource};
use crate::effects::{Press, Target};
use crate::exit::TABLE;
use crate::list::Format;
use crate::pki::{DEFAULT_DAYS, Init, MAX_DAYS, SubjectName};

/// The most keys that are pressed together, by the interface.
const MAX_KEYS: usize = 16;

/// The longest that keys are held, in milliseconds, by the interface.
const MAX_HOLD_MS: u64 = 5000;

/// How many presses one command line may ask for.
const MAX_PRESSES: usize = 256;

/// Consoles and displays of a host's VMs, through its vmconsole-agent.
#[derive(Debug, Parser)]
#[command(name = "vmconsolectl", version, after_long_help = exit_codes())]
pub(crate) struct Cli {
    /// How to reach the agent.
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The agent's address
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "VMCONSOLE_AGENT",
        default_value = "localhost:2223"
    )]
    pub(crate) agent: AgentAddress,
    /// The proxy's certificate, PEM [default: proxy.crt in $VMCONSOLE_PKI, ~/.config/vmconsole or
    /// /etc/vmconsole-agent/pki]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "VMCONSOLE_CERTIFICATE"
    )]
    pub(crate) certificate: Option<PathBuf>,
    /// The proxy's private key, PEM [default: proxy.key in the same place]
    #[arg(long, global = true, value_name = "FILE", env = "VMCONSOLE_KEY")]
    pub(crate) key: Option<PathBuf>,
    /// The CA that the agent's certificate must come from, PEM [default: ca.crt in the same place]
    #[arg(long, global = true, value_name = "FILE", env = "VMCONSOLE_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// The name that the agent's certificate must bear [default: the host of --agent]
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "VMCONSOLE_SERVER_NAME"
    )]
    pub(crate) server_name: Option<String>,
}

impl Connection {
    /// The files that were named.
    pub(crate) fn paths(&self) -> CredentialPaths {
        let (certificate, key, ca) = (self.certificate.clone(), self.key.clone(), self.ca.clone());
        CredentialPaths {
            certificate,
            key,
            ca,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List consoles
    List(ListArgs),
    /// Attach this terminal, or a pipe, to a console
    #[command(after_long_help = format!("{ATTACH_HELP}\n\n{}", exit_codes()))]
    Attach(AttachArgs),
    /// Print the last lines of a console's output
    Tail(TailArgs),
    /// Show a VM's VNC display to viewers of this host
    #[command(after_long_help = format!("{}\n\n{}", vnc_help(), exit_codes()))]
    Vnc(VncArgs),
    /// Relay a console or display to a local TCP port or unix socket
    #[command(after_long_help = format!("{}\n\n{}", relay_help(), exit_codes()))]
    Relay(RelayArgs),
    /// Put a break on a console's serial line
    Break(BreakArgs),
    /// Press keys of a VM's keyboard
    Keys(KeysArgs),
    /// Send a VM a non-maskable interrupt
    Nmi(NmiArgs),
    /// Take a picture of a VM's screen
    Screenshot(ScreenshotArgs),
    /// Find out why a console, the agent or its host does not work
    Doctor(DoctorArgs),
    /// Make certificates for development
    Pki {
        /// What about them.
        #[command(subcommand)]
        command: PkiCommand,
    },
}

/// `list`.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only this VM, by name or UUID; may be given more than once
    #[arg(long = "vm", value_name = "VM")]
    pub(crate) vms: Vec<String>,
    /// A table for people, or a JSON array whose keys stay as they are
    #[arg(long, short, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

/// `break`.
#[derive(Args, Debug)]
pub(crate) struct BreakArgs {
    /// The VM, by name or UUID
    #[arg(value_name = "VM")]
    pub(crate) vm: String,
    /// The console's alias, such as serial1 [default: as for attach]
    #[arg(
        long,
        value_name = "ALIAS",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) console: String,
    /// A character to type right after it: a Linux guest takes it for a SysRq command (h for help)
    #[arg(long, value_name = "CHAR", value_parser = sysrq)]
    pub(crate) sysrq: Option<u8>,
}

/// `keys`.
#[derive(Args, Debug)]
pub(crate) struct KeysArgs {
    /// The VM, by name or UUID
    #[arg(value_name = "VM")]
    pub(crate) vm: String,
    /// Keys by QEMU's names, joined by - where they are pressed together, such as
    /// ctrl-alt-delete; several are pressed one after the other
    #[arg(value_name = "KEY[-KEY...]", required = true, num_args = 1..=MAX_PRESSES, value_parser = press)]
    pub(crate) presses: Vec<Press>,
    /// How long each is held, in milliseconds (0 to 5000) [default: 100]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=MAX_HOLD_MS))]
    hold: Option<u64>,
}

impl KeysArgs {
    /// How long each is held, if that was said.
    pub(crate) fn hold(&self) -> Option<Duration> {
        self.hold.map(Duration::from_millis)
    }
}

/// `nmi`.
#[derive(Args, Debug)]
pub(crate) struct NmiArgs {
    /// The VM, by name or UUID
    #[arg(value_name = "VM")]
    pub(crate) vm: String,
}

/// `screenshot`.
#[derive(Args, Debug)]
pub(crate) struct ScreenshotArgs {
    /// The VM, by name or UUID
    #[arg(value_name = "VM")]
    pub(crate) vm: String,
    /// Which of its screens, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) screen: u32,
    /// Where the PNG goes: a file, which is replaced if it is there, or - for standard output
    #[arg(long, short, value_name = "FILE", value_parser = PathBufValueParser::new().map(Target::from))]
    pub(crate) output: Target,
}

/// `doctor`.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Look at the consoles of this VM too, by name or UUID
    #[arg(value_name = "VM")]
    vm: Option<String>,
    /// Only this console of it, by alias
    #[arg(long, value_name = "ALIAS", requires = "vm")]
    console: Option<String>,
    /// One JSON object, whose keys stay as they are
    #[arg(long)]
    json: bool,
    /// The agent's configuration [default: /etc/vmconsole-agent/config.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Look for denials by AppArmor and SELinux in this copy of the kernel's log, or in standard
    /// input with -; without it, root looks at the host's own
    #[arg(long, value_name = "FILE|-")]
    kernel_log: Option<PathBuf>,
}

impl From<DoctorArgs> for doctor::Options {
    fn from(args: DoctorArgs) -> Self {
        let source = |path: PathBuf| {
            if path.as_os_str() == "-" {
                LogSource::Stdin
            } else {
                LogSource::File(path)
            }
        };
        Self {
            vm: args.vm.unwrap_or_default(),
            console: args.console.unwrap_or_default(),
            json: args.json,
            config: args.config,
            kernel_log: args.kernel_log.map(source),
        }
    }
}

/// `pki`.
#[derive(Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Make a private CA, a certificate for an agent and one for a proxy
    Init(InitArgs),
}

/// `pki init`.
#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Where the files go; made for the owner alone if it is not there. Nothing is overwritten
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// A DNS name or IP address of the agent, beside localhost, 127.0.0.1 and ::1; may be given
    /// more than once
    #[arg(long = "agent-name", value_name = "NAME", value_parser = SubjectName::for_agent)]
    agent_names: Vec<SubjectName>,
    /// An identity of the proxy; may be given more than once [default:
    /// spiffe://vmconsole.local/proxy/dev]
    #[arg(long = "proxy-name", value_name = "URI_OR_DNS", value_parser = SubjectName::for_proxy)]
    proxy_names: Vec<SubjectName>,
    /// How many days all of it is valid
    #[arg(long, default_value_t = DEFAULT_DAYS, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_DAYS)))]
    days: u16,
}

impl From<InitArgs> for Init {
    fn from(args: InitArgs) -> Self {
        let InitArgs {
            directory,
            agent_names,
            proxy_names,
            days,
        } = args;
        Self {
            directory,
            agent_names,
            proxy_names,
            days,
        }
    }
}

/// A character for SysRq.
fn sysrq(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [character] if character.is_ascii_graphic() => Ok(*character),
        _ => Err("give one ASCII character, such as h".to_owned()),
    }
}

/// Keys that are pressed together. Which there are, the agent knows.
fn press(text: &str) -> Result<Press, String> {
    together(text, MAX_KEYS).map(Press)
}

/// At most so many keys, joined by a hyphen.
fn together(text: &str, most: usize) -> Result<Vec<String>, String> {
    let keys: Vec<_> = text.split('-').map(str::to_ascii_lowercase).collect();
    if keys.iter().any(String::is_empty) {
        return Err(
            "give names joined by -, such as ctrl-alt-delete; - itself is minus".to_owned(),
        );
    }
    if keys.len() > most {
        return Err(format!("{most} keys are pressed together at most"));
    }
    Ok(keys)
}

/// The table of exit codes for help.
fn exit_codes() -> String {
    let lines = TABLE
        .iter()
        .map(|(code, meaning)| format!("  {code:<6} {meaning}"));
    format!("Exit codes:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests;
