//! The harness itself: the guest boots, its three consoles answer, it survives
//! its libvirtd, and nothing is left behind.

use std::process::Stdio;
use std::time::{Duration, Instant};

use vmconsole_tests::console::VirshConsole;
use vmconsole_tests::guest::{CONSOLE1, Guest, GuestOptions, SERIAL0, SERIAL1, Serial};
use vmconsole_tests::image::Logins;
use vmconsole_tests::libvirtd::Libvirtd;
use vmconsole_tests::qemu::Far;
use vmconsole_tests::wire::WireConsole;
use vmconsole_tests::{setup, user, wait};

/// A boot takes 4 to 6 s on an idle machine under TCG.
const BOOT_BOUND: Duration = Duration::from_secs(120);

const BOUND: Duration = Duration::from_secs(60);

#[test]
fn a_login_on_each_console_reaches_a_shell() {
    let libvirtd = Libvirtd::start();
    let begin = Instant::now();
    let guest = Guest::define_and_start(&libvirtd, GuestOptions::named("three-consoles"));
    let mut serial0 = VirshConsole::open(&libvirtd, &guest, SERIAL0);
    serial0.wait_for_login_prompt(BOOT_BOUND);
    println!(
        "define to login prompt: {:.1} s",
        begin.elapsed().as_secs_f32()
    );

    serial0.login(BOUND);
    let uname = serial0.run("uname -a", BOUND);
    assert!(uname.starts_with("Linux guest 6."), "{uname:?}");
    assert!(uname.contains("x86_64"), "{uname:?}");
    assert_eq!(serial0.run("tty", BOUND), "/dev/ttyS0\n");

    for (alias, tty) in [(SERIAL1, "/dev/ttyS1\n"), (CONSOLE1, "/dev/hvc0\n")] {
        let mut console = VirshConsole::open(&libvirtd, &guest, alias);
        console.login(BOUND);
        assert_eq!(console.run("tty", BOUND), tty, "{alias}");
    }
}

#[test]
fn a_guest_without_further_consoles_has_only_the_first() {
    let libvirtd = Libvirtd::start();
    let mut options = GuestOptions::named("one-console");
    options.second_serial = false;
    options.virtio_console = false;
    let guest = Guest::define(&libvirtd, options);
    assert_eq!(guest.state(), "shut off");
    assert_eq!(guest.try_pid(), None);
    guest.start();
    let xml = libvirtd.virsh(&["dumpxml", guest.name()]).unwrap();
    assert!(xml.contains("<alias name='serial0'/>"), "{xml}");
    assert!(!xml.contains("<alias name='serial1'/>"), "{xml}");
    assert!(!xml.contains("<alias name='console1'/>"), "{xml}");

    let mut console = VirshConsole::open(&libvirtd, &guest, SERIAL0);
    console.login(BOOT_BOUND);
    assert_eq!(
        console.run("grep -c respawn:/sbin/getty /etc/inittab", BOUND),
        "1\n"
    );

    // The guest hears its power button.
    libvirtd
        .virsh(&["shutdown", guest.name(), "--mode", "acpi"])
        .unwrap();
    wait::until("the guest to power off", BOUND, || {
        guest.state() == "shut off"
    });
    assert_eq!(guest.try_pid(), None);
}

#[test]
fn a_first_serial_port_on_a_socket_or_a_port_reaches_a_shell_beside_a_channel() {
    let libvirtd = Libvirtd::start();
    for (name, serial) in [
        ("on-unix", Serial::Unix),
        ("on-tcp", Serial::Tcp),
        ("on-telnet", Serial::Telnet),
    ] {
        let mut options = GuestOptions::named(name);
        options.serial = serial;
        options.channel = true;
        let guest = Guest::define_and_start(&libvirtd, options);
        let mut console = WireConsole::open(guest.serial0().unwrap());
        console.login(BOOT_BOUND);
        assert_eq!(console.run("tty", BOUND), "/dev/ttyS0\n", "{name}");
        let asks = "ps | grep -c '[c]hannel-login'";
        assert_eq!(console.run(asks, BOUND), "1\n", "{name}");
        if let Some(Far::Unix(socket)) = guest.serial0() {
            let mut command = user::command_as(setup::program("test"));
            let writable = command.arg("-w").arg(socket).status();
            assert!(writable.unwrap().success(), "to the agent's user");
        }
        guest.destroy();
    }
}

#[test]
fn a_guest_lives_on_when_its_libvirtd_is_killed() {
    let libvirtd = Libvirtd::start();
    let guest = Guest::define_and_start(&libvirtd, GuestOptions::named("survivor"));
    let mut before = VirshConsole::open(&libvirtd, &guest, SERIAL0);
    before.login(BOOT_BOUND);
    before.run("mark=the-same-shell", BOUND);
    let qemu = guest.pid();

    libvirtd.kill();
    assert!(libvirtd.virsh(&["list"]).is_err());
    assert_eq!(guest.pid(), qemu);

    libvirtd.restart();
    assert_eq!(guest.state(), "running");
    assert_eq!(guest.pid(), qemu);
    let mut after = VirshConsole::open(&libvirtd, &guest, SERIAL0);
    assert_eq!(after.run("echo $mark", BOUND), "the-same-shell\n");
}

#[test]
fn a_stopped_qemu_says_nothing_until_it_goes_on() {
    let libvirtd = Libvirtd::start();
    let guest = Guest::define_and_start(&libvirtd, GuestOptions::named("stopped"));
    let mut console = VirshConsole::open(&libvirtd, &guest, SERIAL0);
    console.login(BOOT_BOUND);
    guest.stop_cpu();
    console.send("echo $((6 * 7))\r");
    assert_eq!(console.try_wait_for("42", Duration::from_secs(1)), None);
    guest.cont();
    console.wait_for("42", BOUND);
}

#[test]
fn two_libvirtds_know_nothing_of_each_other() {
    let one = Libvirtd::start();
    let other = Libvirtd::start();
    let guest = Guest::define(&one, GuestOptions::named("only-here"));
    assert_eq!(
        one.virsh(&["list", "--all", "--name"]).unwrap().trim(),
        guest.name()
    );
    assert_eq!(
        other.virsh(&["list", "--all", "--name"]).unwrap().trim(),
        ""
    );
}

#[test]
fn the_unprivileged_user_may_use_its_libvirtd() {
    let libvirtd = Libvirtd::start();
    let guest = Guest::define(&libvirtd, GuestOptions::named("seen-by-all"));
    let output = user::command_as("virsh")
        .args([
            "--quiet",
            "--connect",
            &libvirtd.uri(),
            "domuuid",
            guest.name(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), guest.uuid());
}

#[test]
fn nothing_is_left_after_a_test_that_panicked() {
    let (report, told) = std::sync::mpsc::sync_channel(1);
    let test = std::thread::spawn(move || {
        let libvirtd = Libvirtd::start();
        let guest = Guest::define_and_start(&libvirtd, GuestOptions::named("orphan"));
        guest.stop_cpu();
        let told = (
            libvirtd.namespace_id(),
            libvirtd.dir().to_owned(),
            guest.pid(),
        );
        report.send(told).unwrap();
        panic!("as a failing test does");
    });
    assert!(test.join().is_err());
    let (namespace, dir, qemu) = told.recv().unwrap();
    assert!(
        namespace.inhabitants().is_empty(),
        "{:?}",
        namespace.inhabitants()
    );
    assert!(!std::path::Path::new(&format!("/proc/{qemu}")).exists());
    assert!(!dir.exists());
}

#[test]
fn the_guest_has_a_screen_hears_its_keyboard_and_tells_of_an_nmi() {
    let libvirtd = Libvirtd::start();
    let mut options = GuestOptions::named("screen");
    options.video = true;
    let guest = Guest::define_and_start(&libvirtd, options);
    let mut serial0 = VirshConsole::open(&libvirtd, &guest, SERIAL0);
    serial0.login(BOOT_BOUND);

    let picture = libvirtd.dir().join("screen.png");
    let path = picture.to_str().unwrap();
    libvirtd.virsh(&["screenshot", guest.name(), path]).unwrap();
    let picture = std::fs::read(picture).unwrap();
    let (width, height) = (720_u32.to_be_bytes(), 400_u32.to_be_bytes());
    assert_eq!(picture[..8], *b"\x89PNG\r\n\x1a\n");
    assert_eq!(picture[16..24], [width, height].concat());
    // An empty screen is a tenth of this.
    assert!(picture.len() > 10_000, "{} bytes", picture.len());

    libvirtd.virsh(&["inject-nmi", guest.name()]).unwrap();
    serial0.wait_for("NMI received for unknown reason", BOUND);

    let keys = ["KEY_LEFTCTRL", "KEY_LEFTALT", "KEY_DELETE"];
    let mut press = vec!["send-key", guest.name()];
    press.extend(keys);
    libvirtd.virsh(&press).unwrap();
    serial0.wait_for("reboot: Restarting system", BOUND);
    serial0.wait_for("Linux version", BOUND);
}

#[test]
fn a_guest_may_say_nothing_or_its_firmware_alone_or_answer_nothing() {
    let libvirtd = Libvirtd::start();
    let mut options = GuestOptions::named("silent");
    options.serial = Serial::Unix;
    options.kernel.serial_console = false;
    options.kernel.logins = Logins::On("hvc0");
    let silent = Guest::define_and_start(&libvirtd, options.clone());
    let mut serial0 = WireConsole::open(silent.serial0().unwrap());
    let mut hvc0 = VirshConsole::open(&libvirtd, &silent, CONSOLE1);
    hvc0.login(BOOT_BOUND);
    assert_eq!(serial0.try_wait_for("\n", Duration::from_secs(1)), None);
    silent.destroy();

    options.name = "firmware".to_owned();
    options.firmware_on_serial = true;
    let firmware = Guest::define_and_start(&libvirtd, options);
    let mut serial0 = WireConsole::open(firmware.serial0().unwrap());
    let mut hvc0 = VirshConsole::open(&libvirtd, &firmware, CONSOLE1);
    hvc0.login(BOOT_BOUND);
    serial0.wait_for("SeaBIOS", BOUND);
    assert_eq!(
        serial0.try_wait_for("Linux version", Duration::from_secs(1)),
        None
    );
    firmware.destroy();

    let mut options = GuestOptions::named("deaf");
    options.kernel.logins = Logins::Nowhere;
    let deaf = Guest::define_and_start(&libvirtd, options);
    let mut serial0 = VirshConsole::open(&libvirtd, &deaf, SERIAL0);
    serial0.wait_for("Run /init as init process", BOOT_BOUND);
    serial0.send("\r");
    assert_eq!(serial0.try_wait_for("login:", Duration::from_secs(5)), None);
}
