//! The harness itself: a guest without libvirt boots, answers on every endpoint that it may
//! have, stops, goes on, ends and begins again, and leaves nothing behind.

use std::time::{Duration, Instant};

use serde_json::json;
use vmconsole_tests::qemu::{
    Boot, CHANNEL, CONSOLE0, Chardev, Far, Qemu, QemuDir, QemuOptions, SERIAL0, SERIAL1,
};
use vmconsole_tests::user;
use vmconsole_tests::wire::{Wire, WireConsole};

/// A boot takes 4 to 6 s on an idle machine under TCG.
const BOOT_BOUND: Duration = Duration::from_secs(120);

const BOUND: Duration = Duration::from_secs(60);

#[test]
fn a_login_on_each_endpoint_reaches_a_shell() {
    let dir = QemuDir::new();
    let mut options = QemuOptions::named("endpoints");
    options.uuid = Some("5c5d1e0e-7a2e-4b8e-9a43-0d2f1f5b7c11".to_owned());
    options.serial0 = Some(Chardev::Unix);
    options.serial1 = Some(Chardev::Telnet);
    options.console0 = Some(Chardev::Pty);
    options.channel = Some(Chardev::Tcp);
    let begin = Instant::now();
    let mut qemu = Qemu::start(&dir, options);
    let mut serial0 = WireConsole::open(&qemu.far(SERIAL0));
    serial0.wait_for_login_prompt(BOOT_BOUND);
    println!(
        "start to login prompt: {:.1} s",
        begin.elapsed().as_secs_f32()
    );
    serial0.login(BOUND);
    assert_eq!(serial0.run("tty", BOUND), "/dev/ttyS0\n");
    for (label, tty) in [(SERIAL1, "/dev/ttyS1\n"), (CONSOLE0, "/dev/hvc0\n")] {
        let mut console = WireConsole::open(&qemu.far(label));
        console.login(BOUND);
        assert_eq!(console.run("tty", BOUND), tty, "{label}");
    }

    // The channel is no terminal: it echoes nothing and knows no carriage return.
    let mut channel = WireConsole::open(&qemu.far(CHANNEL));
    channel.wait_for("guest login: ", BOUND);
    channel.send("root\n");
    channel.wait_for("Password: ", BOUND);
    channel.send("console\n");
    channel.wait_for("# ", BOUND);
    channel.send("cat /sys/class/virtio-ports/vport*/name\n");
    channel.wait_for("org.example.shell.0\n", BOUND);
}

#[test]
fn qemu_runs_as_the_unprivileged_user_and_ends_with_its_value() {
    let dir = QemuDir::new();
    let mut options = QemuOptions::named("brief");
    options.boot = Boot::Nothing;
    options.serial1 = Some(Chardev::Tcp);
    let mut qemu = Qemu::start(&dir, options);
    let status = std::fs::read_to_string(format!("/proc/{}/status", qemu.pid())).unwrap();
    let uid = user::lookup().uid;
    assert!(status.contains(&format!("\nUid:\t{uid}\t")), "{status}");
    assert!(std::os::unix::net::UnixStream::connect(qemu.qmp()).is_ok());
    assert!(matches!(qemu.far(SERIAL1), Far::Tcp(address) if address.ip().is_loopback()));

    let before = qemu.pid();
    let mut wire = Wire::open(&qemu.far(SERIAL0));
    qemu.stop();
    qemu.cont();
    qemu.restart();
    assert_ne!(qemu.pid(), before);
    assert_eq!(
        wire.read(BOUND),
        None,
        "the terminal of a QEMU that is gone"
    );
    qemu.monitor().run("quit", &json!({}));
    assert!(qemu.wait(BOUND).success());

    let path = dir.path().to_owned();
    let (pid, dir) = (qemu.pid(), dir);
    drop(qemu);
    drop(dir);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!path.exists());
}
