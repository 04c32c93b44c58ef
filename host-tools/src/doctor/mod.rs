//! `vmconsolectl doctor`: why a console, an agent or its host does not work.
//!
//! Looks at the host with what rights it has, and asks the agent for the rest. Refuses to
//! change anything, to be stopped by any one thing that fails, and to need root: what it could
//! not look at, it says.

mod access;
mod agent;
mod certificates;
mod config;
mod finding;
mod kernel_log;
mod libvirt;
mod port;
mod program;
mod report;
mod system;

use std::future::Future;
use std::io::{self, IsTerminal as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::unistd::geteuid;
use tonic::transport::Channel;

use self::access::{AGENT_USER, Person};
use self::agent::Wanted;
use self::config::DEFAULT_PATH;
use self::finding::{Finding, Origin, Severity};
pub(crate) use self::kernel_log::LogSource;
use crate::connect::AgentAddress;
use crate::exit::Exit;
use crate::output::print;

/// Where the host's files are.
const ROOT: &str = "/";

/// What the caller wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The VM whose consoles are looked at, by name or UUID; empty for none.
    pub(crate) vm: String,
    /// One of its consoles; empty for all.
    pub(crate) console: String,
    /// The report for programs.
    pub(crate) json: bool,
    /// The agent's configuration, if it was named.
    pub(crate) config: Option<PathBuf>,
    /// The kernel's log, if it was named.
    pub(crate) kernel_log: Option<LogSource>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoctorError {
    /// JSON.
    #[error("cannot write the report as JSON")]
    Json(#[from] serde_json::Error),
    /// Stdout.
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
}

/// Looks at all there is, prints the report, and returns how bad it is.
///
/// # Errors
/// [`DoctorError`] where the report cannot be written.
pub(crate) async fn run<E: std::error::Error>(
    options: Options,
    address: &AgentAddress,
    connecting: impl Future<Output = Result<Channel, E>>,
) -> Result<Exit, DoctorError> {
    let mut findings = of_host(&options, address).await;
    findings.extend(of_kernel_log(options.kernel_log.clone()).await);
    let wanted = Wanted {
        vm: options.vm,
        console: options.console,
    };
    let wanted = Some(&wanted).filter(|wanted| !wanted.vm.is_empty());
    match connecting.await {
        Ok(channel) => findings.extend(agent::ask(channel, wanted).await),
        Err(error) => findings.push(agent::not_connected(&address.to_string(), &error)),
    }
    let mut findings = without_repetitions(findings);
    report::order(&mut findings);
    let text = if options.json {
        report::json(&findings)?
    } else {
        let coloured = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        report::text(&findings, coloured)
    };
    print(&text).map_err(DoctorError::Stdout)?;
    Ok(match report::worst(&findings) {
        Severity::Ok | Severity::Note => Exit::Done,
        Severity::Warning | Severity::Problem => Exit::Findings,
    })
}

/// What is found of the host that this runs on, if the agent is to be there.
async fn of_host(options: &Options, address: &AgentAddress) -> Vec<Finding> {
    let default = Path::new(DEFAULT_PATH);
    let path = options.config.as_deref().unwrap_or(default);
    let elsewhere = options.config.is_none() && !is_here(address) && !default.exists();
    if elsewhere {
        let summary = "no agent is set up on this host, so only the agent that was named is asked";
        return vec![Finding::note("config", summary)];
    }
    let (settings, mut findings) = config::read(path);
    if findings.is_empty() {
        findings.push(config::checked_by_agent(path, &settings).await);
    }
    let root = Path::new(ROOT);
    let agent = Person::named(AGENT_USER);
    findings.extend(port::look(root, &settings.listen));
    if let Some(uri) = &settings.libvirt {
        findings.push(libvirt::look(root, uri, agent.as_ref()));
    }
    findings.extend(certificates::look(
        &settings,
        agent.as_ref(),
        SystemTime::now(),
    ));
    findings.extend(system::service(root).await);
    findings.push(system::clock().await);
    findings.extend(system::disks());
    findings
}

/// Whether the agent's address is one of this host's loopback.
fn is_here(address: &AgentAddress) -> bool {
    let host = address.host();
    let loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
    host == "localhost" || host.parse().is_ok_and(loopback)
}

/// Denials in the kernel's log, or that it could not be looked at.
async fn of_kernel_log(named: Option<LogSource>) -> Vec<Finding> {
    const CODE: &str = "kernel_log";
    let source = match named {
        Some(source) => source,
        None if geteuid().is_root() => LogSource::Host(PathBuf::from(ROOT)),
        None => {
            let summary = "the kernel's log was not looked at for denials by AppArmor or SELinux: only root may";
            let finding = Finding::note(CODE, summary);
            return vec![finding.next("run doctor as root, or give it a copy with --kernel-log")];
        }
    };
    match kernel_log::read(&source).await {
        Ok(text) => {
            let found = kernel_log::findings(text.lines());
            if found.is_empty() {
                let summary =
                    "the kernel's log has no denial by AppArmor or SELinux that concerns consoles";
                return vec![Finding::ok(CODE, summary)];
            }
            found
        }
        Err(error) => {
            let summary = "the kernel's log cannot be read";
            let finding = Finding::note(CODE, summary).evidence(error.to_string());
            vec![finding.next("give doctor a copy with --kernel-log")]
        }
    }
}

/// What both the host and the agent found is told once, and who knows better of the clock is
/// believed.
fn without_repetitions(findings: Vec<Finding>) -> Vec<Finding> {
    let of_clock = |finding: &Finding| finding.code == "clock";
    let clock_known = findings
        .iter()
        .any(|finding| of_clock(finding) && finding.severity != Severity::Note);
    let mut kept: Vec<Finding> = Vec::new();
    for finding in findings {
        let guess = of_clock(&finding) && finding.severity == Severity::Note && clock_known;
        let console = matches!(finding.origin, Origin::Console(..));
        let told = kept
            .iter()
            .any(|other| (&other.code, &other.summary) == (&finding.code, &finding.summary));
        if console || !(guess || told) {
            kept.push(finding);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_found_is_told_once_save_of_consoles() {
        let mut of_agent = Finding::ok("disk", "room");
        of_agent.origin = Origin::Agent;
        let mut console = Finding::problem("vm_off", "off");
        console.origin = Origin::Console("web".into(), "serial0".into());
        let mut second = console.clone();
        second.origin = Origin::Console("web".into(), "serial1".into());
        let findings = vec![
            Finding::ok("disk", "room"),
            Finding::note("clock", "not known"),
            of_agent,
            Finding::ok("clock", "right"),
            console.clone(),
            second.clone(),
        ];
        let expected = [
            Finding::ok("disk", "room"),
            Finding::ok("clock", "right"),
            console,
            second,
        ];
        assert_eq!(without_repetitions(findings), expected);
        let alone = vec![Finding::note("clock", "not known")];
        assert_eq!(without_repetitions(alone.clone()), alone);
    }

    #[test]
    fn only_the_loopback_is_here() {
        let here = |text: &str| is_here(&text.parse().unwrap());
        assert!(here("localhost") && here("127.0.0.1:1") && here("[::1]:1"));
        assert!(!here("host1.example.org") && !here("192.0.2.1"));
    }
}
