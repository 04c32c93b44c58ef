//! What `attach` and `tail` take.
//!
//! Refuses to know what is done with it: both become the options of one stream.

use std::time::Duration;

use clap::Args;

use super::lease::LeaseArgs;
use crate::attach::escape::{DEFAULT_KEY, EscapeKey};
use crate::attach::{self, Begin, Tail, Wish};

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

/// What is explained about escapes and pipes in `attach --help`.
pub(super) const ATTACH_HELP: &str = "\
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

/// `attach`.
#[derive(Args, Debug)]
pub(crate) struct AttachArgs {
    /// The VM, by name or UUID
    #[arg(value_name = "VM")]
    vm: String,
    /// The console's alias, such as serial0 [default: the first serial console, else the first
    /// console]
    #[arg(value_name = "CONSOLE", default_value = "", hide_default_value = true)]
    console: String,
    /// Only watch
    #[arg(long, conflicts_with_all = ["takeover", "queue"])]
    view: bool,
    /// How the lease is asked for.
    #[command(flatten)]
    lease: LeaseArgs,
    /// Take the console away from a program outside the agent that holds it, such as virsh console
    #[arg(long)]
    displace: bool,
    /// Begin with this many bytes of earlier output
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    tail: u64,
    /// The key that leaves: one character, ^X for a control character, or none to have no escapes
    /// at all
    #[arg(long, value_name = "CHAR|none", default_value_t = EscapeKey::Key(DEFAULT_KEY))]
    escape: EscapeKey,
    /// After the end of a piped standard input: leave when the guest was quiet for so long (0 to
    /// 3600)
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
        Self {
            vm: args.vm,
            console: args.console,
            wish: args.lease.wish(args.view),
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
    /// The VM, by name or UUID, and the console's alias, such as web-1/serial1 [default: as for
    /// attach]
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
