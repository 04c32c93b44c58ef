//! Command lines as they are typed, and a made-up `/proc`.

use super::*;
use crate::endpoint::Source;
use crate::hypervisor::{ConsoleDevice, Instance, VmState};

const UUID: &str = "c3ca651d-ff60-4eee-8814-66c8ffd2ecec";

fn console(alias: &str, kind: ConsoleKind) -> ConsoleDevice {
    ConsoleDevice {
        alias: Alias::new(alias).unwrap(),
        kind,
        source: Source::LibvirtConsole,
        backend: "pty".to_owned(),
    }
}

fn vm() -> Vm {
    Vm {
        uuid: UUID.parse().unwrap(),
        name: "my vm".into(),
        state: VmState::Running,
        instance: Some(Instance(7)),
        last_reset: None,
        consoles: vec![
            console("channel:org.a", ConsoleKind::Channel),
            console("serial0", ConsoleKind::Serial),
            console("serial1", ConsoleKind::Serial),
        ],
    }
}

#[track_caller]
fn check(line: &[&str], expected: Option<&str>) {
    let on = |alias: &str| attends(line, &vm(), &Alias::new(alias).unwrap());
    let found: Vec<_> = ["serial0", "serial1"]
        .into_iter()
        .filter(|a| on(a))
        .collect();
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{line:?}");
}

#[test]
fn a_virsh_console_is_recognised() {
    check(&["virsh", "console", "my vm"], Some("serial0"));
    check(&["/usr/bin/virsh", "console", UUID], Some("serial0"));
    check(&["virsh", "console", "--force", "7"], Some("serial0"));
    check(&["virsh", "console 7 --safe"], Some("serial0"));
    check(&["virsh", "console", "7", "serial1"], Some("serial1"));
    check(
        &["virsh", "console", "7", "--devname", "serial1"],
        Some("serial1"),
    );
    check(
        &["virsh", "console", "--devname=serial1", "--domain=7"],
        Some("serial1"),
    );
    check(
        &["virsh", "-c", "qemu:///system?socket=/a", "console", "7"],
        Some("serial0"),
    );
}

#[test]
fn others_are_not() {
    check(&["virsh", "console", "8"], None);
    check(&["virsh", "console", "my"], None);
    check(&["virsh", "console"], None);
    check(&["virsh", "start", "7", "--console"], None);
    check(&["virsh", "console", "7", "--devname", "serial2"], None);
    check(
        &["virsh", "-c", "qemu+ssh://other/system", "console", "7"],
        None,
    );
    check(&["vim", "console", "7"], None);
    check(&["virsh"], None);
    check(&[""], None);
    check(&[], None);
}

#[test]
fn the_latest_process_is_found_and_its_name_made_printable() {
    let proc = tempfile::tempdir().unwrap();
    let process = |id: &str, cmdline: &[u8], comm: &[u8]| {
        let dir = proc.path().join(id);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("cmdline"), cmdline).unwrap();
        fs::write(dir.join("comm"), comm).unwrap();
    };
    process("12", b"virsh\0console\0my vm\0", b"virsh\n");
    process("112", b"virsh\0console\0my vm\0", b"vir\x1b\xffsh \n");
    process("113", b"virsh\0console\0other\0", b"virsh\n");
    process("114", b"", b"kthreadd\n");
    process("net", b"virsh\0console\0my vm\0", b"virsh\n");
    fs::create_dir(proc.path().join("999")).unwrap();
    let alias = Alias::new("serial0").unwrap();
    let soon = Instant::now() + Duration::from_secs(60);
    let holder = search(proc.path(), &vm(), &alias, soon).unwrap();
    assert_eq!((holder.process, holder.command.as_str()), (112, "vir??sh"));
    assert_eq!(holder.user, nix::unistd::geteuid().as_raw());
    assert_eq!(search(proc.path(), &vm(), &alias, Instant::now()), None);
    assert_eq!(search(&proc.path().join("none"), &vm(), &alias, soon), None);
}
