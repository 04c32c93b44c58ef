//! The agent as an operator starts it: what it says of its configuration, whom it runs as,
//! and what it never logs.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use nix::unistd::{Group, chown};
use tempfile::TempDir;
use vmconsole_tests::agent::program;
use vmconsole_tests::pki::Pki;
use vmconsole_tests::process::{Captured, Process};
use vmconsole_tests::user;

use crate::host::{BOUND, Host};
use crate::site::Site;

/// A directory with certificates and a configuration that the agent's user can read.
struct Files {
    dir: TempDir,
    /// What is good, and a test makes worse.
    good: String,
}

impl Files {
    fn new() -> Self {
        let readable = std::fs::Permissions::from_mode(0o755);
        let dir = tempfile::Builder::new()
            .permissions(readable)
            .tempdir()
            .unwrap();
        let pki = Pki::new(dir.path());
        let user = user::lookup();
        chown(pki.agent_files().1, Some(user.uid), Some(user.gid)).unwrap();
        let good = pki.config_tables() + "[http]\nlisten = \"127.0.0.1:0\"\n";
        Self { dir, good }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    /// Runs the agent with these arguments on this configuration, to its end.
    fn run(&self, config: &str, args: &[&str]) -> Ended {
        std::fs::write(self.path(), config).unwrap();
        run(
            self.dir.path(),
            &[&["--config", self.path().to_str().unwrap()], args].concat(),
        )
    }
}

struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// Runs the agent as its user to its end.
fn run(dir: &Path, args: &[&str]) -> Ended {
    let mut command = user::command_as(user::reachable(&program("vmconsole-agent"), dir));
    let (said, stdout) = Captured::new();
    command.args(args).stdout(stdout);
    let mut agent = Process::spawn("vmconsole-agent", command);
    Ended {
        status: agent.wait(BOUND),
        stdout: said.text(),
        stderr: agent.stderr(),
    }
}

/// Configurations that are wrong, with how the message about each begins.
fn mistakes(files: &Files) -> Vec<(String, String)> {
    let path = files.path().display().to_string();
    let lines = files.good.lines().count();
    let drain = "drain_seconds = 5";
    let at = files.good.lines().position(|line| line == drain).unwrap() + 1;
    let key = files.dir.path().join("agent.key").display().to_string();
    vec![
        (
            files.good.replace(drain, "drain_seconds = \"soon\""),
            format!("{path}:{at}:17: grpc.drain_seconds: "),
        ),
        (
            files.good.replace(drain, "drain_seconds = -1"),
            format!("{path}:{at}:17: grpc.drain_seconds: "),
        ),
        (
            files.good.replace(drain, "drain = 5"),
            format!("{path}:{at}:1: grpc.drain: "),
        ),
        (
            files.good.clone() + "[console\n",
            format!("{path}:{}:", lines + 1),
        ),
        (
            files.good.replace("client_ca", "#client_ca"),
            format!("{path}: grpc.client_ca: is missing"),
        ),
        (
            files.good.replace("agent.crt", "ca.crt"),
            format!("{key}: not the private key of the certificate in "),
        ),
        (
            files.good.replace(&key, "/no/such.key"),
            "/no/such.key: ".to_owned(),
        ),
    ]
}

#[test]
fn a_good_configuration_is_called_good_and_of_a_bad_one_file_line_and_key_are_named() {
    let files = Files::new();
    let path = files.path().display().to_string();
    let good = files.run(&files.good, &["check-config"]);
    assert_eq!(good.status.code(), Some(0), "{}", good.stderr);
    assert_eq!(
        (good.stdout, good.stderr),
        (format!("{path}: good\n"), String::new())
    );

    for (config, said) in mistakes(&files) {
        // What cannot be served with is refused at the start as it is by the check.
        for command in ["check-config", "run"] {
            let bad = files.run(&config, &[command]);
            assert_eq!(bad.status.code(), Some(1), "{command} of {config}");
            assert_eq!(bad.stdout, "");
            let told = bad
                .stderr
                .strip_prefix("vmconsole-agent: ")
                .unwrap_or_default();
            assert!(
                told.starts_with(&said),
                "{command}: {:?} is not {said:?}",
                bad.stderr
            );
            assert_eq!(told.lines().count(), 1, "{told}");
        }
    }
    let missing = run(
        files.dir.path(),
        &["--config", "/no/such.toml", "check-config"],
    );
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        missing.stderr.contains("/no/such.toml"),
        "{}",
        missing.stderr
    );
    let wrong = run(files.dir.path(), &["check-configuration"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", wrong.stderr);
}

#[test]
fn both_programs_tell_their_version() {
    let files = Files::new();
    let version = run(files.dir.path(), &["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert_eq!(
        version.stdout,
        concat!("vmconsole-agent ", env!("CARGO_PKG_VERSION"), "\n")
    );
    let ctl = std::process::Command::new(program("vmconsolectl"))
        .arg("--version")
        .output();
    let said = ctl.unwrap().stdout;
    assert_eq!(
        said,
        concat!("vmconsolectl ", env!("CARGO_PKG_VERSION"), "\n").as_bytes()
    );
}

#[test]
fn a_port_that_is_taken_is_named_with_the_key_that_changes_it() {
    let files = Files::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (free, key) in [
        ("[\"127.0.0.1:0\"]", "grpc.listen"),
        ("\"127.0.0.1:0\"", "http.listen"),
    ] {
        let config = files.good.replace(
            &format!("listen = {free}"),
            &format!(
                "listen = {}",
                free.replace("127.0.0.1:0", &address.to_string())
            ),
        );
        assert_ne!(config, files.good);
        let ended = files.run(&config, &[]);
        assert_eq!(ended.status.code(), Some(1), "{key}");
        let told = ended.stderr.lines().last().unwrap();
        for part in [&format!("cannot listen on {address}"), key, "in use"] {
            assert!(told.contains(part), "{part:?} is not in {told:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_is_an_ordinary_user_with_no_capabilities() {
    let host = Host::start();
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.agent.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(field("Name:"), ["vmconsole-agent"]);
    let user = user::lookup();
    assert!(!user.uid.is_root());
    assert_eq!(field("Uid:"), vec![user.uid.to_string(); 4]);
    assert_eq!(field("Gid:"), vec![user.gid.to_string(); 4]);
    let libvirt = Group::from_name(user::GROUP)
        .unwrap()
        .unwrap()
        .gid
        .to_string();
    assert!(field("Groups:").contains(&libvirt), "{status}");
    for capabilities in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
        assert_eq!(field(capabilities), ["0000000000000000"], "{capabilities}");
    }
}

/// The forms that `text` would have in a log that shows bytes.
fn forms(text: &str) -> Vec<String> {
    let decimal: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    vec![
        text.to_owned(),
        decimal.join(", "),
        decimal.join(","),
        hex.to_uppercase(),
        hex,
    ]
}

#[test]
fn the_log_has_neither_what_the_guest_said_nor_what_was_typed_nor_a_key() {
    const PASSWORD: &str = "typedsecret";
    const OUTPUT: &str = "printedsecret";
    let site = Site::logging("trace");
    let guest = site.guest("silent-log");
    let mut attach = site.piped(&["attach", guest.name(), "--tail", "65536"]);
    for (text, answer) in [
        ("login: ", "root\n"),
        ("Password: ", &format!("{PASSWORD}\n")),
        ("Login incorrect", ""),
        ("login: ", "root\n"),
        ("Password: ", "console\n"),
        // The echo has the quotes, the output does not.
        ("# ", "echo printed''secret\n"),
        (OUTPUT, ""),
    ] {
        attach.sees(text);
        attach.types(answer);
    }
    assert_eq!(attach.end_of_input(), Some(0));
    site.settled(1.0);

    let log = site.agent.log();
    assert!(
        log.contains("\"TRACE\"") && log.contains("CLIENT_DETACHED"),
        "{log}"
    );
    for secret in [PASSWORD, OUTPUT, "printed''secret", "Login incorrect"] {
        for form in forms(secret) {
            assert!(!log.contains(&form), "the log has {form:?}:\n{log}");
        }
    }
    let key = std::fs::read_to_string(site.pki.join("agent.key")).unwrap();
    for line in key.lines() {
        assert!(!log.contains(line), "the log has the private key:\n{log}");
    }
}
