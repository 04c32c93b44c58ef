//! A Python client, made from the proto files or knowing only what reflection tells, is as
//! good as any other.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::OnceLock;

use vmconsole_proto::v1;
use vmconsole_tests::client::open;
use vmconsole_tests::guest::Guest;
use vmconsole_tests::process::{Captured, Process, tied};

use crate::host::{BOUND, Host};
use crate::peers::{attached, proxy_files, python_environment, repository};

/// What a first client is given to log in and to ask who is there.
const STEPS: [&str; 7] = [
    "login: ",
    "root",
    "Password: ",
    "console",
    "# ",
    "uname -a",
    "# ",
];

/// The environment with gRPC for Python, made on the first call.
fn environment() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| python_environment("python"))
}

struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// Runs `tests/python/SCRIPT` to its end, with the generated modules or without.
fn python(script: &str, generated: bool, args: &[&str]) -> Ended {
    let environment = environment();
    let (said, stdout) = Captured::new();
    let mut command = tied(environment.join("bin/python"));
    command
        .arg(repository(&format!("tests/python/{script}")))
        .args(args)
        .env_remove("PYTHONPATH")
        .stdout(stdout);
    if generated {
        command.env("PYTHONPATH", environment.join("generated"));
    }
    let mut process = Process::spawn(script, command);
    Ended {
        status: process.wait(BOUND),
        stdout: said.text(),
        stderr: process.stderr(),
    }
}

/// What the check saw, made from `protos` or `reflection`, on this console.
fn check(host: &Host, made_from: &str, guest: &Guest, console: &str) -> serde_json::Value {
    let agent = host.agent.grpc().to_string();
    let pki = proxy_files(host);
    let pki = pki.path().to_str().unwrap();
    let args = [made_from, &agent, pki, guest.name(), console];
    let ended = python("check.py", made_from == "protos", &args);
    assert!(ended.status.success(), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

fn assert_complete(seen: &serde_json::Value, guest: &Guest) {
    let all = ["console1", "serial0", "serial1"].map(|alias| format!("{}/{alias}", guest.name()));
    for way in ["listed", "watched"] {
        let mut consoles: Vec<String> = serde_json::from_value(seen[way].clone()).unwrap();
        consoles.sort();
        assert_eq!(consoles, all, "{way}");
    }
    assert_eq!(seen["mode"], "MODE_WRITE_IF_FREE");
    let uname = seen["uname"].as_str().unwrap();
    assert!(uname.starts_with("Linux guest 6."), "{uname:?}");
    assert_eq!(seen["closed"], "REASON_CLIENT_DETACHED");
    // `seq 1 3000` alone is four windows long.
    assert!(seen["received"].as_u64().unwrap() > 16_000, "{seen}");
    assert!(seen["acks"].as_u64().unwrap() >= 4, "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_of_the_proto_files_or_of_reflection_alone_lists_types_and_reads() {
    let host = Host::start();
    let guest = host.guest("python");
    for (made_from, console) in [("protos", "serial0"), ("reflection", "serial1")] {
        attached(&host, &guest, console).await;
        let seen = check(&host, made_from, &guest, console);
        assert_complete(&seen, &guest);
    }
    host.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_client_in_python_logs_in_and_prints_what_the_guest_says() {
    let host = Host::start();
    let guest = host.guest("first-python");
    attached(&host, &guest, "serial0").await;
    let (agent, pki) = (host.agent.grpc().to_string(), proxy_files(&host));
    let to = [&agent, pki.path().to_str().unwrap(), guest.name()];
    let ended = python("console.py", true, &[&to[..], &STEPS].concat());
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("\nLinux guest 6."),
        "{:?}",
        ended.stdout
    );

    let client = host.client().await;
    let writer = host.attach(&client, open(guest.name(), v1::Mode::WriteIfFree));
    let writer = writer.await;
    let ended = python("console.py", true, &[&to[..], &["# "]].concat());
    assert!(!ended.status.success());
    assert!(
        ended.stderr.contains("has been writing"),
        "{}",
        ended.stderr
    );
    writer.detach(BOUND).await;
    host.settled().await;
}
