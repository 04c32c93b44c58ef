//! What refuses to let us in, and the exits and messages for it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::fake_agent::{FakeAgent, Script};
use crate::program::{Ended, Piped, bare, nobody, pki, vmconsolectl};

fn run(pki: &Path, agent: SocketAddr, words: &[&str]) -> Ended {
    Piped::start(vmconsolectl(pki, agent).args(words)).end()
}

fn refusal(code: Code, reason: &str, details: &[(&str, &str)]) -> Script {
    let details: HashMap<_, _> = details
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let details = ErrorDetails::with_error_info(reason, "vmconsole", details);
    let refusal = Some(Status::with_error_details(code, "said the agent", details));
    Script {
        refusal,
        ..Default::default()
    }
}

#[test]
fn the_agents_reason_decides_the_exit_and_is_shown_with_its_details() {
    for (code, reason, exit) in [
        (Code::PermissionDenied, "DENIED", 4),
        (Code::NotFound, "NOT_FOUND", 5),
        (Code::FailedPrecondition, "NOT_RUNNING", 6),
        (Code::Unimplemented, "UNSUPPORTED", 6),
        (Code::FailedPrecondition, "LEASE_HELD", 7),
        (Code::Unavailable, "AGENT_DRAINING", 8),
        (Code::ResourceExhausted, "LIMIT_REACHED", 9),
    ] {
        let (_root, pki) = pki();
        let agent = FakeAgent::start(&pki, refusal(code, reason, &[("holder", "bob")]));
        for words in [
            &["attach", "web-1"][..],
            &["list"],
            &["break", "web-1"],
            &["keys", "web-1", "a"],
            &["nmi", "web-1"],
            &["screenshot", "web-1", "-o", "-"],
        ] {
            let ended = run(&pki, agent.address, words);
            assert_eq!(ended.code, Some(exit), "{reason}: {}", ended.stderr);
            let wanted = format!("{reason}: said the agent (holder: bob)\n");
            assert!(ended.stderr.ends_with(&wanted), "{}", ended.stderr);
            assert!(ended.stderr.starts_with("vmconsolectl: "));
            assert_eq!(ended.stdout, b"");
        }
    }
}

#[test]
fn a_certificate_of_another_ca_gets_no_connection() {
    let ((_root, ours), (_other_root, others)) = (pki(), pki());
    let agent = FakeAgent::start(&ours, Script::default());
    let mut command = vmconsolectl(&ours, agent.address);
    let command = command.arg("--certificate").arg(others.join("proxy.crt"));
    let command = command.arg("--key").arg(others.join("proxy.key"));
    let ended = Piped::start(command.args(["attach", "web-1"])).end();
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let hint = "the agent may not accept this proxy's certificate";
    assert!(ended.stderr.contains(hint), "{}", ended.stderr);
    assert!(agent.no_stream());
}

#[test]
fn an_agent_of_another_ca_or_name_is_not_talked_to() {
    let ((_root, ours), (_other_root, others)) = (pki(), pki());
    let agent = FakeAgent::start(&others, Script::default());
    let ended = run(&ours, agent.address, &["list"]);
    assert_eq!(ended.code, Some(3));
    assert!(ended.stderr.contains("UnknownIssuer"), "{}", ended.stderr);
    let ended = run(
        &others,
        agent.address,
        &["list", "--server-name", "elsewhere.example.org"],
    );
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stderr.contains("elsewhere.example.org"),
        "{}",
        ended.stderr
    );
    let ended = run(
        &others,
        agent.address,
        &["list", "--server-name", "localhost"],
    );
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn nobody_there_and_no_certificates_are_told_apart() {
    let (_root, pki) = pki();
    let ended = run(&pki, nobody(), &["list"]);
    assert_eq!(ended.code, Some(3));
    assert!(
        ended
            .stderr
            .contains("cannot connect to the agent at 127.0.0.1:"),
        "{}",
        ended.stderr
    );
    let empty = tempfile::tempdir().unwrap();
    let ended = Piped::start(bare().env("VMCONSOLE_PKI", empty.path()).arg("list")).end();
    assert_eq!(ended.code, Some(3));
    assert!(
        ended.stderr.contains("vmconsolectl pki init DIR"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_wrong_command_line_is_2_and_help_is_0() {
    assert_eq!(Piped::start(bare().arg("atach")).end().code, Some(2));
    assert_eq!(
        Piped::start(bare().args(["list", "--agent", "::1"]))
            .end()
            .code,
        Some(2)
    );
    let help = Piped::start(bare().args(["attach", "--help"])).end();
    assert_eq!(help.code, Some(0));
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("Enter ~ .   leave") && help.contains("Exit codes:"));
}
