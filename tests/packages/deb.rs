//! The DEB on a machine with systemd: installed, started under its unit's sandbox, attached
//! to, restarted, installed again, removed and purged.

use std::net::SocketAddr;

use vmconsole_tests::image;
use vmconsole_tests::machine::Machine;
use vmconsole_tests::pki::Pki;

use crate::built::package;
use crate::host::{
    CONFIG, UNIT, attach, certify, command_runs, complaints, configure, log_in, main_pid, run_qemu,
};

/// The exposure that `systemd-analyze security` finds at most, in tenths: 10.0 is a unit
/// without any sandbox. 1.9 was measured.
const MOST_EXPOSED: u32 = 25;

#[tokio::test]
async fn the_deb_installs_serves_a_console_under_its_sandbox_and_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let machine = Machine::boot(&[image::directory()]);
    // As where libvirt is: the agent's user joins whoever may use its socket.
    machine.must(&["groupadd", "--system", "libvirt"]);
    std::fs::copy(package("deb"), machine.outside("/root/agent.deb")).unwrap();

    install(&machine);
    is_installed(&machine);
    is_not_started_without_certificates(&machine);
    certify(&machine, &pki);
    check_config_says(&machine, true, "config.toml: good");

    let address = configure(&machine);
    check_config_says(&machine, true, "config.toml: good");
    // Returns when the agent has said that it serves: Type=notify.
    machine.must(&["systemctl", "start", UNIT]);
    is_confined(&machine);
    run_qemu(&machine);
    a_qemu_has_no_use_of_the_agents_key(&machine);
    let mut console = attach(address, &pki).await;
    log_in(&mut console).await;
    command_runs(&mut console, "packaged").await;
    drop(console);
    doctor_finds_no_problem(&machine, &pki, address);

    let first = main_pid(&machine);
    machine.must(&["systemctl", "restart", UNIT]);
    assert_ne!(main_pid(&machine), first);
    command_runs(&mut attach(address, &pki).await, "restarted").await;

    upgrade_keeps_the_configuration(&machine);
    command_runs(&mut attach(address, &pki).await, "upgraded").await;

    let exposure = exposure(&machine);
    let (whole, tenth) = (exposure / 10, exposure % 10);
    eprintln!("systemd-analyze security --offline=true: exposure {whole}.{tenth}");
    assert!(exposure <= MOST_EXPOSED, "exposure {whole}.{tenth}");

    removal_leaves_the_configuration(&machine);
    purge_leaves_keys_alone(&machine);
}

fn install(machine: &Machine) {
    let said = machine.run(&["dpkg", "--install", "/root/agent.deb"]);
    assert!(said.status.success(), "{said:?}");
    assert_eq!(complaints(&said.stderr), [""; 0]);
}

fn is_installed(machine: &Machine) {
    let groups = machine.must(&["id", "-nG", "vmconsole"]);
    assert_eq!(groups.trim(), "vmconsole libvirt vmconsole-qemu");
    let shell = machine.must(&["getent", "passwd", "vmconsole"]);
    assert!(shell.trim().ends_with("nologin"), "{shell}");
    assert_eq!(
        machine.must(&["systemctl", "is-enabled", UNIT]).trim(),
        "enabled"
    );
    for (path, expected) in [
        (CONFIG, "644 root root"),
        ("/etc/vmconsole-agent", "755 root root"),
        ("/etc/vmconsole-agent/tls", "750 root vmconsole"),
        ("/run/vmconsole", "3770 root vmconsole-qemu"),
        ("/run/vmconsole/qmp", "3770 root vmconsole-qemu"),
        ("/usr/share/man/man8/vmconsole-agent.8.gz", "644 root root"),
        ("/usr/share/man/man1/vmconsolectl.1.gz", "644 root root"),
    ] {
        let found = machine.must(&["stat", "--format=%a %U %G", path]);
        assert_eq!(found.trim(), expected, "{path}");
    }
    let said = machine.must(&["systemd-analyze", "verify", "--man=no", UNIT]);
    assert_eq!(said, "", "systemd does not understand the unit");
}

fn is_not_started_without_certificates(machine: &Machine) {
    let active = machine.run(&["systemctl", "is-active", UNIT]);
    assert_eq!(String::from_utf8_lossy(&active.stdout).trim(), "inactive");
    check_config_says(machine, false, "agent.crt");
}

/// As the agent's user, as the manual says to.
fn check_config_says(machine: &Machine, good: bool, words: &str) {
    let check = machine.run(&[
        "setpriv",
        "--reuid=vmconsole",
        "--regid=vmconsole",
        "--init-groups",
        "vmconsole-agent",
        "check-config",
    ]);
    let said = [check.stdout, check.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(check.status.success(), good, "{said}");
    assert!(said.contains(words), "{said}");
}

fn is_confined(machine: &Machine) {
    let status = machine.must(&["cat", &format!("/proc/{}/status", main_pid(machine))]);
    let user = machine.must(&["id", "-u", "vmconsole"]);
    let user = user.trim();
    assert!(
        status.contains(&format!("Uid:\t{user}\t{user}\t{user}\t{user}\n")),
        "{status}"
    );
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            status.contains(&format!("{set}:\t0000000000000000\n")),
            "{status}"
        );
    }
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    // By a filter.
    assert!(status.contains("Seccomp:\t2\n"), "{status}");
    let libvirt = machine.must(&["getent", "group", "libvirt"]);
    let libvirt = libvirt.split(':').nth(2).unwrap();
    let groups = status.lines().find(|line| line.starts_with("Groups:"));
    assert!(
        groups.unwrap().split_whitespace().any(|it| it == libvirt),
        "{status}"
    );
}

/// Whoever breaks out of a guest into its QEMU is not the agent to anybody.
fn a_qemu_has_no_use_of_the_agents_key(machine: &Machine) {
    let as_qemu = |what: &str, path: &str| {
        let user = [
            "--reuid=qemu-guest",
            "--regid=vmconsole-qemu",
            "--clear-groups",
        ];
        let command = [&["setpriv"], &user[..], &[what, path]].concat();
        machine.run(&command).status.success()
    };
    assert!(
        as_qemu("ls", "/run/vmconsole/qmp"),
        "it has its sockets there"
    );
    assert!(!as_qemu("cat", "/etc/vmconsole-agent/tls/agent.key"));
    let others = "/run/vmconsole/others.serial";
    machine.must(&["touch", others]);
    assert!(!as_qemu("rm", others), "it took another's socket away");
    machine.must(&["rm", others]);
}

/// Root asks what is wrong with this host.
fn doctor_finds_no_problem(machine: &Machine, pki: &Pki, address: SocketAddr) {
    let dir = machine.outside("/root/pki");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("ca.crt"), pki.ca_pem()).unwrap();
    pki.proxy().write(&dir, "proxy");
    let doctor = machine.run(&[
        "env",
        "VMCONSOLE_PKI=/root/pki",
        "vmconsolectl",
        "doctor",
        "--agent",
        &address.to_string(),
    ]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    for good in [
        "ok       the agent accepts its configuration",
        "ok       vmconsole-agent listens on",
        "ok       vmconsole-agent.service is active",
    ] {
        assert!(said.contains(good), "{good}: {doctor:?}");
    }
    assert!(
        !said.lines().any(|line| line.starts_with("problem")),
        "{said}"
    );
}

fn upgrade_keeps_the_configuration(machine: &Machine) {
    let kept = std::fs::read(machine.outside(CONFIG)).unwrap();
    let before = main_pid(machine);
    install(machine);
    assert!(std::fs::read(machine.outside(CONFIG)).unwrap() == kept);
    assert_ne!(main_pid(machine), before, "the old program still runs");
    machine.must(&["systemctl", "is-active", UNIT]);
}

fn removal_leaves_the_configuration(machine: &Machine) {
    machine.must(&["dpkg", "--remove", "vmconsole-agent"]);
    let active = machine.run(&["systemctl", "is-active", UNIT]);
    assert_eq!(String::from_utf8_lossy(&active.stdout).trim(), "inactive");
    assert!(!machine.outside("/usr/bin/vmconsole-agent").exists());
    assert!(machine.outside(CONFIG).exists());
}

fn purge_leaves_keys_alone(machine: &Machine) {
    machine.must(&["systemctl", "stop", "guest.service"]);
    machine.must(&["dpkg", "--purge", "vmconsole-agent"]);
    let left = |machine: &Machine| {
        let found = machine.must(&[
            "find",
            "/etc",
            "/usr",
            "/run",
            "/var",
            "-name",
            "*vmconsole*",
        ]);
        let mut found: Vec<_> = found.lines().map(str::to_owned).collect();
        found.sort();
        found
    };
    assert_eq!(left(machine), ["/etc/vmconsole-agent"]);
    let keys = machine.must(&["ls", "/etc/vmconsole-agent", "/etc/vmconsole-agent/tls"]);
    assert!(
        keys.contains("agent.key") && !keys.contains("config.toml"),
        "{keys}"
    );
    // The user stays, so that its number is nobody else's.
    machine.must(&["id", "vmconsole"]);

    install(machine);
    machine.must(&["sh", "-c", "rm /etc/vmconsole-agent/tls/*"]);
    machine.must(&["dpkg", "--purge", "vmconsole-agent"]);
    assert_eq!(left(machine), [""; 0]);
}

/// What systemd makes of the unit's sandbox, in tenths.
fn exposure(machine: &Machine) -> u32 {
    let report = machine.must(&[
        "systemd-analyze",
        "security",
        "--offline=true",
        "--no-pager",
        "/usr/lib/systemd/system/vmconsole-agent.service",
    ]);
    let line = report
        .lines()
        .find(|line| line.contains("Overall exposure level"));
    let line = line.unwrap_or_else(|| panic!("no figure: {report}"));
    let figure = line
        .split_whitespace()
        .find(|word| word.contains('.') && word.parse::<f64>().is_ok());
    figure.unwrap().replace('.', "").parse().unwrap()
}
