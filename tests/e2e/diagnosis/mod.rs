//! Each diagnosis of a real guest, or a real host, that has the fault: by the agent's answers,
//! and by the report of `vmconsolectl doctor`.

mod guests;
mod hosts;
mod libvirt;
mod paths;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use vmconsole_proto::v1;
use vmconsole_proto::v1::{FindingCode as Code, Severity};
use vmconsole_tests::agent::Agent;
use vmconsole_tests::client::{Client, open};
use vmconsole_tests::pki::Pki;

use crate::host::BOUND;
use crate::site::bare;
use crate::terminal::Piped;

/// Between two diagnoses that wait for a finding.
const PAUSE: Duration = Duration::from_millis(100);

/// What is found of this console now, the likeliest cause first.
async fn diagnosed(
    client: &Client,
    vm: &str,
    alias: &str,
) -> Result<Vec<v1::Finding>, tonic::Status> {
    let mut console = open(vm, v1::Mode::View).console.expect("it names one");
    alias.clone_into(&mut console.alias);
    let request = v1::DiagnoseConsoleRequest {
        console: Some(console),
    };
    let answer = client.service().diagnose_console(request).await?;
    Ok(answer.into_inner().findings)
}

/// Waits until this is the likeliest cause, which is so bad, and returns it.
async fn found(
    client: &Client,
    (vm, alias): (&str, &str),
    (code, severity): (Code, Severity),
) -> v1::Finding {
    let mut last = None;
    let asking = async {
        loop {
            let findings = diagnosed(client, vm, alias).await;
            if let Ok([first, ..]) = findings.as_deref()
                && first.code() == code
                && first.severity() == severity
            {
                println!("{vm} {alias}: {}", in_words(first));
                return first.clone();
            }
            last = Some(findings);
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(BOUND, asking).await {
        Ok(found) => found,
        Err(_) => panic!("{vm} {alias} was not found {code:?} {severity:?}, but {last:?}"),
    }
}

fn in_words(finding: &v1::Finding) -> String {
    let v1::Finding {
        summary,
        evidence,
        next_step,
        ..
    } = finding;
    format!("{summary}\n  {evidence}\n  next: {next_step}")
}

/// What the agent finds of its host and of itself, of this kind.
async fn of_host(client: &Client, code: Code) -> Vec<v1::Finding> {
    let answer = client
        .service()
        .diagnose_host(v1::DiagnoseHostRequest {})
        .await;
    let findings = answer.unwrap().into_inner().findings;
    let of = |finding: &v1::Finding| finding.code() == code;
    findings.into_iter().filter(of).collect()
}

/// Waits until the agent finds so much of its host, and returns it.
async fn found_of_host(client: &Client, code: Code, severity: Severity) -> v1::Finding {
    let asking = async {
        loop {
            let findings = of_host(client, code).await;
            let so = |finding: &v1::Finding| finding.severity() == severity;
            if let Some(found) = findings.into_iter().find(so) {
                println!("the host: {}", in_words(&found));
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let found = tokio::time::timeout(BOUND, asking).await;
    found.unwrap_or_else(|_| panic!("the host was not found {code:?} {severity:?}"))
}

/// Runs doctor on an agent and its host, with a kernel's log of its own.
struct Doctor {
    dir: TempDir,
}

impl Doctor {
    fn new(pki: &Pki) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.crt"), pki.ca_pem()).unwrap();
        pki.proxy().write(dir.path(), "proxy");
        std::fs::write(dir.path().join("kernel.log"), "").unwrap();
        Self { dir }
    }

    /// The command, for the agent at this address with this configuration.
    fn command(&self, agent: &str, config: &Path, arguments: &[&str]) -> Command {
        let mut command = bare();
        command
            .env("VMCONSOLE_PKI", self.dir.path())
            .env("VMCONSOLE_AGENT", agent)
            .arg("doctor")
            .args(arguments)
            .args(["--json", "--config"])
            .arg(config)
            .arg("--kernel-log")
            .arg(self.dir.path().join("kernel.log"));
        command
    }

    /// The exit code and the findings of a report about a running agent.
    fn asks(&self, agent: &Agent, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
        let config = agent.dir().join("config.toml");
        report(self.command(&agent.grpc().to_string(), &config, arguments))
    }
}

/// The exit code and the findings that doctor reports.
fn report(command: Command) -> (Option<i32>, Vec<Value>) {
    let mut doctor = Piped::start(command);
    let code = doctor.end_of_input();
    let report = serde_json::from_str::<Value>(&doctor.stdout());
    let report = report.unwrap_or_else(|error| panic!("{error}: {}", doctor.process.stderr()));
    (code, report["findings"].as_array().unwrap().clone())
}

/// The first finding of a report that is of this kind.
#[track_caller]
fn reported<'a>(findings: &'a [Value], code: &str) -> &'a Value {
    let found = findings.iter().find(|finding| finding["code"] == code);
    found.unwrap_or_else(|| panic!("no {code} among {findings:?}"))
}

/// That one of a finding's texts says so.
#[track_caller]
fn says(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in {text:?}");
}
