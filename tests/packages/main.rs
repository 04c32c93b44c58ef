//! What `make packages` built, on a machine with systemd: installed, started under its unit's
//! sandbox, attached to, and removed.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test ends by panicking, and prints what it measured"
)]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use vmconsole_proto::v1;
use vmconsole_tests::client::{Attached, Client, Windows, endpoint, open};
use vmconsole_tests::machine::Machine;
use vmconsole_tests::pki::{PROXY_NAME, Pki};
use vmconsole_tests::{image, wait};

/// Far more than anything takes on an idle machine.
const BOUND: Duration = Duration::from_secs(180);

/// The exposure that `systemd-analyze security` finds at most, in tenths: 10.0 is a unit
/// without any sandbox. 1.9 was measured.
const MOST_EXPOSED: u32 = 25;

const UNIT: &str = "vmconsole-agent.service";

/// A QEMU as an operator would run one without libvirt: in the agent's group, so that the
/// agent may connect to its sockets.
const QEMU_UNIT: &str = "[Service]
User=qemu-guest
Group=vmconsole
UMask=0007
ExecStart=/usr/bin/qemu-system-x86_64 -name packaged -machine pc,accel=tcg -m 128 -nodefaults \
    -display none -no-reboot -kernel IMAGES/vmlinuz -initrd IMAGES/initrd.img -append \"CMDLINE\" \
    -chardev socket,id=charserial0,path=/run/vmconsole/packaged.serial,server=on,wait=off \
    -device isa-serial,chardev=charserial0,id=serial0 \
    -qmp unix:/run/vmconsole/qmp/packaged.qmp,server=on,wait=off
";

/// The package of this kind that was built last.
fn package(extension: &str) -> PathBuf {
    let target = image::cache_dir();
    let dir = target
        .parent()
        .expect("the cache lies in the target directory")
        .join("packages");
    let found = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    let mut found = found
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == extension));
    found.next().unwrap_or_else(|| {
        panic!(
            "there is no .{extension} in {}; run \"make packages\"",
            dir.display()
        )
    })
}

/// A port of the loopback that nobody listened on a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Writes certificates and configuration where the sample says that they are.
fn configure(machine: &Machine, pki: &Pki, grpc: u16, http: u16) {
    let etc = machine.root().join("etc/vmconsole-agent");
    let (certificate, key) = pki.agent_files();
    for (from, to) in [
        (certificate, "agent.crt"),
        (key, "agent.key"),
        (pki.ca_file(), "client-ca.crt"),
    ] {
        std::fs::copy(from, etc.join("tls").join(to)).unwrap();
    }
    machine.must(&["chgrp", "-R", "vmconsole", "/etc/vmconsole-agent/tls"]);
    machine.must(&["chmod", "0640", "/etc/vmconsole-agent/tls/agent.key"]);
    let sample = std::fs::read_to_string(etc.join("config.toml")).unwrap();
    let config = sample
        .replace(
            "#listen = [\"[::]:2223\"]",
            &format!("listen = [\"127.0.0.1:{grpc}\"]"),
        )
        .replace(
            "#listen = \"127.0.0.1:9223\"",
            &format!("listen = \"127.0.0.1:{http}\""),
        )
        .replace("spiffe://example.org/vmconsole/proxy", PROXY_NAME)
        .replace(
            "#enabled = true\n\n# The libvirt daemon",
            "enabled = false\n\n# The libvirt daemon",
        )
        .replace("#owners = [", "owners = [\"qemu-guest\", ");
    assert!(config.contains("enabled = false") && config.contains("qemu-guest"));
    std::fs::write(etc.join("config.toml"), config).unwrap();
}

async fn attach(address: SocketAddr, pki: &Pki) -> Attached {
    let (ca, proxy) = (pki.ca_pem(), pki.proxy());
    let way = endpoint(address, &ca, Some(&proxy), Windows::default()).unwrap();
    let client = Client::connect(&way).await.unwrap();
    let mut request = open("packaged", v1::Mode::WriteIfFree);
    request.start = Some(v1::Start {
        from: Some(v1::start::From::TailBytes(1 << 20)),
    });
    let trying = async {
        loop {
            match client.attach(request.clone()).await {
                Ok(attached) => return attached,
                Err(status) => {
                    eprintln!("not yet: {}", status.message());
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    };
    tokio::time::timeout(BOUND, trying)
        .await
        .expect("the console opens in time")
}

#[tokio::test]
async fn the_deb_installs_serves_a_console_under_its_sandbox_and_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let images = image::directory();
    let machine = Machine::boot(&[images]);
    let deb = package("deb");
    std::fs::copy(&deb, machine.root().join("root/agent.deb")).unwrap();

    machine.must(&["dpkg", "--install", "/root/agent.deb"]);
    assert_eq!(
        machine.must(&["id", "-un", "vmconsole"]).trim(),
        "vmconsole"
    );
    let enabled = machine.must(&["systemctl", "is-enabled", UNIT]);
    assert_eq!(enabled.trim(), "enabled");
    let started = machine.run(&["systemctl", "is-active", UNIT]);
    assert!(
        !started.status.success(),
        "it has no certificates, and was started"
    );
    // The tool says what is missing.
    let check = machine.run(&["vmconsole-agent", "check-config"]);
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(
        !check.status.success() && said.contains("agent.crt"),
        "{said}"
    );

    let (grpc, http) = (free_port(), free_port());
    configure(&machine, &pki, grpc, http);
    // Returns when the agent has said that it serves: Type=notify.
    machine.must(&["systemctl", "start", UNIT]);
    let user = machine.must(&["systemctl", "show", "--property=MainPID", "--value", UNIT]);
    let status = machine.must(&["cat", &format!("/proc/{}/status", user.trim())]);
    let vmconsole = machine.must(&["id", "-u", "vmconsole"]);
    assert!(
        status.contains(&format!("Uid:\t{}", vmconsole.trim())),
        "{status}"
    );
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");

    run_qemu(&machine, images);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, grpc));
    let mut console = attach(address, &pki).await;
    console.receive.read_until(b"login: ", BOUND).await;
    console.send.type_bytes("root\n").await;
    console.receive.read_until(b"Password: ", BOUND).await;
    console.send.type_bytes("console\n").await;
    console.receive.read_until(b"# ", BOUND).await;
    console.send.type_bytes("echo pack''aged\n").await;
    console.receive.read_until(b"packaged\r\n", BOUND).await;
    drop(console);

    let exposure = exposure(&machine);
    eprintln!(
        "systemd-analyze security --offline: exposure {}.{}",
        exposure / 10,
        exposure % 10
    );
    assert!(exposure <= MOST_EXPOSED, "{exposure}");

    machine.must(&["dpkg", "--remove", "vmconsole-agent"]);
    let active = machine.run(&["systemctl", "is-active", UNIT]);
    assert!(!active.status.success(), "it was removed, and runs");
    assert!(!machine.root().join("usr/bin/vmconsole-agent").exists());
    // What the operator changed stays until it is purged.
    assert!(
        machine
            .root()
            .join("etc/vmconsole-agent/config.toml")
            .exists()
    );
    machine.must(&["dpkg", "--purge", "vmconsole-agent"]);
    assert!(
        !machine
            .root()
            .join("etc/vmconsole-agent/config.toml")
            .exists()
    );
    assert!(
        machine
            .root()
            .join("etc/vmconsole-agent/tls/agent.key")
            .exists(),
        "a key was removed"
    );
}

fn run_qemu(machine: &Machine, images: &Path) {
    machine.must(&["useradd", "--system", "--no-create-home", "qemu-guest"]);
    let unit = QEMU_UNIT
        .replace("IMAGES", images.to_str().unwrap())
        .replace(
            "CMDLINE",
            &image::Kernel::default().command_line(false, None),
        );
    std::fs::write(
        machine.root().join("run/systemd/system/guest.service"),
        &unit,
    )
    .ok();
    let path = machine.root().join("etc/systemd/system/guest.service");
    std::fs::write(path, unit).unwrap();
    machine.must(&["systemctl", "daemon-reload"]);
    machine.must(&["systemctl", "start", "guest.service"]);
    wait::until("QEMU's monitor", BOUND, || {
        machine
            .run(&["test", "-S", "/run/vmconsole/qmp/packaged.qmp"])
            .status
            .success()
    });
}

/// What systemd makes of the unit's sandbox, in tenths.
fn exposure(machine: &Machine) -> u32 {
    let unit = "/lib/systemd/system/vmconsole-agent.service";
    let report = machine.must(&[
        "systemd-analyze",
        "security",
        "--offline=true",
        "--no-pager",
        unit,
    ]);
    let line = report
        .lines()
        .find(|line| line.contains("Overall exposure level"))
        .unwrap();
    let figure = line
        .split_whitespace()
        .find(|word| word.contains('.') && word.parse::<f64>().is_ok());
    figure.unwrap().replace('.', "").parse().unwrap()
}

#[test]
fn the_rpm_has_what_the_deb_has() {
    let output = Command::new("rpm")
        .args(["-qpl"])
        .arg(package("rpm"))
        .output()
        .expect("rpm is installed; run tests/setup.sh test");
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    for path in [
        "/usr/bin/vmconsole-agent",
        "/usr/bin/vmconsolectl",
        "/usr/lib/systemd/system/vmconsole-agent.service",
        "/usr/lib/sysusers.d/vmconsole-agent.conf",
        "/usr/lib/tmpfiles.d/vmconsole-agent.conf",
        "/etc/vmconsole-agent/config.toml",
        "/usr/share/man/man8/vmconsole-agent.8.gz",
        "/usr/share/man/man1/vmconsolectl.1.gz",
    ] {
        assert!(
            listed.lines().any(|line| line == path),
            "{path} is not in: {listed}"
        );
    }
}
