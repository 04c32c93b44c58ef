//! The RPM on a machine with systemd: its scriptlets do what a host needs. rpm does not know
//! what that machine's own packages provide, so dependencies are not asked for.

use vmconsole_tests::machine::Machine;

use crate::built::{ask, package};
use crate::host::{CONFIG, UNIT, complaints};

#[test]
fn the_rpm_installs_upgrades_and_is_removed() {
    let machine = Machine::boot(&[]);
    std::fs::copy(package("rpm"), machine.outside("/root/agent.rpm")).unwrap();
    rpm(&machine, &["--install"]);

    machine.must(&["id", "vmconsole"]);
    let tls = machine.must(&["stat", "--format=%a %U %G", "/etc/vmconsole-agent/tls"]);
    assert_eq!(tls.trim(), "750 root vmconsole");
    // This machine's presets enable everything.
    let enabled = machine.must(&["systemctl", "is-enabled", UNIT]);
    assert_eq!(enabled.trim(), "enabled");
    let verified = machine.run(&["rpm", "--verify", "--nodeps", "vmconsole-agent"]);
    assert!(verified.status.success(), "{verified:?}");

    let sample = std::fs::read_to_string(machine.outside(CONFIG)).unwrap();
    let changed = format!("{sample}# ours\n");
    std::fs::write(machine.outside(CONFIG), &changed).unwrap();
    rpm(&machine, &["--upgrade", "--replacepkgs"]);
    assert_eq!(
        std::fs::read_to_string(machine.outside(CONFIG)).unwrap(),
        changed
    );
    let enabled = machine.must(&["systemctl", "is-enabled", UNIT]);
    assert_eq!(enabled.trim(), "enabled", "an upgrade disabled it");

    machine.must(&["rpm", "--force-debian", "--erase", "vmconsole-agent"]);
    assert!(!machine.outside("/usr/bin/vmconsole-agent").exists());
    let enabled = machine.run(&["systemctl", "is-enabled", UNIT]);
    assert!(!enabled.status.success(), "{enabled:?}");
    let saved = machine.outside(&format!("{CONFIG}.rpmsave"));
    assert_eq!(std::fs::read_to_string(saved).unwrap(), changed);
}

fn rpm(machine: &Machine, how: &[&str]) {
    let command: Vec<&str> = ["rpm", "--force-debian", "--nodeps"]
        .iter()
        .chain(how)
        .chain(&["/root/agent.rpm"])
        .copied()
        .collect();
    let output = machine.run(&command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    assert_eq!(complaints(&output.stderr), [""; 0]);
}

#[test]
fn the_rpms_scriptlets_run_in_a_shell_that_every_host_has() {
    let scripts = ask("rpm", &["-qp", "--scripts"], &package("rpm"));
    for kind in ["postinstall", "preuninstall", "postuninstall"] {
        let head = format!("{kind} scriptlet (using /bin/sh):");
        assert!(scripts.contains(&head), "{scripts}");
    }
}
