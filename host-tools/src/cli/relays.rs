//! What `vnc` and `relay` take.
//!
//! Refuses to know what is done with it: both become the options of one service.

use std::path::PathBuf;

use clap::Args;

use super::lease::LeaseArgs;
use super::together;
use crate::attach::Wish;
use crate::relay::{self, ListenAddress, MAX_CONNECTIONS, ViewerChoice, Wanted};

/// The most keys that are refused together, by the interface.
const MAX_REFUSED_TOGETHER: usize = 8;

/// Where `vnc` listens unless told otherwise: this host alone, and a free port.
const ANY_LOCAL_PORT: &str = "127.0.0.1:0";

/// What `--takeover` does where there may be more than one connection.
const TAKEOVER_HELP: &str = "Take the writer's lease from whoever holds it, with every connection";

/// What is explained in `vnc --help`.
pub(super) fn vnc_help() -> String {
    format!(
        "\
The address is the one line of standard output; everything else is told on standard error.
Viewers are served until a signal, {MAX_CONNECTIONS} at once at most, each by a session of its own.
There is no password and no encryption between viewer and vmconsolectl: whoever reaches the
address has the display.

With --viewer, the first of xtigervncviewer, vncviewer, remote-viewer and gvncviewer that is
installed is started, or the program in VMCONSOLE_VIEWER, and vmconsolectl ends with it.

If somebody else writes, a viewer only watches; it is told on standard error. It may type again
once the lease is free and it comes anew."
    )
}

/// What is explained in `relay --help`.
pub(super) fn relay_help() -> String {
    format!(
        "\
The address is the one line of standard output; everything else is told on standard error.
Connections are served until a signal, {MAX_CONNECTIONS} at once at most, each by a session of its own.
There is no password and no encryption between them and vmconsolectl: whoever reaches the address
has the console. A unix socket is its owner's alone (mode 0600), in a directory that neither its
group nor others may write to.

Without --console it is the console that attach means. Of a VM that has displays alone, it is the
first VNC display.

A display's bytes are RFB, which begins with the agent's version. A serial console's are what the
guest writes from now on, and what is typed; output that is missing is told on standard error.
Once a serial console's client has ended its side, the relay ends when the guest has taken all
and has been quiet for a second. A stream that breaks is not opened again: its connection is
closed, and the client comes again."
    )
}

/// Who types.
#[derive(Args, Debug)]
#[command(mut_arg("takeover", |takeover| takeover.help(TAKEOVER_HELP)))]
struct WriterArgs {
    /// Only watch
    #[arg(long, visible_alias = "view", conflicts_with_all = ["takeover", "queue"])]
    view_only: bool,
    /// How the lease is asked for.
    #[command(flatten)]
    lease: LeaseArgs,
}

impl WriterArgs {
    fn wish(self) -> Wish {
        self.lease.wish(self.view_only)
    }
}

/// What only displays have.
#[derive(Args, Debug)]
struct DisplayArgs {
    /// Let nobody else be at the display: refused while somebody is, unless with --takeover
    #[arg(long, conflicts_with = "queue")]
    exclusive: bool,
    /// Let no clipboard through, either way
    #[arg(long)]
    no_clipboard: bool,
    /// Keys that do not reach the guest, by QEMU's names, joined by - where they count only
    /// together, such as ctrl-alt-delete; may be given more than once
    #[arg(long = "refuse-key", value_name = "KEY[-KEY...]", value_parser = refused)]
    refuse_keys: Vec<String>,
}

/// `vnc`.
#[derive(Args, Debug)]
pub(crate) struct VncArgs {
    /// The VM, by name or UUID
    #[arg(value_name = "VM")]
    vm: String,
    /// The display's alias, such as vnc1 [default: the first VNC display]
    #[arg(
        long,
        value_name = "ALIAS",
        default_value = "",
        hide_default_value = true
    )]
    console: String,
    /// Where viewers connect, or unix:PATH; with port 0 a free one is taken
    #[arg(long, value_name = "HOST:PORT", default_value = ANY_LOCAL_PORT)]
    listen: ListenAddress,
    /// Start a viewer, and end with it
    #[arg(long, conflicts_with = "listen")]
    viewer: bool,
    /// Who types.
    #[command(flatten)]
    writer: WriterArgs,
    /// What is kept back.
    #[command(flatten)]
    display: DisplayArgs,
}

impl VncArgs {
    /// The options; `program` is the viewer to be started, if one is and it is named.
    pub(crate) fn options(self, program: Option<PathBuf>) -> relay::Options {
        let wish = self.writer.wish();
        let viewer = self
            .viewer
            .then(|| program.map_or(ViewerChoice::First, ViewerChoice::Named));
        relay::Options {
            vm: self.vm,
            console: self.console,
            wanted: Wanted::Display,
            listen: self.listen,
            once: false,
            viewer,
            // A person may as well watch.
            view_otherwise: wish == Wish::Write && !self.display.exclusive,
            wish,
            exclusive: self.display.exclusive,
            no_clipboard: self.display.no_clipboard,
            refused_keys: self.display.refuse_keys,
        }
    }
}

/// `relay`.
#[derive(Args, Debug)]
pub(crate) struct RelayArgs {
    /// The VM, by name or UUID
    #[arg(value_name = "VM")]
    vm: String,
    /// The alias of the console or display, such as serial1 or vnc0 [default: as for attach, or
    /// else the first VNC display]
    #[arg(
        long,
        value_name = "ALIAS",
        default_value = "",
        hide_default_value = true
    )]
    console: String,
    /// Where to listen; with port 0 a free one is taken
    #[arg(long, value_name = "HOST:PORT|unix:PATH")]
    listen: ListenAddress,
    /// End with the first connection, and exit with what it ended with
    #[arg(long)]
    once: bool,
    /// If somebody else writes, only watch, rather than be refused
    #[arg(long, conflicts_with_all = ["view_only", "queue", "takeover", "exclusive"])]
    view_otherwise: bool,
    /// Who types.
    #[command(flatten)]
    writer: WriterArgs,
    /// What is kept back.
    #[command(flatten)]
    display: DisplayArgs,
}

impl From<RelayArgs> for relay::Options {
    fn from(args: RelayArgs) -> Self {
        Self {
            vm: args.vm,
            console: args.console,
            wanted: Wanted::Any,
            listen: args.listen,
            once: args.once,
            viewer: None,
            wish: args.writer.wish(),
            view_otherwise: args.view_otherwise,
            exclusive: args.display.exclusive,
            no_clipboard: args.display.no_clipboard,
            refused_keys: args.display.refuse_keys,
        }
    }
}

/// Keys that are refused together, in lower case.
fn refused(text: &str) -> Result<String, String> {
    together(text, MAX_REFUSED_TOGETHER).map(|keys| keys.join("-"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command};
    use super::*;

    fn options(words: &[&str]) -> Result<relay::Options, clap::Error> {
        let words = ["vmconsolectl"].iter().chain(words);
        match Cli::try_parse_from(words)?.command {
            Command::Vnc(args) => Ok(args.options(Some("mine".into()))),
            Command::Relay(args) => Ok(args.into()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_display_is_shown_to_this_host_alone_unless_told_otherwise() {
        let plain = options(&["vnc", "web"]).unwrap();
        let expected = relay::Options {
            vm: "web".into(),
            console: String::new(),
            wanted: Wanted::Display,
            listen: ListenAddress::Tcp("127.0.0.1".into(), 0),
            once: false,
            viewer: None,
            wish: Wish::Write,
            view_otherwise: true,
            exclusive: false,
            no_clipboard: false,
            refused_keys: Vec::new(),
        };
        assert_eq!(plain, expected);
        let words = "vnc web --console vnc1 --viewer --takeover --reason why --exclusive \
                     --no-clipboard --refuse-key sysrq --refuse-key Ctrl-Alt-Delete";
        let full = options(&words.split_whitespace().collect::<Vec<_>>()).unwrap();
        let expected = relay::Options {
            console: "vnc1".into(),
            viewer: Some(ViewerChoice::Named("mine".into())),
            wish: Wish::TakeOver("why".into()),
            view_otherwise: false,
            exclusive: true,
            no_clipboard: true,
            refused_keys: vec!["sysrq".into(), "ctrl-alt-delete".into()],
            ..expected
        };
        assert_eq!(full, expected);
    }

    #[test]
    fn a_relay_is_read_as_meant() {
        let words = [
            "relay",
            "web",
            "--listen",
            "unix:/run/x",
            "--once",
            "--view",
        ];
        let relay = options(&words).unwrap();
        assert_eq!(relay.listen, ListenAddress::Unix("/run/x".into()));
        assert!(relay.once && !relay.view_otherwise);
        assert_eq!((relay.wish, relay.wanted), (Wish::View, Wanted::Any));
        let words = ["relay", "web", "--listen", "x:0", "--view-otherwise"];
        assert!(options(&words).unwrap().view_otherwise);
    }

    #[test]
    fn what_is_explained_fits_a_terminal() {
        for help in [vnc_help(), relay_help()] {
            for line in help.lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let many = ["a"; MAX_REFUSED_TOGETHER + 1].join("-");
        for words in [
            &["vnc"][..],
            &["vnc", "web", "--viewer", "--listen", "127.0.0.1:1"],
            &["vnc", "web", "--view-only", "--takeover"],
            &["vnc", "web", "--queue", "--exclusive"],
            &["vnc", "web", "--reason", "x"],
            &["vnc", "web", "--refuse-key", "a-"],
            &["vnc", "web", "--refuse-key", &many],
            &["vnc", "web", "--listen", "5901"],
            &["relay", "web"],
            &[
                "relay",
                "web",
                "--listen",
                "x:0",
                "--view-otherwise",
                "--queue",
            ],
            &[
                "relay",
                "web",
                "--listen",
                "x:0",
                "--view-otherwise",
                "--exclusive",
            ],
        ] {
            assert_eq!(options(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
    }
}
