//! Hosts and agents with a fault of their own, whatever VMs there are.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use vmconsole_proto::v1;
use vmconsole_tests::agent::{Agent, AgentOptions};
use vmconsole_tests::client::{Client, Windows, endpoint};
use vmconsole_tests::pki::{PROXY_NAME, Pki};
use vmconsole_tests::process::{Process, tied};
use vmconsole_tests::qemu::{Boot, QemuDir, QemuOptions};
use vmconsole_tests::{setup, user};

use super::{Code, Doctor, Severity, found, found_of_host, of_host, report, reported, says};
use crate::host::{BOUND, QemuHost};

/// How long a certificate is valid whose end is to be seen: an agent starts within it.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_good_ends_soon_and_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let doctor = Doctor::new(&pki);
    let qemus = QemuDir::new();
    let mut options = AgentOptions::without_libvirt(dir.path(), &[PROXY_NAME]);
    options.serve_qemus(&qemus);
    let agent = Agent::start(&options);
    let (_, findings) = doctor.asks(&agent, &[]);
    let good = findings
        .iter()
        .filter(|one| one["code"] == "certificate_good");
    // doctor and agent say the same of both files in words of their own.
    assert!(good.count() >= 2, "{findings:?}");
    drop(agent);

    pki.reissue_agent(SOON);
    let agent = Agent::start(&options);
    let credentials = pki.proxy();
    let way = endpoint(
        agent.grpc(),
        &pki.ca_pem(),
        Some(&credentials),
        Windows::default(),
    );
    let client = Client::connect(&way.unwrap()).await.unwrap();
    let soon = found_of_host(&client, Code::CertificateExpires, Severity::Warning).await;
    says(&soon.summary, "the agent's certificate ends in");
    says(&soon.next_step, "issue it anew");
    let good = of_host(&client, Code::CertificateGood).await;
    says(&good[0].summary, "the CA of the clients is valid");

    // A connection that is there outlives it; none is made after it.
    let ended = found_of_host(&client, Code::CertificateInvalid, Severity::Problem).await;
    says(&ended.summary, "the agent's certificate ended");
    let (code, findings) = doctor.asks(&agent, &[]);
    assert_eq!(code, Some(11));
    let unreachable = reported(&findings, "agent_unreachable");
    says(&unreachable["evidence"].to_string(), "expired");
    let ended = reported(&findings, "certificate_invalid");
    assert_eq!(ended["severity"], "problem");
    says(
        &ended["summary"].to_string(),
        "the agent's certificate ended",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_clock_and_disks_are_told_as_they_are() {
    let host = QemuHost::with(|options| {
        "[limits]\nwatchers = 1\n".clone_into(&mut options.more);
    });
    let client = host.client().await;
    assert_eq!(of_host(&client, Code::Clock).await.len(), 1);
    let disks = of_host(&client, Code::Disk).await;
    assert!(disks.iter().all(|disk| !disk.summary.is_empty()) && !disks.is_empty());
    found_of_host(&client, Code::Limit, Severity::Good).await;

    let watch = v1::WatchConsolesRequest::default();
    let watch = client.service().watch_consoles(watch).await.unwrap();
    let full = found_of_host(&client, Code::Limit, Severity::Problem).await;
    says(&full.summary, "limits.watchers");
    assert_eq!(full.evidence, "1 of 1");
    drop(watch);

    let open = std::fs::read_dir(format!("/proc/{}/fd", host.agent.pid()));
    let soft = open.unwrap().count() + 3;
    // Its own user may lower it everywhere, root where it has all of its rights.
    let mut prlimit = user::command_as(setup::program("prlimit"));
    prlimit.arg(format!("--pid={}", host.agent.pid()));
    prlimit.arg(format!("--nofile={soft}:"));
    assert!(prlimit.status().unwrap().success());
    let near = found_of_host(&client, Code::Limit, Severity::Warning).await;
    says(&near.summary, "open files");
    says(&near.next_step, "LimitNOFILE");
}

/// libvirt is served unless the configuration says otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_libvirt_is_not_there_is_told_what_that_keeps_it_from() {
    let host = QemuHost::with(|options| {
        options.libvirt_uri = Some("qemu:///system?socket=/nowhere/sock".to_owned());
    });
    let mut options = QemuOptions::named("alone");
    options.boot = Boot::Firmware;
    let qemu = host.guest(options);
    let client = host.client().await;
    let lost = (Code::HypervisorLost, Severity::Problem);
    let told = found(&client, (qemu.name(), ""), lost).await;
    says(&told.evidence, "libvirt.enabled = false");
    // Once it was tried, it is known what keeps the agent from it.
    found_of_host(&client, lost.0, lost.1).await;
    let list = v1::ListConsolesRequest::default();
    let refused = client.service().list_consoles(list).await.unwrap_err();
    says(refused.message(), "not connected: libvirt (qemu:///system");

    let (code, findings) = Doctor::new(&host.pki).asks(&host.agent, &[qemu.name()]);
    assert_eq!(code, Some(11));
    let refused = reported(&findings, "agent_refused");
    says(&refused["evidence"].to_string(), "not connected: libvirt");
    let of_vm = |one: &&Value| one["code"] == "hypervisor_lost" && one["from"] == "console";
    let told = findings.iter().find(of_vm).expect("the VM is told of");
    says(&told["evidence"].to_string(), "libvirt.enabled = false");
}

/// doctor in a mount namespace where a file system that logs are written to is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_who_has_the_agents_port() {
    const FULL: &str = "mount -t tmpfs -o size=1m full /var/log
        dd if=/dev/zero of=/var/log/full bs=64k 2>/dev/null || true
        exec \"$@\"";
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let doctor = Doctor::new(&pki);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut sshd = imitation(dir.path(), listener.into());
    let config = dir.path().join("config.toml");
    let text = format!("[grpc]\nlisten = [\"{address}\"]\n[libvirt]\nenabled = false\n");
    std::fs::write(&config, text).unwrap();
    let asks = doctor.command(&address.to_string(), &config, &[]);
    let mut within = tied("unshare");
    within.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-euc",
        FULL,
        "sh",
    ]);
    within.arg(asks.get_program()).args(asks.get_args());
    for (name, value) in asks.get_envs() {
        match value {
            Some(value) => within.env(name, value),
            None => within.env_remove(name),
        };
    }
    let (code, findings) = report(within);
    assert_eq!(code, Some(11));
    let full = findings.iter().find(|one| {
        let summary = one["summary"].as_str().unwrap();
        one["code"] == "disk" && summary.contains("/var/log is 100 % full")
    });
    let full = full.unwrap_or_else(|| panic!("{findings:?}"));
    assert_eq!(full["severity"], "problem");
    says(&full["next_step"].to_string(), "du -xh /var/log");

    let port = reported(&findings, "port");
    assert_eq!(port["severity"], "problem");
    let summary = format!("sshd listens on {address}, not vmconsole-agent");
    assert_eq!(port["summary"], summary);
    says(
        &port["evidence"].to_string(),
        &format!("process {} of user root", sshd.pid()),
    );
    says(&port["next_step"].to_string(), "ovirt-vmconsole-host");
    sshd.kill();
    let (_, findings) = report(doctor.command(&address.to_string(), &config, &[]));
    says(
        &reported(&findings, "port")["summary"].to_string(),
        "nobody listens",
    );
}

/// A process that has this socket open and the name of sshd: whoever installs the real one has
/// it listen on ports that are not the test's to take.
fn imitation(dir: &std::path::Path, listener: OwnedFd) -> Process {
    let program = dir.join("sshd");
    std::fs::copy(setup::program("sleep"), &program).unwrap();
    let mut command = tied(&program);
    command.arg("1000").stdin(Stdio::from(listener));
    let sshd = Process::spawn("sshd", command);
    let name = format!("/proc/{}/comm", sshd.pid());
    vmconsole_tests::wait::until("it to bear the name", BOUND, || {
        std::fs::read_to_string(&name).is_ok_and(|name| name == "sshd\n")
    });
    sshd
}
