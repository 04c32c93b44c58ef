//! The command line: what may be said, and what it means.
//!
//! Refuses to do anything: `main` acts on what is parsed here.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};

use crate::attach::escape::{DEFAULT_KEY, EscapeKey};
use crate::attach::{self, Begin, Tail, Wish};
use crate::connect::{AgentAddress, CredentialPaths};
use crate::doctor::{self, LogSource};
use crate::effects::{Press, Target};
use crate::exit::TABLE;
use crate::list::Format;
use crate::pki::{DEFAULT_DAYS, Init, MAX_DAYS, SubjectName};

/// The longest reason for a takeover, in bytes, by the interface.
const MAX_REASON_BYTES: usize = 256;

/// The longest `--linger`, in seconds.
const MAX_LINGER_SECONDS: f64 = 3600.0;

/// The longest `--reconnect`, in seconds: a day.
const MAX_RECONNECT_SECONDS: u64 = 86_400;

/// For how long a stream that broke is opened again unless told otherwise, in seconds.
const DEFAULT_RECONNECT_SECONDS: u64 = 300;

/// How many lines `tail` begins with unless told otherwise.
const DEFAULT_LINES: u32 = 10;

/// The most lines that `tail` begins with, by the interface.
const MAX_LINES: u32 = 100_000;

/// The most keys that are pressed together, by the interface.
const MAX_KEYS: usize = 16;

/// The longest that keys are held, in milliseconds, by the interface.
const MAX_HOLD_MS: u64 = 5000;

/// How many presses one command line may ask for.
const MAX_PRESSES: usize = 256;

/// What is explained about escapes and pipes in `attach --help`.
const ATTACH_HELP: &str = "\
Escapes, at a terminal:
  ^]          leave, after a pause of 0.3 s or with any other key
  ^] ^]       send one ^] (the second within 0.3 s)
  Enter ~ .   leave
  Enter ~ B   send a break
  Enter ~ w   ask for the writer's lease, and wait for it
  Enter ~ r   give the lease, or the place in its queue, back
  Enter ~ ?   help
  Enter ~ ~   send one ~
`~` is an escape at the start of a line only, and the session begins at one. Where standard
input is no terminal, every byte is passed on unchanged.

A connection that breaks is tried again for --reconnect seconds, and the session goes on where
it was: what is typed meanwhile waits. What may not have arrived is not sent again, and told.

Pipes: all of standard input is sent; at its end, when the guest has taken it and has been
quiet for --linger seconds, vmconsolectl leaves. If another caller writes, or takes the lease
before the end, it exits with 7. With --view a standard input that is no terminal is not
read, and output is shown until the stream ends or a signal comes. Output goes to standard
output byte for byte; messages go to standard error.";

/// Serial and virtio consoles of a host's VMs, through its vmconsole-agent.
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
    /// The proxy's certificate, PEM [default: proxy.crt in $VMCONSOLE_PKI, ~/.config/vmconsole or /etc/vmconsole-agent/pki]
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

/// `attach`.
#[derive(Args, Debug)]
pub(crate) struct AttachArgs {
    /// The VM, by name or UUID
    #[arg(value_name = "VM")]
    vm: String,
    /// The console's alias, such as serial0 [default: the first serial console, else the first console]
    #[arg(value_name = "CONSOLE", default_value = "", hide_default_value = true)]
    console: String,
    /// Only watch
    #[arg(long, conflicts_with_all = ["takeover", "queue"])]
    view: bool,
    /// Wait for the writer's lease until whoever holds it gives it back
    #[arg(long, conflicts_with = "takeover")]
    queue: bool,
    /// Take the writer's lease from whoever holds it
    #[arg(long)]
    takeover: bool,
    /// Why, as told to whoever loses the lease; at most 256 bytes
    #[arg(long, value_name = "TEXT", requires = "takeover", value_parser = reason)]
    reason: Option<String>,
    /// Take the console away from a program outside the agent that holds it, such as virsh console
    #[arg(long)]
    displace: bool,
    /// Begin with this many bytes of earlier output
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    tail: u64,
    /// The key that leaves: one character, ^X for a control character, or none to have no escapes at all
    #[arg(long, value_name = "CHAR|none", default_value_t = EscapeKey::Key(DEFAULT_KEY))]
    escape: EscapeKey,
    /// After the end of a piped standard input: leave when the guest was quiet for so long (0 to 3600)
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = linger)]
    linger: Duration,
    /// How long a connection that broke is tried again
    #[command(flatten)]
    reconnect: ReconnectArgs,
}

/// How long a connection that broke is tried again.
#[derive(Args, Debug)]
struct ReconnectArgs {
    /// When the connection breaks: try for so long to take the session up again (0 to 86400)
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_RECONNECT_SECONDS, value_parser = clap::value_parser!(u64).range(0..=MAX_RECONNECT_SECONDS))]
    reconnect: u64,
    /// The same as --reconnect 0: leave when the connection breaks
    #[arg(long, conflicts_with = "reconnect")]
    no_reconnect: bool,
}

impl ReconnectArgs {
    const fn limit(&self) -> Duration {
        match self.no_reconnect {
            true => Duration::ZERO,
            false => Duration::from_secs(self.reconnect),
        }
    }
}

impl From<AttachArgs> for attach::Options {
    fn from(args: AttachArgs) -> Self {
        let wish = if args.view {
            Wish::View
        } else if args.queue {
            Wish::Queue
        } else if args.takeover {
            Wish::TakeOver(args.reason.unwrap_or_default())
        } else {
            Wish::Write
        };
        Self {
            vm: args.vm,
            console: args.console,
            wish,
            displace: args.displace,
            begin: match args.tail {
                0 => Begin::Live,
                bytes => Begin::Bytes(bytes),
            },
            tail: None,
            escape: args.escape,
            linger: args.linger,
            reconnect: args.reconnect.limit(),
        }
    }
}

/// `tail`.
#[derive(Args, Debug)]
pub(crate) struct TailArgs {
    /// The VM, by name or UUID, and the console's alias, such as web-1/serial1 [default: as for attach]
    #[arg(value_name = "VM[/ALIAS]")]
    console: String,
    /// Begin with so many lines (0 to 100000)
    #[arg(long, short = 'n', value_name = "N", default_value_t = DEFAULT_LINES, value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_LINES)))]
    lines: u32,
    /// Then print what comes, until a signal
    #[arg(long, short)]
    follow: bool,
    /// How long a connection that broke is tried again
    #[command(flatten)]
    reconnect: ReconnectArgs,
}

impl From<TailArgs> for attach::Options {
    fn from(args: TailArgs) -> Self {
        let (vm, console) = match args.console.rsplit_once('/') {
            Some((vm, alias)) => (vm.to_owned(), alias.to_owned()),
            None => (args.console, String::new()),
        };
        Self {
            vm,
            console,
            wish: Wish::View,
            displace: false,
            begin: match args.lines {
                0 => Begin::Live,
                lines => Begin::Lines(lines),
            },
            tail: Some(match args.follow {
                true => Tail::Follow,
                false => Tail::Once,
            }),
            escape: EscapeKey::Off,
            linger: Duration::ZERO,
            reconnect: args.reconnect.limit(),
        }
    }
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
    /// Keys by QEMU's names, joined by - where they are pressed together, such as ctrl-alt-delete; several are pressed one after the other
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
    /// Look for denials by AppArmor and SELinux in this copy of the kernel's log, or in standard input with -; without it, root looks at the host's own
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
    /// A DNS name or IP address of the agent, beside localhost, 127.0.0.1 and ::1; may be given more than once
    #[arg(long = "agent-name", value_name = "NAME", value_parser = SubjectName::for_agent)]
    agent_names: Vec<SubjectName>,
    /// An identity of the proxy; may be given more than once [default: spiffe://vmconsole.local/proxy/dev]
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
    let keys: Vec<_> = text.split('-').map(str::to_ascii_lowercase).collect();
    if keys.iter().any(String::is_empty) {
        return Err(
            "give names joined by -, such as ctrl-alt-delete; - itself is minus".to_owned(),
        );
    }
    if keys.len() > MAX_KEYS {
        return Err(format!("{MAX_KEYS} keys are pressed together at most"));
    }
    Ok(Press(keys))
}

/// The reason of a takeover.
fn reason(text: &str) -> Result<String, String> {
    match text.len() {
        0..=MAX_REASON_BYTES => Ok(text.to_owned()),
        len => Err(format!(
            "{len} bytes are too many: {MAX_REASON_BYTES} at most"
        )),
    }
}

/// Seconds, with a fraction.
fn linger(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=MAX_LINGER_SECONDS).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err(format!(
            "give seconds from 0 to {MAX_LINGER_SECONDS}, such as 0.5"
        )),
    }
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
