//! `doctor`: its report, by what the agent answers and by what the host is made to look like.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use vmconsole_proto::v1::{
    Console, DiagnoseConsoleResponse, DiagnoseHostResponse, Finding, FindingCode,
    ListConsolesResponse, Severity,
};

use crate::fake_agent::{FakeAgent, Script};
use crate::program::{Ended, Piped, nobody, pki, pki_with, vmconsolectl};

const DENIAL: &str = "audit: type=1400 audit(1.1:1): apparmor=\"DENIED\" operation=\"connect\" \
    profile=\"vmconsole-agent\" name=\"/run/libvirt/x\" pid=1 comm=\"vmconsole-agent\" denied_mask=\"w\"\n";

fn finding(code: FindingCode, severity: Severity, summary: &str) -> Finding {
    Finding {
        code: code.into(),
        severity: severity.into(),
        summary: summary.to_owned(),
        evidence: "the evidence".to_owned(),
        next_step: "the next step".to_owned(),
        since: None,
    }
}

fn console(alias: &str, finding: Finding) -> DiagnoseConsoleResponse {
    DiagnoseConsoleResponse {
        findings: vec![finding],
        console: Some(Console {
            vm_name: "web-1".to_owned(),
            alias: alias.to_owned(),
            ..Default::default()
        }),
    }
}

fn page(aliases: &[&str]) -> ListConsolesResponse {
    let console = |alias: &&str| Console {
        alias: (*alias).to_owned(),
        ..Default::default()
    };
    ListConsolesResponse {
        consoles: aliases.iter().map(console).collect(),
        ..Default::default()
    }
}

fn script() -> Script {
    let lost = finding(
        FindingCode::HypervisorLost,
        Severity::Problem,
        "libvirt\u{1b}[2J is gone",
    );
    let silent = finding(
        FindingCode::GuestSilent,
        Severity::Warning,
        "nothing was seen",
    );
    let works = finding(FindingCode::ConsoleWorks, Severity::Good, "it works");
    let none = finding(FindingCode::NoConsoleDevice, Severity::Problem, "no device");
    Script {
        host: Some(DiagnoseHostResponse {
            findings: vec![lost],
        }),
        pages: vec![page(&["serial0", "console1"])],
        diagnoses: vec![
            ("serial0", console("serial0", silent)),
            ("console1", console("console1", works)),
            (
                "",
                DiagnoseConsoleResponse {
                    findings: vec![none],
                    console: None,
                },
            ),
        ],
        ..Default::default()
    }
}

/// A configuration whose agent listens there, and whose libvirt has no socket.
fn config(pki: &Path, listen: SocketAddr) -> std::path::PathBuf {
    let path = pki.join("config.toml");
    let text = format!(
        "[grpc]\nlisten = [\"{listen}\"]\ncertificate = \"{0}/agent.crt\"\nprivate_key = \"{0}/agent.key\"\n\
         client_ca = \"{0}/ca.crt\"\n[access]\nallowed_clients = [\"a.example\"]\n\
         [libvirt]\nuri = \"qemu+unix:///system?socket={0}/no-sock\"\n",
        pki.display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// doctor with a kernel's log of its own, so that nothing of the host's is read.
fn doctor(pki: &Path, agent: SocketAddr, config: &Path) -> Command {
    let log = pki.join("kernel.log");
    std::fs::write(&log, "[ 0.0] nothing\n").unwrap();
    let mut command = vmconsolectl(pki, agent);
    command.args(["doctor", "--config"]).arg(config);
    command.arg("--kernel-log").arg(log);
    command
}

fn json(command: &mut Command) -> (Ended, Vec<Value>) {
    let ended = Piped::start(command.arg("--json")).end();
    let value: Value = serde_json::from_slice(&ended.stdout).expect(&ended.stderr);
    let findings = value["findings"].as_array().unwrap().clone();
    (ended, findings)
}

fn of<'a>(findings: &'a [Value], code: &str) -> Vec<&'a Value> {
    findings.iter().filter(|one| one["code"] == code).collect()
}

#[test]
fn each_console_and_the_host_are_asked_for_and_the_worst_comes_first() {
    let (_root, pki) = pki();
    let agent = FakeAgent::start(&pki, script());
    let config = config(&pki, agent.address);
    let (ended, findings) = json(doctor(&pki, agent.address, &config).arg("web-1"));
    assert_eq!(ended.code, Some(11), "{}", ended.stderr);
    let rank = |one: &Value| {
        let words = ["problem", "warning", "note", "ok"];
        words
            .iter()
            .position(|word| one["severity"] == *word)
            .unwrap()
    };
    assert!(findings.is_sorted_by_key(rank), "{findings:?}");
    // Those that were made just now.
    assert_eq!(of(&findings, "certificate_good").len(), 2, "{findings:?}");
    let silent = of(&findings, "guest_silent")[0];
    assert_eq!(silent["from"], "console");
    assert_eq!(
        (&silent["vm"], &silent["console"]),
        (&"web-1".into(), &"serial0".into())
    );
    assert_eq!(silent["next_step"], "the next step");
    assert_eq!(of(&findings, "console_works")[0]["console"], "console1");
    assert_eq!(of(&findings, "hypervisor_lost")[0]["from"], "agent");
    assert_eq!(
        agent.lists.lock().unwrap()[0].filter.as_ref().unwrap().vms,
        ["web-1"]
    );
}

#[test]
fn one_console_or_a_vm_without_any_is_asked_for_by_itself() {
    let (_root, pki) = pki();
    let agent = FakeAgent::start(&pki, script());
    let config = config(&pki, agent.address);
    let command = |words: &[&str]| {
        let mut command = doctor(&pki, agent.address, &config);
        json(command.args(words)).1
    };
    let one = command(&["web-1", "--console", "console1"]);
    assert_eq!(of(&one, "console_works").len(), 1);
    assert!(of(&one, "guest_silent").is_empty());
    assert!(agent.lists.lock().unwrap().is_empty());
    let unknown = command(&["web-1", "--console", "serial9"]);
    assert_eq!(of(&unknown, "agent_unreachable").len(), 1, "{unknown:?}");

    let none = FakeAgent::start(
        &pki,
        Script {
            pages: vec![page(&[])],
            ..script()
        },
    );
    let (_, findings) = json(doctor(&pki, none.address, &config).arg("web-1"));
    let device = of(&findings, "no_console_device")[0];
    assert_eq!(device["vm"], "web-1");
}

#[test]
fn an_agent_that_cannot_list_its_consoles_is_asked_about_the_vm_itself() {
    let (_root, pki) = pki();
    let details = ErrorDetails::with_error_info("ENDPOINT_LOST", "vmconsole", HashMap::new());
    let message = "not connected: libvirt: no socket";
    let refused = Status::with_error_details(Code::Unavailable, message, details);
    let lost = finding(FindingCode::HypervisorLost, Severity::Problem, "not read");
    let answer = DiagnoseConsoleResponse {
        findings: vec![lost],
        console: None,
    };
    let agent = FakeAgent::start(
        &pki,
        Script {
            list_refused: Some(refused),
            diagnoses: vec![("", answer)],
            ..script()
        },
    );
    let config = config(&pki, agent.address);
    let (_, findings) = json(doctor(&pki, agent.address, &config).arg("web-1"));
    let of_vm = |one: &&Value| one["from"] == "console" && one["vm"] == "web-1";
    let told = findings.iter().find(of_vm).expect("the VM is asked about");
    assert_eq!(
        (&told["code"], &told["next_step"]),
        (&"hypervisor_lost".into(), &"the next step".into())
    );
    let refused = of(&findings, "agent_refused");
    assert_eq!(refused.len(), 1, "{findings:?}");
    let why = refused[0]["evidence"].as_str().unwrap();
    assert!(why.contains(message), "{why}");
}

#[test]
fn people_get_plain_lines_without_what_a_terminal_would_obey() {
    let (_root, pki) = pki();
    let agent = FakeAgent::start(&pki, script());
    let config = config(&pki, agent.address);
    let ended = Piped::start(doctor(&pki, agent.address, &config).arg("web-1")).end();
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(!text.contains('\u{1b}'), "{text}");
    let lines: Vec<_> = text.lines().collect();
    let at = lines
        .iter()
        .position(|line| *line == "problem  agent: libvirt\\u{1b}[2J is gone")
        .expect(&text);
    assert_eq!(lines[at + 1], "         the evidence");
    assert_eq!(lines[at + 2], "         next: the next step");
    let silent = "warning  web-1 serial0: nothing was seen";
    assert!(lines.contains(&silent), "{text}");
}

#[test]
fn an_agent_that_is_not_there_or_refuses_is_a_finding() {
    let (_root, pki) = pki();
    let config = config(&pki, nobody());
    let (ended, findings) = json(doctor(&pki, nobody(), &config).arg("web-1"));
    assert_eq!(ended.code, Some(11));
    let lost = of(&findings, "agent_unreachable")[0];
    assert!(
        lost["evidence"]
            .as_str()
            .unwrap()
            .contains("cannot connect"),
        "{lost}"
    );
    assert_eq!(of(&findings, "port")[0]["severity"], "problem");

    let old = FakeAgent::start(&pki, Script::default());
    let (_, findings) = json(&mut doctor(&pki, old.address, &config));
    let unanswered = of(&findings, "agent_unreachable")[0];
    assert!(
        unanswered["next_step"]
            .as_str()
            .unwrap()
            .contains("older version")
    );

    let empty = tempfile::tempdir().unwrap();
    let mut command = doctor(&pki, nobody(), &config);
    let (_, findings) = json(command.env("VMCONSOLE_PKI", empty.path()));
    let none = of(&findings, "agent_unreachable")[0];
    assert!(
        none["evidence"].as_str().unwrap().contains("pki init"),
        "{none}"
    );
}

#[test]
fn the_host_is_looked_at_without_the_agent() {
    let (_root, pki) = pki_with(&["--days", "13"]);
    // Another program has the agent's port.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config(&pki, taken.local_addr().unwrap());
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(pki.join("agent.key"), readable).unwrap();
    let mut command = doctor(&pki, nobody(), &config);
    command.env("PATH", agent_that_refuses(&pki));
    let (_, findings) = json(&mut command);

    let refused = of(&findings, "config")[0];
    let said = format!("{}: refused", config.display());
    assert_eq!(refused["evidence"], said.as_str());
    let port = of(&findings, "port")[0];
    assert_eq!(port["severity"], "problem", "{port}");
    assert!(
        port["summary"]
            .as_str()
            .unwrap()
            .contains("not vmconsole-agent"),
        "{port}"
    );
    let socket = of(&findings, "libvirt_socket")[0];
    assert_eq!(socket["severity"], "problem");
    let certificates = of(&findings, "certificate_expires");
    assert_eq!(certificates.len(), 2, "{findings:?}");
    assert_eq!(of(&findings, "private_key")[0]["severity"], "problem");
    assert_eq!(of(&findings, "clock").len(), 1);
    assert!(!of(&findings, "disk").is_empty());
    assert_eq!(of(&findings, "kernel_log")[0]["severity"], "ok");
}

#[test]
fn a_plain_user_is_told_what_only_root_may_check_and_gets_no_false_problem() {
    let (root, pki) = pki();
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let config = config(&pki, nobody());
    // As packages have it: the configuration for all to read, the key's directory closed.
    let closed = pki.join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::rename(pki.join("agent.key"), closed.join("agent.key")).unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("/agent.key", "/closed/agent.key")).unwrap();
    for (path, mode) in [(root.path(), 0o755), (&pki, 0o755), (&config, 0o644)] {
        open(path, mode);
    }
    open(&closed, 0o000);
    let checker = agent_that_refuses(&pki);

    let mut command = doctor(&pki, nobody(), &config);
    command.env("PATH", checker);
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let (_, findings) = json(&mut command);
    open(&closed, 0o700);
    let config = of(&findings, "config")[0];
    assert_eq!(config["severity"], "note", "{config}");
    assert!(
        config["summary"].as_str().unwrap().contains("only as root"),
        "{config}"
    );
    let key = format!("{}", closed.join("agent.key").display());
    assert!(
        config["evidence"].as_str().unwrap().contains(&key),
        "{config}"
    );
}

/// The agent's own check, played: a PATH on which it refuses.
fn agent_that_refuses(pki: &Path) -> String {
    let bin = pki.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let checker = bin.join("vmconsole-agent");
    std::fs::write(&checker, "#!/bin/sh\n[ \"$1 $3\" = \"--config check-config\" ] || exit 0\necho \"$2: refused\" >&2\nexit 1\n").unwrap();
    for path in [&bin, &checker] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

#[test]
fn a_kernel_log_is_read_from_a_file_or_a_pipe() {
    let (_root, pki) = pki();
    let config = config(&pki, nobody());
    let mut piped = vmconsolectl(&pki, nobody());
    let command = piped.args(["doctor", "--json", "--kernel-log", "-", "--config"]);
    let mut piped = Piped::start(command.arg(&config));
    let fed = piped.feed(DENIAL.as_bytes().to_vec());
    let ended = piped.end();
    fed.join().unwrap();
    let value: Value = serde_json::from_slice(&ended.stdout).expect(&ended.stderr);
    let denials = of(value["findings"].as_array().unwrap(), "mac_denial").len();
    assert_eq!((ended.code, denials), (Some(11), 1));
}

#[test]
fn where_nothing_is_set_up_and_all_is_well_elsewhere_the_exit_is_0() {
    let (_root, pki) = pki();
    let good = finding(FindingCode::ConsoleWorks, Severity::Good, "it works");
    let agent = FakeAgent::start(
        &pki,
        Script {
            host: Some(DiagnoseHostResponse {
                findings: vec![finding(FindingCode::Clock, Severity::Note, "a note")],
            }),
            diagnoses: vec![("serial0", console("serial0", good))],
            ..Default::default()
        },
    );
    // By its form a name, which leads here all the same: what another host's would look like.
    let elsewhere = format!("127.1:{}", agent.address.port());
    let log = pki.join("kernel.log");
    std::fs::write(&log, "").unwrap();
    let mut command = vmconsolectl(&pki, agent.address);
    command
        .env("VMCONSOLE_AGENT", elsewhere)
        .args(["doctor", "web-1", "--console", "serial0", "--kernel-log"])
        .arg(log)
        .args(["--server-name", "localhost"]);
    let ended = Piped::start(&mut command).end();
    let text = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.code, Some(0), "{text}{}", ended.stderr);
    assert!(
        text.contains("note     no agent is set up on this host"),
        "{text}"
    );
}
