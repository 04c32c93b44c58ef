//! Bounded virsh commands against one libvirtd. It interprets neither their
//! output nor their errors.

use std::process::Command;

use crate::setup;

/// How long one virsh command may take. The first definition also asks QEMU what it
/// can do, a second or two on an idle machine where nothing is cached.
const VIRSH_BOUND_SECS: u32 = 120;

/// A virsh that speaks to one libvirtd.
#[derive(Debug, Clone)]
pub struct Virsh {
    uri: String,
}

/// A virsh command that failed.
#[derive(Debug)]
pub struct VirshError {
    command: String,
    said: String,
}

impl std::fmt::Display for VirshError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "virsh {} failed: {}", self.command, self.said)
    }
}

impl std::error::Error for VirshError {}

impl Virsh {
    /// A virsh that connects to `uri`.
    pub fn new(uri: impl Into<String>) -> Self {
        Self { uri: uri.into() }
    }

    /// Runs virsh and returns its standard output.
    ///
    /// # Errors
    /// When virsh fails or takes longer than two minutes, with what it said.
    pub fn run(&self, args: &[&str]) -> Result<String, VirshError> {
        let output = Command::new("timeout")
            .arg("--kill-after=2")
            .arg(VIRSH_BOUND_SECS.to_string())
            .arg(setup::program("virsh"))
            .args(["--quiet", "--connect", &self.uri])
            .args(args)
            .output()
            .expect("virsh can be started");
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = match output.status.code() {
            Some(124) => format!("no answer within {VIRSH_BOUND_SECS} s"),
            _ => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        };
        Err(VirshError {
            command: args.join(" "),
            said,
        })
    }

    /// The URI it connects to.
    pub fn uri(&self) -> &str {
        &self.uri
    }
}
