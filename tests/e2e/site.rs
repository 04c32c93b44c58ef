//! What the tests of the command line start from: a libvirtd, an agent on it, and both sides'
//! certificates as `vmconsolectl pki init` makes them.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use vmconsole_tests::agent::{Agent, AgentOptions, program};
use vmconsole_tests::guest::{Guest, GuestOptions};
use vmconsole_tests::libvirtd::Libvirtd;
use vmconsole_tests::process::tied;
use vmconsole_tests::{scrape, wait};

use crate::host::BOUND;
use crate::terminal::{Piped, Terminal};

/// Who the proxy is that `pki init` makes a certificate for.
pub(crate) const PROXY: &str = "spiffe://vmconsole.local/proxy/dev";

/// A libvirtd, an agent on it, and the certificates that `pki init` made for both sides.
pub(crate) struct Site {
    pub(crate) agent: Agent,
    pub(crate) libvirtd: Libvirtd,
    pub(crate) pki: PathBuf,
    options: AgentOptions,
}

impl Site {
    pub(crate) fn start() -> Self {
        Self::logging("debug")
    }

    /// With an agent that logs what is of this level, or more severe.
    pub(crate) fn logging(level: &str) -> Self {
        let libvirtd = Libvirtd::start();
        let pki = libvirtd.dir().join("pki");
        let mut init = bare();
        init.args(["pki", "init"]).arg(&pki);
        assert_eq!(Piped::start(init).end_of_input(), Some(0));
        let mut options = AgentOptions::new(libvirtd.uri(), &pki, &[PROXY]);
        level.clone_into(&mut options.log_level);
        let agent = Agent::start(&options);
        options.listen = agent.grpc().to_string();
        Self {
            agent,
            libvirtd,
            pki,
            options,
        }
    }

    /// Has another agent take the place of one that has ended, at the same address.
    pub(crate) fn starts_again(&mut self) {
        self.agent = Agent::start(&self.options);
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = bare();
        command.env("VMCONSOLE_PKI", &self.pki);
        command.env("VMCONSOLE_AGENT", self.agent.grpc().to_string());
        command.args(args);
        command
    }

    pub(crate) fn piped(&self, args: &[&str]) -> Piped {
        Piped::start(self.command(args))
    }

    pub(crate) fn terminal(&self, args: &[&str]) -> Terminal {
        Terminal::start(self.command(args))
    }

    /// A guest that has been started and whose first console the agent holds.
    pub(crate) fn guest(&self, name: &str) -> Guest {
        let guest = Guest::define_and_start(&self.libvirtd, GuestOptions::named(name));
        self.shows(name, |console| console["availability"] == "attached");
        guest
    }

    /// Waits until `list` shows serial0 of this VM so.
    #[track_caller]
    pub(crate) fn shows(&self, vm: &str, so: impl Fn(&Value) -> bool) {
        wait::until("the list to show it", BOUND, || {
            self.listed(vm).as_ref().is_some_and(&so)
        });
    }

    /// What `list` shows of serial0 of this VM.
    #[track_caller]
    pub(crate) fn listed(&self, vm: &str) -> Option<Value> {
        let mut list = self.piped(&["list", "--output", "json"]);
        assert_eq!(list.end_of_input(), Some(0), "{}", list.process.stderr());
        let consoles: Vec<Value> = serde_json::from_str(&list.stdout()).unwrap();
        let ours = |console: &Value| console["vm_name"] == vm && console["console"] == "serial0";
        consoles.into_iter().find(ours)
    }

    /// Every session that was opened has been closed.
    pub(crate) fn settled(&self, sessions: f64) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let settled = scrape::sessions_settled(self.agent.http(), BOUND);
        assert_eq!(runtime.block_on(settled), sessions);
    }
}

/// The program with no settings at all.
pub(crate) fn bare() -> Command {
    let mut command = tied(program("vmconsolectl"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VMCONSOLE_") {
            command.env_remove(name);
        }
    }
    command.env_remove("HOME");
    command
}
