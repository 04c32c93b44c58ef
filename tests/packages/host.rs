//! The machine as an operator sets it up: certificates, a configuration, a QEMU without
//! libvirt, and a client from outside.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use tonic::Code;
use vmconsole_proto::v1;
use vmconsole_tests::client::{Attached, Client, Windows, endpoint, open};
use vmconsole_tests::machine::Machine;
use vmconsole_tests::pki::{PROXY_NAME, Pki};
use vmconsole_tests::{image, wait};

/// Far more than anything takes on an idle machine.
pub(crate) const BOUND: Duration = Duration::from_secs(180);

/// Refusals that pass.
const PASSING: [Code; 3] = [Code::NotFound, Code::Unavailable, Code::FailedPrecondition];

/// Between two attempts to attach.
const PAUSE: Duration = Duration::from_millis(500);

pub(crate) const UNIT: &str = "vmconsole-agent.service";

pub(crate) const CONFIG: &str = "/etc/vmconsole-agent/config.toml";

const MONITOR: &str = "/run/vmconsole/qmp/packaged.qmp";

/// A QEMU as an operator would run one without libvirt: in the group whose
/// sockets the agent may connect to.
const QEMU_UNIT: &str = "[Service]
User=qemu-guest
Group=vmconsole-qemu
UMask=0007
ExecStart=/usr/bin/qemu-system-x86_64 -name packaged -machine pc,accel=tcg -m 128 -nodefaults \
    -display none -no-reboot -kernel IMAGES/vmlinuz -initrd IMAGES/initrd.img -append \"CMDLINE\" \
    -chardev socket,id=charserial0,path=/run/vmconsole/packaged.serial,server=on,wait=off \
    -device isa-serial,chardev=charserial0,id=serial0 \
    -qmp unix:MONITOR,server=on,wait=off
";

/// A port of the loopback that nobody listened on a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Puts certificates where the sample configuration has them, as README says to.
pub(crate) fn certify(machine: &Machine, pki: &Pki) {
    let (certificate, key) = pki.agent_files();
    for (from, to) in [
        (certificate, "agent.crt"),
        (key, "agent.key"),
        (pki.ca_file(), "client-ca.crt"),
    ] {
        let to = format!("/etc/vmconsole-agent/tls/{to}");
        std::fs::copy(from, machine.outside(&to)).unwrap();
        machine.must(&["chgrp", "vmconsole", &to]);
        machine.must(&["chmod", "0640", &to]);
    }
}

/// Changes the sample configuration to what this host has, QEMU's user among it, and returns
/// where the agent is to listen.
pub(crate) fn configure(machine: &Machine) -> SocketAddr {
    // Before the agent starts, since it looks up the owners then.
    machine.must(&["useradd", "--system", "--no-create-home", "qemu-guest"]);
    let (grpc, http) = (free_port(), free_port());
    let sample = std::fs::read_to_string(machine.outside(CONFIG)).unwrap();
    let changed = [
        (
            "#listen = [\"[::]:2223\"]",
            format!("listen = [\"127.0.0.1:{grpc}\"]"),
        ),
        (
            "#listen = \"127.0.0.1:9223\"",
            format!("listen = \"127.0.0.1:{http}\""),
        ),
        (
            "spiffe://example.org/vmconsole/proxy",
            PROXY_NAME.to_owned(),
        ),
        ("[libvirt]\n", "[libvirt]\nenabled = false\n".to_owned()),
        ("#owners = [", "owners = [\"qemu-guest\", ".to_owned()),
    ]
    .into_iter()
    .fold(sample, |config, (from, to)| {
        assert!(config.contains(from), "the sample lacks {from}");
        config.replacen(from, &to, 1)
    });
    std::fs::write(machine.outside(CONFIG), changed).unwrap();
    SocketAddr::from((Ipv4Addr::LOCALHOST, grpc))
}

/// Starts a QEMU whose images are at the same place within.
pub(crate) fn run_qemu(machine: &Machine) {
    let command_line = image::Kernel::default().command_line(false, None);
    let unit = QEMU_UNIT
        .replace("IMAGES", image::directory().to_str().unwrap())
        .replace("CMDLINE", &command_line)
        .replace("MONITOR", MONITOR);
    let path = machine.outside("/etc/systemd/system/guest.service");
    std::fs::write(path, unit).unwrap();
    machine.must(&["systemctl", "daemon-reload"]);
    machine.must(&["systemctl", "start", "guest.service"]);
    wait::until("QEMU's monitor", BOUND, || {
        machine.run(&["test", "-S", MONITOR]).status.success()
    });
}

/// Attaches to the guest's console, with all that is kept of its output, once it is there.
pub(crate) async fn attach(address: SocketAddr, pki: &Pki) -> Attached {
    let (ca, proxy) = (pki.ca_pem(), pki.proxy());
    let way = endpoint(address, &ca, Some(&proxy), Windows::default()).unwrap();
    let client = Client::connect(&way).await.unwrap();
    let mut request = open("packaged", v1::Mode::WriteIfFree);
    request.start = Some(v1::Start {
        from: Some(v1::start::From::TailBytes(1 << 20)),
    });
    let mut refusal = None;
    let opened = async {
        loop {
            match client.attach(request.clone()).await {
                Ok(attached) => return attached,
                // The VM or its console is not there yet.
                Err(status) if PASSING.contains(&status.code()) => refusal = Some(status),
                Err(status) => panic!("the console cannot be attached: {status}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let opened = tokio::time::timeout(BOUND, opened).await;
    opened.unwrap_or_else(|_late| panic!("the console does not open: {refusal:?}"))
}

/// Logs in at the guest's prompt.
pub(crate) async fn log_in(console: &mut Attached) {
    console.receive.read_until(b"login: ", BOUND).await;
    console.send.type_bytes("root\n").await;
    console.receive.read_until(b"Password: ", BOUND).await;
    console.send.type_bytes("console\n").await;
    console.receive.read_until(b"# ", BOUND).await;
}

/// Runs a command in the guest's shell: what is awaited is not what is typed.
pub(crate) async fn command_runs(console: &mut Attached, word: &str) {
    let (head, tail) = word.split_at(1);
    let typed = format!("echo {head}''{tail}\n");
    console.send.type_bytes(typed).await;
    let answer = format!("{word}\r\n");
    console.receive.read_until(answer.as_bytes(), BOUND).await;
}

/// The process that systemd has started, by its id within.
pub(crate) fn main_pid(machine: &Machine) -> String {
    let pid = machine.must(&["systemctl", "show", "--property=MainPID", "--value", UNIT]);
    assert_ne!(pid.trim(), "0", "the agent does not run");
    pid.trim().to_owned()
}

/// What an installation said on standard error, but for what it did as it should.
pub(crate) fn complaints(stderr: &[u8]) -> Vec<String> {
    let expected = ["Creating group", "Creating user", "Created symlink"];
    String::from_utf8_lossy(stderr)
        .lines()
        .filter(|line| !expected.iter().any(|it| line.starts_with(it)))
        .map(str::to_owned)
        .collect()
}
