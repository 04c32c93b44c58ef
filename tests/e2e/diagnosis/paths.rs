//! Consoles of QEMUs without libvirt that the agent cannot have: what is in the way is there
//! before the agent is, as after an agent's restart.

use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::unistd::{Group, User, chown};
use vmconsole_tests::process::Process;
use vmconsole_tests::qemu::{Boot, Chardev, Far, Qemu, QemuDir, QemuOptions, SERIAL0};
use vmconsole_tests::user;

use super::{Code, Doctor, Severity, found, found_of_host, reported, says};
use crate::host::{BOUND, QemuHost};

const UUID: &str = "0f6b2e1c-8a54-4c0e-9d55-5d4b6f3f0a11";

/// A guest of little cost, with its first serial port there.
fn guest(dir: &QemuDir, name: &str, serial0: Option<Chardev>) -> Qemu {
    let mut options = QemuOptions::named(name);
    options.serial0 = serial0;
    options.boot = Boot::Firmware;
    Qemu::start(dir, options)
}

/// Where its first serial port is.
fn place(qemu: &mut Qemu) -> PathBuf {
    match qemu.far(SERIAL0) {
        Far::Pty(path) | Far::Unix(path) => path,
        other => panic!("{other:?} has no path"),
    }
}

fn hand_over(path: &Path, owner: &str, group: &str, mode: u32) {
    let owner = User::from_name(owner).unwrap().unwrap();
    let group = Group::from_name(group).unwrap().unwrap();
    chown(path, Some(owner.uid), Some(group.gid)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A process of the agent's user that has this open, and is called sleep.
fn holder(open: impl Into<OwnedFd>) -> Process {
    let mut command = user::command_as("sleep");
    command.arg("1000").stdin(Stdio::from(open.into()));
    Process::spawn("a holder", command)
}

/// The facts that an operator needs of a path that is closed to the agent.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_may_not_open_is_told_with_whose_it_is() {
    let dir = QemuDir::new();
    let mut group = guest(&dir, "group", Some(Chardev::Unix));
    hand_over(&place(&mut group), "root", "daemon", 0o660);
    let mut closed = guest(&dir, "closed", Some(Chardev::Unix));
    hand_over(&place(&mut closed), "root", "root", 0o600);
    let mut terminal = guest(&dir, "terminal", Some(Chardev::Pty));
    hand_over(&place(&mut terminal), "root", "root", 0o600);
    let mut stranger = guest(&dir, "stranger", Some(Chardev::Unix));
    hand_over(&place(&mut stranger), "nobody", "daemon", 0o666);
    let mut link = guest(&dir, "link", Some(Chardev::Unix));
    let path = place(&mut link);
    let elsewhere = path.with_extension("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    let mut directory = guest(&dir, "directory", Some(Chardev::Unix));
    let path = place(&mut directory);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let mut gone = guest(&dir, "gone", Some(Chardev::Unix));
    fs::remove_file(place(&mut gone)).unwrap();
    // Its consoles lie where no console may.
    let other = QemuDir::new();
    let outside = guest(&other, "outside", Some(Chardev::Unix));
    fs::rename(outside.qmp(), dir.qmp().join("outside.qmp")).unwrap();

    let host = QemuHost::on(dir, |_| {});
    let client = host.client().await;
    let problem = Severity::Problem;
    let me = user::lookup();
    let user = format!("the agent runs as user {} ({})", me.name, me.uid);
    for (vm, owner, mode, next) in [
        (
            "group",
            "root (0), group daemon (1)",
            "0660",
            "usermod -a -G daemon",
        ),
        (
            "closed",
            "root (0), group root (0)",
            "0600",
            "setfacl -m u:",
        ),
        (
            "terminal",
            "character device of user root (0)",
            "0600",
            "unix socket",
        ),
    ] {
        let denied = found(&client, (vm, SERIAL0), (Code::Permission, problem)).await;
        for part in [owner, &format!("mode {mode}"), &user] {
            says(&denied.evidence, part);
        }
        says(&denied.next_step, next);
        assert!(denied.since.is_some());
    }
    for (vm, summary, next) in [
        ("stranger", "belongs to user nobody", "endpoints.owners"),
        ("link", "is a symbolic link", "name the real path"),
        ("directory", "leads to a directory", "see who put it there"),
        (
            "outside",
            "no directory that is allowed",
            "endpoints.directories",
        ),
    ] {
        let unsafe_path = found(&client, (vm, SERIAL0), (Code::UnsafePath, problem)).await;
        says(&unsafe_path.summary, summary);
        says(&unsafe_path.next_step, next);
    }
    let warning = (Code::EndpointLost, Severity::Warning);
    let lost = found(&client, ("gone", SERIAL0), warning).await;
    says(&lost.evidence, "is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_paused_missing_or_claimed_twice_is_told() {
    let dir = QemuDir::new();
    let mut socket = guest(&dir, "socket", Some(Chardev::Unix));
    let mut by_socket = holder(UnixStream::connect(place(&mut socket)).unwrap());
    let mut terminal = guest(&dir, "terminal", Some(Chardev::Pty));
    let path = place(&mut terminal);
    let opened = File::options().read(true).write(true).open(path);
    let mut by_terminal = holder(opened.unwrap());
    // Of root's processes the agent sees nothing but that there is one.
    let mut unseen = guest(&dir, "unseen", Some(Chardev::Unix));
    let by_root = UnixStream::connect(place(&mut unseen)).unwrap();
    let _bare = guest(&dir, "bare", None);
    let _null = guest(&dir, "null", Some(Chardev::Null));
    let mut paused = QemuOptions::named("paused");
    paused.boot = Boot::Nothing;
    let _paused = Qemu::start(&dir, paused);
    let twin = |name: &str| {
        let mut options = QemuOptions::named(name);
        options.boot = Boot::Firmware;
        options.uuid = Some(UUID.to_owned());
        Qemu::start(&dir, options)
    };
    let _twins = [twin("twin-a"), twin("twin-b")];

    let host = QemuHost::on(dir, |_| {});
    let client = host.client().await;
    let problem = Severity::Problem;
    let held = (Code::HeldByOther, problem);
    for (vm, holder) in [("socket", &mut by_socket), ("terminal", &mut by_terminal)] {
        let finding = named(&client, vm).await;
        says(&finding.summary, "sleep holds the console");
        let process = holder.pid().to_string();
        says(&finding.evidence, &format!("process {process} of user"));
        says(&finding.next_step, &format!("end process {process}"));
        says(&finding.next_step, "Nobody can be displaced");
        holder.kill();
        let free = (Code::GuestSilent, Severity::Note);
        found(&client, (vm, SERIAL0), free).await;
    }
    let finding = found(&client, ("unseen", SERIAL0), held).await;
    says(&finding.evidence, "another client of user 0 is connected");
    drop(by_root);

    let bare = found(&client, ("bare", ""), (Code::NoConsoleDevice, problem)).await;
    says(&bare.next_step, "-serial unix:");
    let null = found(&client, ("null", SERIAL0), (Code::TypeUnsupported, problem)).await;
    says(&null.summary, "type \"null\"");
    let paused = found(&client, ("paused", SERIAL0), (Code::VmPaused, problem)).await;
    says(&paused.next_step, "virsh resume paused");
    let wrong = (Code::NoSuchConsole, problem);
    let other = found(&client, ("paused", "serial7"), wrong).await;
    says(&other.evidence, "it has: serial0");

    let conflict = found_of_host(&client, Code::IdentityConflict, Severity::Warning).await;
    says(&conflict.summary, UUID);
    for twin in ["twin-a", "twin-b"] {
        says(&conflict.evidence, twin);
    }
    says(&conflict.next_step, "another -uuid");
    found_of_host(&client, Code::HypervisorConnected, Severity::Good).await;

    // The same in the operator's hands, of all consoles of a VM that has none.
    let doctor = Doctor::new(&host.pki);
    let (code, findings) = doctor.asks(&host.agent, &["bare"]);
    assert_eq!(code, Some(11));
    let bare = reported(&findings, "no_console_device");
    assert_eq!(
        (&bare["vm"], &bare["severity"]),
        (&"bare".into(), &"problem".into())
    );
    assert_eq!(reported(&findings, "identity_conflict")["from"], "agent");
}

/// That the console is held, once it is known by whom.
async fn named(client: &vmconsole_tests::client::Client, vm: &str) -> vmconsole_proto::v1::Finding {
    let asking = async {
        loop {
            let held = (Code::HeldByOther, Severity::Problem);
            let finding = found(client, (vm, SERIAL0), held).await;
            if !finding.summary.starts_with("another process") {
                return finding;
            }
        }
    };
    tokio::time::timeout(BOUND, asking)
        .await
        .expect("its process")
}
